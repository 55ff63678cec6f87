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
    "attention": (
        jn.repeat(jn.recompute(jn.residual(jn.chain(jn.layer_norm(4), jn.multi_head_attention(4, 2)))), 4),
        (5, 7, 4),
    ),
    "parameters at both ends": (jn.tied(jn.dense(3, 3), jn.chain(BLOCK, BLOCK, BLOCK), jn.dense(3, 3)), (5, 3)),
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


def lines_of(element):
    """The straight parts of a line or a path, as boxes without a height or a width."""
    if element.tag == f"{{{SVG}}}line":
        x, to, y = (float(element.get(name)) for name in ("x1", "x2", "y1"))
        yield min(x, to), y, max(x, to), y
        return
    _, x, y, *moves = element.get("d").split()
    x, y = float(x), float(y)
    for move, end in zip(moves[::2], map(float, moves[1::2]), strict=True):
        to = (end, y) if move == "H" else (x, end)
        yield min(x, to[0]), min(y, to[1]), max(x, to[0]), max(y, to[1])
        x, y = to


def meet(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def place(element):
    left, top, width, height = (float(element.get(name)) for name in ("x", "y", "width", "height"))
    return left, top, left + width, top + height


@pytest.mark.parametrize("name", NETWORKS)
def test_no_text_lies_on_another_or_on_a_line_or_outside_nor_a_line_on_a_box(name, key):
    net, shape = NETWORKS[name]
    root = ET.fromstring(draw(net, net.init(key), jnp.zeros(shape), loss=jn.losses.half_squared_error))
    texts = []
    for element in root.iter(f"{{{SVG}}}text"):
        x, y, half = float(element.get("x")), float(element.get("y")), CHARACTER * len(element.text) / 2
        texts.append((x - half, y - SIZE, x + half, y + 3))
    width, height = (float(root.get(name)) for name in ("width", "height"))
    rects = [element for element in root.iter(f"{{{SVG}}}rect") if element.get("x")]
    frames = [place(element) for element in rects if element.get("stroke-dasharray")]
    boxes = [place(element) for element in rects if not element.get("stroke-dasharray")]
    drawn = [element for element in root.iter() if element.get("marker-end")]
    lines = [part for element in drawn for part in lines_of(element)]
    for left, top, right, bottom in (*texts, *frames, *boxes, *lines):
        assert 0 <= left <= right <= width
        assert 0 <= top <= bottom <= height
    for k, text in enumerate(texts):
        assert not any(meet(text, other) for other in (*texts[:k], *lines))
        assert not any(meet(text, box) and not inside(text, box) for box in (*boxes, *frames))
    assert not any(meet(line, box) for line in lines for box in boxes)
    # In print as wide as a page, letters are 10 pixels high.
    assert width <= 1040


def inside(one, other):
    return other[0] <= one[0] and one[2] <= other[2] and other[1] <= one[1] and one[3] <= other[3]


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
    """The title of each frame, and the titles of the boxes in it, in the order of reading."""
    root = ET.fromstring(drawing)
    rects = [element for element in root.iter(f"{{{SVG}}}rect") if element.get("x")]
    boxes = [place(element) for element in rects if not element.get("stroke-dasharray")]
    bold = [element for element in root.iter(f"{{{SVG}}}text") if element.get("font-weight") == "bold"]
    places = [(float(text.get("y")), float(text.get("x")), text.text) for text in bold]
    found = {}
    for element in rects:
        if element.get("stroke-dasharray"):
            left, top, right, bottom = place(element)
            within = sorted((y, x, text) for y, x, text in places if left < x < right and top < y < bottom)
            # The title stands on top; those of frames inside are in no box.
            of_boxes = [text for y, x, text in within if any(box[1] < y < box[3] for box in boxes)]
            found[within[0][2]] = of_boxes
    return found


def is_box(element):
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
    # Two heads of arrows, and an edge that goes on in the next row and comes back.
    assert found.count("<path d=") == 4 + 2 + 2
    assert frames(found) == {}


def test_a_combinator_that_does_more_than_to_add_is_a_box_of_its_name_in_a_frame_of_its_name(key):
    found = drawn("mean", key)
    assert frames(found) == {"mean of": ["dense", "tanh", "dense", "mean of"]}
    assert {"dX = dZ1 W1", "dX += dZ2 W2", "dZ2, dA1: backward of dY4", "dY4 = dZ3 W3"} <= equations(found)


def test_a_frame_without_room_in_a_row_has_rows_of_its_own_and_is_drawn_once(key):
    found = drawn("attention", key)
    inside = ["layer norm", "dense", "dense", "dense", "attention", "dense", "+"]
    assert frames(found) == {"repeat, 4 times": inside, "recompute": inside}
    rows = {float(element.get("y")) for element in ET.fromstring(found).iter(f"{{{SVG}}}text") if is_box(element)}
    # Of boxes, and of titles.
    assert len(rows) == 4 + 2


def test_parameters_that_layers_share_have_one_name_and_say_so(key):
    found = texts(drawn("parameters at both ends", key))
    assert [text for text in found if text.startswith("shared")] == ["shared b1 (3,)", "shared W1 (3, 3)"] * 2
    assert {"dW1 = (1/m) dZ1ᵀ X", "dW1 += (1/m) dZ5ᵀ A4", "db1 += (1/m) Σ dZ5", "dA4 = dZ5 W1"} <= set(found)
    again = jn.shared(jn.chain(jn.dense(3, 3), jn.tanh), 2)
    found = texts(draw(again, again.init(key), jnp.zeros((5, 3))))
    assert {"dW1 = (1/m) dZ1ᵀ X", "dW1 += (1/m) dZ2ᵀ A1"} <= set(found)


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
