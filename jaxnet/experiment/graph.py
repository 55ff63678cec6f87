"""The computational graph of a network as a picture: what flows forward, and below it what flows back.

Names and shapes come from the network itself: its layers are walked in the order of forward, and traced both ways. Text
is set in a font of one width, so that the place each line takes is known.
"""

import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from jaxnet import per_example
from jaxnet.experiment.storage import durable
from jaxnet.layer import Layer
from jaxnet.layers.activations import is_activation
from jaxnet.layers.dense import is_dense
from jaxnet.losses import Loss
from jaxnet.overview import leaves

FORWARD, BACK, BOX, INK = "#08306B", "#B33C00", "#EEF3F8", "#222222"
SIZE = 13
# The width of a character in units of the font's size, for every common font of one width.
CHARACTER = 0.602
LINE, PADDING, GAP = 18, 12, 26
SVG = "http://www.w3.org/2000/svg"


class Drawing(str):
    """The text of an SVG; a notebook shows it as a picture."""

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return str(self)

    def save(self, path: str | Path) -> None:
        """Writes the picture to a file."""
        durable.write(Path(path), self.encode())


class Edge(NamedTuple):
    """What flows between two boxes: its name, and the shape that it and its derivative have."""

    name: str
    shape: tuple[int, ...]


class Box(NamedTuple):
    """A layer in the picture.

    Attributes:
      title: the layer's name.
      learnt: each parameter's name and shape.
      formulas: how it sends its signal back, and what becomes of its parameters.
      bypass: for the sum of a residual layer, the number of the edge that it adds.
    """

    title: str
    learnt: tuple[Edge, ...]
    formulas: tuple[str, ...]
    bypass: int | None = None


def draw(net: Layer, params: Any, x: Array | jax.ShapeDtypeStruct, *, loss: Loss | None = None) -> Drawing:
    """The network's computational graph, with the shape of every intermediate value, and of the derivative of each.

    Above each edge stands what flows forward, below it what flows back (per example, without 1/m), and below each box
    by which equation. Chains are drawn layer by layer and a residual layer with its bypass; nothing is computed.

    Args:
      net: any layer or network.
      params: as `net.init(key)` returns them, or their shapes.
      x: (m, ...), or a `jax.ShapeDtypeStruct`.
      loss: draws the loss after the last layer.

    Returns:
      SVG text, which a notebook shows; `draw(...).save("net.svg")` writes it.
    """
    edges, boxes = _plan(net, params, x)
    if loss is not None:
        title = loss.forward.__name__.removesuffix("_forward").replace("_", " ")
        boxes.append(Box(title, (), (f"d{edges[-1].name} = dL/d{edges[-1].name}",)))
        edges.append(Edge("L", edges[0].shape[:1]))
    return _picture(edges, boxes)


def _plan(net, params, x):
    """The edges, from x on, and the boxes between them."""
    edges, boxes = [Edge("X", x.shape)], []
    structs: list[Any] = [jax.ShapeDtypeStruct(x.shape, x.dtype)]
    number = 0
    for leaf in leaves(net, params):
        if leaf.layer is None:
            edges.append(Edge(f"Y{len(edges)}", edges[-1].shape))
            structs.append(structs[-1])
            assert leaf.bypass is not None
            fork = edges[leaf.bypass].name
            boxes.append(
                Box("+", (), (f"d{edges[-2].name} = d{edges[-1].name}", f"d{fork} += d{edges[-1].name}"), leaf.bypass)
            )
            continue
        y, grads, dx = jax.eval_shape(partial(_both_ways, leaf.layer), leaf.params, structs[-1])
        _require_shape(leaf, dx, structs[-1])
        before = edges[-1].name
        linear, elementwise = is_dense(leaf.layer), is_activation(leaf.layer)
        number += linear
        # A follows the Z that it is made of; whatever else there is goes by its place.
        name = (
            f"Z{number}" if linear else f"A{before[1:]}" if elementwise and before.startswith("Z") else f"Y{len(edges)}"
        )
        learnt = _learnt(leaf.params, grads, number if linear else len(edges))
        edges.append(Edge(name, y.shape))
        structs.append(y)
        boxes.append(Box(_title(leaf.layer), learnt, _formulas(leaf.layer, linear, elementwise, before, name, learnt)))
    return edges, boxes


def _both_ways(layer, params, x):
    """The output; and the gradients and the signal that come back for one of the output's shape."""
    y, cache = layer.forward(params, x)
    dparams, dx = layer.backward(params, cache, y)
    return y, per_example.mean(dparams), dx


def _title(layer):
    return layer.name.replace("_", " ")


def _require_shape(leaf, dx, x):
    if dx.shape != x.shape:
        raise ValueError(
            f"draw: layer {leaf.place} ({leaf.layer.name}) sends back {dx.shape} for an input of {x.shape}"
        )


def _learnt(params, grads, number):
    """Each parameter's name and shape, which its gradient has too."""
    named, _ = jax.tree_util.tree_flatten_with_path(params)
    for (path, leaf), grad in zip(named, jax.tree.leaves(grads), strict=True):
        if grad.shape != leaf.shape:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(f"draw: the gradient of {name} {leaf.shape} has shape {grad.shape}")
    return tuple(
        Edge(f"{jax.tree_util.keystr(path, simple=True, separator='.')}{number}", leaf.shape) for path, leaf in named
    )


def _formulas(layer, linear, elementwise, before, name, learnt):
    if linear:
        W, b = (edge.name for edge in learnt)
        return f"d{before} = d{name} {W}", f"d{W} = (1/m) d{name}ᵀ {before}", f"d{b} = (1/m) Σ d{name}"
    if elementwise:
        slope = "1" if layer.name == "identity" else f"g'({before})"
        return (f"d{before} = d{name}" if slope == "1" else f"d{before} = d{name} * {slope}",)
    parts = ", ".join([*(f"d{edge.name}" for edge in learnt), f"d{before}"])
    return (f"{parts}: backward of d{name}",)


def _picture(edges, boxes):
    """Boxes in a row, edges between them; parameters above, derivatives and equations below."""
    top = PADDING + LINE * 2 * max((len(box.learnt) for box in boxes), default=0) + GAP
    height = 2 * LINE + PADDING
    middle = top + height / 2
    deepest = max((len(box.formulas) for box in boxes), default=0)
    skips = [box.bypass for box in boxes if box.bypass is not None]
    below = top + height + PADDING + LINE * deepest
    total_height = below + GAP + (GAP + LINE if skips else 0)

    svg = ET.Element(
        "svg", {"xmlns": SVG, "font-family": "DejaVu Sans Mono, Menlo, Consolas, monospace", "font-size": f"{SIZE}"}
    )
    ET.SubElement(svg, "title").text = " → ".join(box.title for box in boxes) or "no layers"
    _arrowheads(svg)
    background = ET.SubElement(svg, "rect", {"fill": "white"})

    left, centres, entries = float(PADDING), [], []
    for position, edge in enumerate(edges):
        forward, back = f"{edge.name} {edge.shape}", f"d{edge.name} {edge.shape}"
        # The loss is where derivatives begin.
        back = "1 per example" if edge.name == "L" else back
        width = max(_width(forward), _width(back)) + 2 * PADDING
        centres.append(left + width / 2)
        _text(svg, left + width / 2, middle - LINE / 2 - 4, forward, FORWARD)
        _text(svg, left + width / 2, middle + LINE + 4, back, BACK)
        _arrow(svg, left + 2, left + width - 2, middle - 4, FORWARD, "forward")
        _arrow(svg, left + width - 2, left + 2, middle + 5, BACK, "back")
        left += width
        if position < len(boxes):
            entries.append(left + PADDING)
            left = _box(svg, boxes[position], left, top, height)
    for box, entry, after in zip(boxes, entries, edges[1:], strict=True):
        if box.bypass is not None:
            start, text = centres[box.bypass], f"{edges[box.bypass].name}, and d{after.name} on the way back"
            _skip(svg, (start, middle + LINE + 10), (entry, top + height), below + GAP, text)
    size = {"width": f"{left + PADDING:.0f}", "height": f"{total_height:.0f}"}
    background.attrib.update(size)
    svg.attrib.update({**size, "viewBox": f"0 0 {size['width']} {size['height']}"})
    ET.indent(svg)
    return Drawing(ET.tostring(svg, encoding="unicode") + "\n")


def _box(svg, box, left, top, height):
    """Draws a box with its parameters above and its equations below; returns where it ends."""
    above = [text for edge in box.learnt for text in (f"{edge.name} {edge.shape}", f"d{edge.name} {edge.shape}")]
    width = max(map(_width, (box.title, *above, *box.formulas))) + 2 * PADDING
    # A bypass comes in from below, beside the equations.
    inset = 0 if box.bypass is None else 2 * PADDING
    width += inset
    centre = left + width / 2
    frame = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}", "rx": "6"}
    ET.SubElement(svg, "rect", {**frame, "fill": BOX, "stroke": INK, "stroke-width": "1.2"})
    _text(svg, centre, top + height / 2 + SIZE / 3, box.title, INK, weight="bold")
    for line, text in enumerate(reversed(above)):
        back = line % 2 == 0
        _text(svg, centre, top - GAP / 2 - LINE * line, text, BACK if back else FORWARD)
    for line, text in enumerate(box.formulas, start=1):
        _text(svg, centre + inset / 2, top + height + PADDING / 2 + LINE * line - 4, text, BACK)
    return left + width


def _skip(svg, start, end, bottom, text):
    """The bypass of a residual layer: from an edge, below everything else, to the box that adds it."""
    path = f"M {start[0]:.1f} {start[1]:.1f} V {bottom:.1f} H {end[0]:.1f} V {end[1]:.1f}"
    line = {"fill": "none", "stroke": FORWARD, "stroke-width": "1.6", "marker-end": "url(#forward)"}
    ET.SubElement(svg, "path", {"d": path, **line})
    _text(svg, (start[0] + end[0]) / 2, bottom - 6, text, FORWARD)


def _arrowheads(svg):
    defs = ET.SubElement(svg, "defs")
    for name, colour in (("forward", FORWARD), ("back", BACK)):
        shape = {"id": name, "viewBox": "0 0 10 10", "refX": "9", "refY": "5", "orient": "auto-start-reverse"}
        marker = ET.SubElement(defs, "marker", {**shape, "markerWidth": "6", "markerHeight": "6"})
        ET.SubElement(marker, "path", {"d": "M 0 0 L 10 5 L 0 10 z", "fill": colour})


def _arrow(svg, start, end, y, colour, head):
    line = {"x1": f"{start:.1f}", "x2": f"{end:.1f}", "y1": f"{y:.1f}", "y2": f"{y:.1f}", "stroke": colour}
    dashes = {"stroke-dasharray": "5 3"} if head == "back" else {}
    ET.SubElement(svg, "line", {**line, **dashes, "stroke-width": "1.6", "marker-end": f"url(#{head})"})


def _text(svg, x, y, text, colour, weight="normal"):
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "fill": colour, "text-anchor": "middle", "font-weight": weight}
    ET.SubElement(svg, "text", place).text = text


def _width(text):
    return CHARACTER * SIZE * len(text)
