"""The drawn network: every shape and derivative is there, true, and legible."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from own_layers import add_all, add_all_backward, add_all_init

import jaxnet as jn
from jaxnet import draw
from jaxnet.drawing.svg import SIZE, SVG

CHARACTER = 0.61 * SIZE

BLOCK = jn.chain(jn.dense(3, 3), jn.tanh)


def mean_forward(parts, params, x):
    ys, caches = zip(*(part.forward(p, x) for part, p in zip(parts, params, strict=True)), strict=True)
    return jnp.stack(ys).mean(axis=0), caches


def mean_of(*parts):
    """A combinator that does more than to hand on and to add."""

    def backward(params, caches, dy):
        return add_all_backward(parts, params, caches, dy / len(parts))

    made = partial(mean_of, *parts)
    return jn.Layer(partial(add_all_init, parts), partial(mean_forward, parts), backward, made=made)


def branches(*parts):
    """A combinator whose output is a tuple."""

    def forward(params, x):
        ys, caches = zip(*(part.forward(p, x) for part, p in zip(parts, params, strict=True)), strict=True)
        return ys, caches

    def backward(params, caches, dys):
        sent = [part.backward(*of) for part, *of in zip(parts, params, caches, dys, strict=True)]
        dparams, dxs = zip(*sent, strict=True)
        return dparams, sum(dxs[1:], start=dxs[0])

    return jn.Layer(partial(add_all_init, parts), forward, backward, made=partial(branches, *parts))


def lookup_backward(params, cache, dy):
    return {"table": jn.Each(dy[:, None] * jnp.ones((1, 9, 1)), 2)}, None


lookup = jn.Layer(
    lambda key: {"table": jnp.zeros((9, 3))}, lambda params, ids: (params["table"][ids], ids), lookup_backward
)
NETWORKS = {
    "the lesson's": (jn.chain(jn.dense(3, 4), jn.tanh, jn.dense(4, 1), jn.sigmoid), (200, 3)),
    "nested": (jn.chain(jn.chain(jn.dense(3, 40)), jn.identity, jn.chain(jn.leaky_relu(), jn.dense(40, 2))), (5, 3)),
    "residual": (jn.chain(jn.dense(2, 3), jn.residual(jn.chain(jn.dense(3, 3), jn.tanh)), jn.dense(3, 1)), (5, 7, 2)),
    "no layers": (jn.chain(), (4, 2)),
    "repeated": (jn.chain(jn.dense(2, 3), jn.repeat(BLOCK, 4), jn.dense(3, 1)), (5, 2)),
    "repeated and computed again": (jn.repeat(jn.recompute(jn.residual(BLOCK)), 4), (5, 3)),
    "fan out": (jn.chain(jn.dense(3, 3), add_all(BLOCK, jn.dense(3, 3), jn.identity), jn.dense(3, 1)), (5, 3)),
    "fan out, repeated": (jn.repeat(add_all(jn.residual(BLOCK), jn.relu), 4), (5, 3)),
    "fan out, repeated and computed again": (jn.repeat(jn.recompute(add_all(BLOCK, jn.relu)), 4), (5, 3)),
    "activations of one Z": (jn.chain(jn.dense(3, 3), add_all(jn.tanh, jn.relu, jn.sigmoid, jn.softplus)), (5, 3)),
    "mean": (jn.chain(mean_of(BLOCK, jn.dense(3, 3)), jn.dense(3, 1)), (5, 3)),
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
    for element in root.iter(f"{{{SVG}}}path"):
        if element.get("marker-end"):
            _, start, high, _, low, _, end, _, to = element.get("d").split()
            for x, y in ((float(start), float(high)), (float(end), float(to))):
                under = [box for box in boxes if box[0] < x < box[2]]
                assert not any(bottom > y and top < float(low) for _, top, _, bottom in under)


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


def equations(drawing):
    return {text for text in texts(drawing) if " = " in text or "+=" in text or "backward of" in text}


def drawn(name, key):
    net, shape = NETWORKS[name]
    return draw(net, net.init(key), jnp.zeros(shape))


def frames(drawing):
    """The title of each frame, and the titles of the boxes in it."""
    root = ET.fromstring(drawing)

    bold = [(*place_of(element), element.text) for element in root.iter(f"{{{SVG}}}text") if is_bold(element)]
    found = {}
    for element in root.iter(f"{{{SVG}}}rect"):
        if element.get("stroke-dasharray"):
            left, top, width, height = (float(element.get(name)) for name in ("x", "y", "width", "height"))
            inside = [(y, text) for x, y, text in bold if left < x < left + width and top < y < top + height]
            # The title stands on top; boxes of other frames inside have theirs above the row of boxes.
            (_, title), *boxes = sorted(inside, key=lambda of: of[0])
            row = max(y for y, _ in boxes)
            found[title] = [text for x, y, text in bold if left < x < left + width and y == row]
    return found


def place_of(element):
    return float(element.get("x")), float(element.get("y"))


def is_bold(element):
    return element.get("font-weight") == "bold"


def test_a_repeated_layer_is_in_a_frame_that_says_how_often_and_what_is_computed_again_in_another(key):
    assert frames(drawn("repeated", key)) == {"repeat, 4 times": ["dense", "tanh"]}
    inside = ["dense", "tanh", "+"]
    assert frames(drawn("repeated and computed again", key)) == {"repeat, 4 times": inside, "recompute": inside}
    assert frames(drawn("fan out, repeated", key)) == {"repeat, 4 times": ["dense", "tanh", "+", "relu", "+"]}


def test_what_forks_and_what_is_added_is_drawn_whatever_the_combinator(key):
    found = drawn("fan out", key)
    assert {"dZ1 = dZ2 W2", "dZ1 += dZ3 W3", "dZ1 += dA1", "dA1 = dY6", "dA2 = dY6", "dZ3 = dY6"} <= equations(found)
    lines = [text for text in texts(found) if "on the way back" in text]
    assert sorted(lines) == [
        "A2, and dY6 on the way back",
        "Z1, and dZ1 on the way back",
        "Z1, and dZ1 on the way back",
        "Z3, and dY6 on the way back",
    ]
    assert found.count("<path d=") == 4 + 2
    assert frames(found) == {}


def test_a_combinator_that_does_more_than_to_add_is_a_box_of_its_name_in_a_frame_of_its_name(key):
    found = drawn("mean", key)
    assert frames(found) == {"mean of": ["dense", "tanh", "dense", "mean of"]}
    assert {"dX = dZ1 W1", "dX += dZ2 W2", "dZ2, dA1: backward of dY4", "dY4 = dZ3 W3"} <= equations(found)


def test_every_edge_has_a_name_of_its_own(key):
    found = [text.split()[0] for text in texts(drawn("activations of one Z", key)) if text.endswith("(5, 3)")]
    assert sorted(found) == sorted(
        ["X", "dX", "Z1", "dZ1", "A1", "dA1", "Y3", "dY3", "Y4", "dY4", "Y5", "dY5", "Y6", "dY6"]
    )


def test_integers_have_no_derivative(key):
    net = jn.chain(lookup, jn.dense(3, 1))
    found = texts(draw(net, net.init(key), jnp.zeros(5, int)))
    assert {"X (5,)", "no derivative", "table1 (9, 3)", "dtable1: backward of dY1", "dY1 = dZ1 W1"} <= set(found)
    assert not any("dX" in text for text in found)


@pytest.mark.usefixtures("without_shape_annotations")
def test_layers_that_give_and_take_several_arrays_are_drawn_with_each(key):
    def product_forward(params, factors):
        return factors[0] * factors[1], factors

    def product_backward(params, factors, dy):
        return (), (dy * factors[1], dy * factors[0])

    product = jn.Layer(lambda key: (), product_forward, product_backward)
    net = jn.chain(branches(jn.dense(3, 3), BLOCK), product)
    found = texts(draw(net, net.init(key), jnp.zeros((5, 3))))
    assert {"product", "dA2, dZ1: backward of dY4", "Z1, and dZ1 on the way back", "Y4 (5, 3)"} <= set(found)
    ends = texts(draw(net.made.args[0], net.init(key)[0], jnp.zeros((5, 3))))
    assert {"Z1 (5, 3), A2 (5, 3)", "dZ1 (5, 3), dA2 (5, 3)"} <= set(ends)


def test_layers_in_mixed_precision_keep_their_names(key):
    net = jn.mixed_precision(NETWORKS["repeated"][0])
    assert frames(draw(net, net.init(key), jnp.zeros((5, 2)))) == {"repeat, 4 times": ["dense", "tanh"]}
    assert {"dX = dZ1 W1", "dZ2 = dA2 * g'(Z2)"} <= equations(draw(net, net.init(key), jnp.zeros((5, 2))))


def test_it_is_there_after_import_jaxnet_alone_which_loads_nothing_of_the_scripts():
    program = (
        "import sys, jaxnet as jn; jn.draw; assert 'jaxnet.experiment' not in sys.modules; "
        "assert not {'tyro', 'rich', 'matplotlib', 'sklearn'} & set(sys.modules); "
        "import jaxnet.experiment; jn.experiment; jn.nosuch"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "AttributeError: module 'jaxnet' has no attribute 'nosuch'"
