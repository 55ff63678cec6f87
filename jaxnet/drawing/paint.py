"""The picture of a plan, as SVG."""

import xml.etree.ElementTree as ET
from typing import NamedTuple

from jaxnet.drawing.plan import Frame, Plan
from jaxnet.drawing.svg import (
    BACK,
    BOX,
    FORWARD,
    GAP,
    INK,
    LINE,
    PADDING,
    SIZE,
    SVG,
    Drawing,
    add_arrow,
    add_arrowheads,
    add_text,
    width_of,
)


class _Wire(NamedTuple):
    """A line below everything else: from where an edge is drawn to where it is taken again."""

    start: float
    end: float
    to: float
    text: str

    @property
    def span(self) -> tuple[float, float]:
        """What the line takes of the width, with the text, wherever that stands."""
        half = width_of(self.text) / 2
        middle = max((self.start + self.end) / 2, PADDING + half)
        return min(self.start, middle - half), max(self.end, middle + half)

    def text_at(self, crossing: list[float]) -> float:
        """The middle of the text: as near to that of the line as no other line goes through the text, from below."""
        half = width_of(self.text) / 2
        left, right = self.span
        middle = (left + right) / 2
        steps = int((right - left) / 2 - half) // 4
        places = [middle + 4 * sign * step for step in range(steps + 1) for sign in (-1, 1)]
        free = (place for place in places if not any(abs(place - x) < half + 3 for x in crossing))
        return next(free, middle)


def picture(plan: Plan) -> Drawing:
    """Boxes in a row, edges between them; parameters above, derivatives and equations below."""
    svg = ET.Element(
        "svg", {"xmlns": SVG, "font-family": "DejaVu Sans Mono, Menlo, Consolas, monospace", "font-size": f"{SIZE}"}
    )
    ET.SubElement(svg, "title").text = " → ".join(box.title for box in plan.boxes) or "no layers"
    add_arrowheads(svg)
    background = ET.SubElement(svg, "rect", {"fill": "white"})
    row = _Row(svg, plan)
    right = row.draw()
    lowest = row.below + GAP
    levels = _levels(row.wires)
    for wire, level in zip(row.wires, levels, strict=True):
        bottom = lowest + level * (LINE + 10)
        _wire(svg, wire, row.middle + LINE + 10, bottom)
        lower = [other for other, its_level in zip(row.wires, levels, strict=True) if its_level >= level]
        crossing = [x for other in lower for x in (other.start, other.end)]
        add_text(svg, wire.text_at(crossing), bottom - 6, wire.text, FORWARD)
        right = max(right, wire.span[1])
    height = lowest + (GAP + LINE + max(levels) * (LINE + 10) if levels else 0)
    size = {"width": f"{right + PADDING:.0f}", "height": f"{height:.0f}"}
    background.attrib.update(size)
    svg.attrib.update({**size, "viewBox": f"0 0 {size['width']} {size['height']}"})
    ET.indent(svg)
    return Drawing(ET.tostring(svg, encoding="unicode") + "\n")


class _Row:
    """Boxes from left to right, and what has to be known of them for the lines below."""

    def __init__(self, svg, plan):
        self.svg, self.plan = svg, plan
        deepest = max((frame.depth + 1 for frame in plan.frames), default=0)
        learnt = max((len(box.learnt) for box in plan.boxes), default=0)
        self.top = PADDING + LINE * 2 * learnt + GAP + (LINE + 8) * deepest
        self.height = 2 * LINE + PADDING
        self.middle = self.top + self.height / 2
        formulas = max((len(box.formulas) for box in plan.boxes), default=0)
        self.below = self.top + self.height + PADDING + LINE * formulas + 8 * deepest
        self.centres: dict[int, float] = {}
        self.wires: list[_Wire] = []

    def draw(self):
        """Returns where the row ends."""
        left, closing, before = float(PADDING), 0.0, self.plan.inputs
        starts: dict[Frame, float] = {}
        for number, box in enumerate(self.plan.boxes):
            opening = [frame for frame in self.plan.frames if frame.first == number]
            follows = any(edge in before for edge in box.takes)
            left = self.segment(before, left, closing, PADDING * len(opening) if follows else 0)
            left += 0 if follows else 2 * GAP + PADDING * len(opening)
            starts |= {frame: left - PADDING * (len(opening) - k - 0.5) for k, frame in enumerate(opening)}
            left, closing = self.box(box, left, before), 0.0
            for frame in sorted(self.plan.frames, key=lambda frame: -frame.depth):
                if frame.end == number + 1:
                    end = max(left + closing + PADDING / 2, starts[frame] + width_of(frame.title) + 2 * PADDING)
                    self.frame(frame, starts[frame], end)
                    closing = end - left + PADDING / 2
            before = box.gives
        left = self.segment(before, left, closing, 0)
        if not set(self.plan.outputs) <= set(before):
            left += 2 * GAP
            start = left
            left = self.segment(self.plan.outputs, left, 0, 0, again=True)
            self.wire_up(self.plan.outputs, (start + left) / 2, 0, self.middle + LINE + 10, "")
        return left

    def segment(self, numbers, left, closing, opening, *, again=False):
        """An edge between two boxes, with place for the lines of frames; returns where it ends."""
        if not numbers:
            return left + closing + opening
        edges = [self.plan.edges[number] for number in numbers]
        forward, back = ", ".join(f"{edge.name} {edge.shape}" for edge in edges), _back(edges)
        width = max(width_of(forward), width_of(back)) + 2 * PADDING
        centre, right = left + closing + width / 2, left + closing + width + opening
        if not again:
            self.centres |= dict.fromkeys(numbers, centre)
        add_text(self.svg, centre, self.middle - LINE / 2 - 4, forward, FORWARD)
        add_text(self.svg, centre, self.middle + LINE + 4, back, BACK)
        add_arrow(self.svg, left + 2, right - 2, self.middle - 4, FORWARD, "forward")
        if any(edge.differentiable for edge in edges):
            add_arrow(self.svg, right - 2, left + 2, self.middle + 5, BACK, "back")
        return right

    def box(self, box, left, before):
        """A box with its parameters above and its equations below; returns where it ends."""
        svg, top, height = self.svg, self.top, self.height
        above = [text for edge in box.learnt for text in (f"{edge.name} {edge.shape}", f"d{edge.name} {edge.shape}")]
        width = max(map(width_of, (box.title, *above, *box.formulas))) + 2 * PADDING
        # Lines come in from below, beside the equations; the one from nearby first, so that they do not cross.
        wired = sorted((edge for edge in box.takes if edge not in before), key=lambda edge: -self.centres[edge])
        inset = PADDING * (len(wired) + 1) if wired else 0
        width += inset
        centre = left + width / 2
        frame = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}", "rx": "6"}
        ET.SubElement(svg, "rect", {**frame, "fill": BOX, "stroke": INK, "stroke-width": "1.2"})
        add_text(svg, centre, top + height / 2 + SIZE / 3, box.title, INK, weight="bold")
        for line, text in enumerate(reversed(above)):
            back = line % 2 == 0
            add_text(svg, centre, top - GAP / 2 - LINE * line, text, BACK if back else FORWARD)
        for line, text in enumerate(box.formulas, start=1):
            add_text(svg, centre + inset / 2, top + height + PADDING / 2 + LINE * line - 4, text, BACK)
        of_sum = self.plan.edges[box.gives[0]].name if box.title == "+" else ""
        self.wire_up(wired, left + PADDING, PADDING, top + height, of_sum)
        return left + width

    def wire_up(self, numbers, end, apart, to, of_sum):
        """Lines to one place, from where these edges are drawn."""
        for position, number in enumerate(numbers):
            edge = self.plan.edges[number]
            back = f", and d{of_sum or edge.name} on the way back" if edge.differentiable else ""
            self.wires.append(_Wire(self.centres[number], end + apart * position, to, f"{edge.name}{back}"))

    def frame(self, frame, left, right):
        top, bottom = PADDING / 2 + (LINE + 8) * frame.depth, self.below - 8 * frame.depth
        place = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": f"{right - left:.1f}", "height": f"{bottom - top:.1f}"}
        look = {"rx": "8", "fill": "none", "stroke": INK, "stroke-width": "1.2", "stroke-dasharray": "2 3"}
        ET.SubElement(self.svg, "rect", {**place, **look})
        add_text(self.svg, left + PADDING + width_of(frame.title) / 2, top + LINE - 2, frame.title, INK, weight="bold")


def _back(edges):
    """What flows back: the loss is where derivatives begin, and integers have none."""
    shapes = [f"d{edge.name} {edge.shape}" for edge in edges if edge.differentiable]
    return "1 per example" if edges[0].name == "L" else ", ".join(shapes) or "no derivative"


def _levels(wires):
    """For each line how far below: the shorter the nearer, and none on another."""
    levels: dict[int, int] = {}
    for number in sorted(range(len(wires)), key=lambda number: wires[number].span[1] - wires[number].span[0]):
        left, right = wires[number].span
        taken = {levels[k] for k in levels if left < wires[k].span[1] + PADDING and wires[k].span[0] < right + PADDING}
        levels[number] = min(set(range(len(wires))) - taken)
    return [levels[number] for number in range(len(wires))]


def _wire(svg, wire, start, bottom):
    """A line from an edge, below everything else, to where it is taken again."""
    path = f"M {wire.start:.1f} {start:.1f} V {bottom:.1f} H {wire.end:.1f} V {wire.to:.1f}"
    line = {"fill": "none", "stroke": FORWARD, "stroke-width": "1.6", "marker-end": "url(#forward)"}
    ET.SubElement(svg, "path", {"d": path, **line})
