"""The drawn network: every shape and derivative is there, true, and legible."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import jax
import jax.numpy as jnp
import pytest

import jaxnet as jn
from jaxnet.experiment.graph import SIZE, SVG, draw

CHARACTER = 0.61 * SIZE

NETWORKS = {
    "the lesson's": (jn.chain(jn.dense(3, 4), jn.tanh, jn.dense(4, 1), jn.sigmoid), (200, 3)),
    "nested": (jn.chain(jn.chain(jn.dense(3, 40)), jn.identity, jn.chain(jn.leaky_relu(), jn.dense(40, 2))), (5, 3)),
    "residual": (jn.chain(jn.dense(2, 3), jn.residual(jn.chain(jn.dense(3, 3), jn.tanh)), jn.dense(3, 1)), (5, 7, 2)),
    "no layers": (jn.chain(), (4, 2)),
}


def texts(drawing):
    return [element.text for element in ET.fromstring(drawing).iter(f"{{{SVG}}}text")]


def test_the_lessons_network_has_every_intermediate_above_and_its_derivative_below(key):
    net, shape = NETWORKS["the lesson's"]
    drawing = draw(net, net.init(key), jnp.zeros(shape), loss=jn.losses.binary_cross_entropy)
    found = texts(drawing)
    for name, its_shape in {
        "X": (200, 3), "Z1": (200, 4), "A1": (200, 4), "Z2": (200, 1), "A2": (200, 1),
        "W1": (4, 3), "b1": (4,), "W2": (1, 4), "b2": (1,),
    }.items():  # fmt: skip
        assert f"{name} {its_shape}" in found
        assert f"d{name} {its_shape}" in found
    for equation in (
        "dA2 = dL/dA2", "dZ2 = dA2 * g'(Z2)", "dA1 = dZ2 W2", "dW2 = (1/m) dZ2ᵀ A1", "db2 = (1/m) Σ dZ2",
        "dZ1 = dA1 * g'(Z1)", "dX = dZ1 W1", "dW1 = (1/m) dZ1ᵀ X", "db1 = (1/m) Σ dZ1",
    ):  # fmt: skip
        assert equation in found
    places = {element.text: float(element.get("y")) for element in ET.fromstring(drawing).iter(f"{{{SVG}}}text")}
    assert places["dZ1 (200, 4)"] > places["Z1 (200, 4)"]


@pytest.mark.parametrize("name", NETWORKS)
def test_no_text_lies_on_another_or_outside(name, key):
    net, shape = NETWORKS[name]
    root = ET.fromstring(draw(net, net.init(key), jnp.zeros(shape), loss=jn.losses.half_squared_error))
    boxes = []
    for element in root.iter(f"{{{SVG}}}text"):
        x, y, half = float(element.get("x")), float(element.get("y")), CHARACTER * len(element.text) / 2
        boxes.append((x - half, y - SIZE, x + half, y + 3))
    assert all(left >= 0 and right <= float(root.get("width")) for left, _, right, _ in boxes)
    assert all(top >= 0 and bottom <= float(root.get("height")) for _, top, _, bottom in boxes)
    for k, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[:k]:
            assert left >= other[2] or other[0] >= right or top >= other[3] or other[1] >= bottom


def test_a_residual_layer_is_drawn_with_its_bypass(key):
    net, shape = NETWORKS["residual"]
    drawing = draw(net, net.init(key), jnp.zeros(shape))
    assert {"+", "dA2 = dY4", "dZ1 += dY4", "Z1, and dY4 on the way back"} <= set(texts(drawing))
    assert "<path d=" in drawing


def test_a_layer_of_ones_own_is_named_and_its_backward_is_not_guessed(key):
    def scale_forward(params, x):
        return x * params["gain"][None], x

    def scale_backward(params, x, dy):
        return {"gain": jn.Each(dy * x)}, dy * params["gain"][None]

    scale = jn.Layer(lambda key: {"gain": jnp.ones(3)}, scale_forward, scale_backward)
    found = texts(draw(jn.chain(scale, jn.dense(3, 1)), jn.chain(scale, jn.dense(3, 1)).init(key), jnp.zeros((5, 3))))
    assert {"scale", "gain1 (3,)", "dgain1 (3,)", "dgain1, dX: backward of dY1", "Y1 (5, 3)", "dY1 = dZ1 W1"} <= set(
        found
    )


def test_shapes_that_a_backward_gets_wrong_are_named(key):
    def half_backward(params, x, dy):
        return {"gain": jn.Each(dy[:, :2])}, dy

    half = jn.Layer(lambda key: {"gain": jnp.ones(3)}, lambda params, x: (x * params["gain"][None], x), half_backward)
    with pytest.raises(ValueError, match=re.escape("draw: the gradient of gain (3,) has shape (2,)")):
        draw(half, half.init(key), jnp.zeros((5, 3)))
    narrow = jn.Layer(lambda key: (), lambda params, x: (x, ()), lambda params, cache, dy: ((), dy[:, :1]))
    with pytest.raises(ValueError, match=re.escape("sends back (5, 1) for an input of (5, 3)")):
        draw(jn.chain(narrow), ((),), jnp.zeros((5, 3)))


def test_a_notebook_shows_it_a_file_holds_it_and_it_is_always_the_same(key, tmp_path):
    net, shape = NETWORKS["the lesson's"]
    params, x = jax.eval_shape(net.init, key), jax.ShapeDtypeStruct(shape, jnp.float32)
    drawing = draw(net, params, x)
    assert drawing._repr_svg_() == drawing == draw(net, params, x)
    drawing.save(tmp_path / "net.svg")
    assert (tmp_path / "net.svg").read_text(encoding="utf-8") == drawing


def test_it_is_there_after_import_jaxnet_alone_and_only_when_asked_for():
    program = (
        "import sys, jaxnet as jn; assert 'jaxnet.experiment' not in sys.modules; jn.experiment.draw; "
        "assert not {'tyro', 'rich', 'matplotlib', 'sklearn'} & set(sys.modules); jn.nosuch"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "AttributeError: module 'jaxnet' has no attribute 'nosuch'"
