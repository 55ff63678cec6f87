"""The picture of a plan, as SVG."""

import xml.etree.ElementTree as ET

from jaxnet.drawing.heights import BOX, Heights, heights_of
from jaxnet.drawing.placing import Places, Segment, places_in
from jaxnet.drawing.plan import Plan
from jaxnet.drawing.rows import above, ahead_text, back_text, inset
from jaxnet.drawing.svg import (
    BACK,
    FORWARD,
    GAP,
    INK,
    LINE,
    PADDING,
    SIZE,
    SVG,
    TINT,
    Drawing,
    add_arrow,
    add_arrowheads,
    add_path,
    add_text,
    width_of,
)
from jaxnet.drawing.wires import levels_of

# Between lines beside one another in a margin, and between frames around whole rows.
LANE, FRAME = 9, 8


def picture(plan: Plan) -> Drawing:
    """Boxes in rows, edges between them; parameters above, derivatives and equations below."""
    svg = ET.Element(
        "svg", {"xmlns": SVG, "font-family": "DejaVu Sans Mono, Menlo, Consolas, monospace", "font-size": f"{SIZE}"}
    )
    ET.SubElement(svg, "title").text = " → ".join(box.title for box in plan.boxes) or "no layers"
    add_arrowheads(svg)
    background = ET.SubElement(svg, "rect", {"fill": "white"})
    places = places_in(plan)
    page = _Page(svg, plan, places, heights_of(plan, places))
    page.draw()
    size = {"width": f"{page.width:.0f}", "height": f"{page.heights.end:.0f}"}
    background.attrib.update(size)
    svg.attrib.update({**size, "viewBox": f"0 0 {size['width']} {size['height']}"})
    ET.indent(svg)
    return Drawing(ET.tostring(svg, encoding="unicode") + "\n")


class _Page:
    """The picture, with its margins: outermost frames, then lines that lead from row to row."""

    def __init__(self, svg, plan, places: Places, heights: Heights):
        self.svg, self.plan, self.places, self.heights = svg, plan, places, heights
        of_rows = [border.frame.depth + 1 for border in places.borders if border.ends is None]
        frames = FRAME * max(of_rows, default=0)
        self.far = [wire for wire in places.wires if wire.row != wire.to]
        between = [sorted((float(wire.row), float(wire.to))) for wire in self.far]
        self.levels = levels_of([(first, last) for first, last in between], apart=1)
        lanes = LANE * (max(self.levels) + 1 if self.levels else 0)
        self.turns = 3 * LANE if any(segment.goes_on for segment in places.segments) else 0
        self.start = float(PADDING + frames + lanes + self.turns)
        self.end = self.start + max([places.right, *(run.span[1] for run in heights.runs)])
        self.width = self.end + self.turns + frames + PADDING

    def draw(self):
        self.frames()
        for segment in self.places.segments:
            self.segment(segment)
        for spot in self.places.spots:
            self.box(spot)
        for number, _ in enumerate(self.places.wires):
            self.wire(number)

    def frames(self):
        for border in sorted(self.places.borders, key=lambda border: border.frame.depth):
            top, bottom = self.heights.frames[border.frame]
            outside = PADDING / 2 + FRAME * border.frame.depth
            left, right = outside, self.width - outside
            if border.ends is not None:
                left, right = (self.start + end for end in border.ends)
            place = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": f"{right - left:.1f}"}
            look = {"rx": "8", "fill": "none", "stroke": INK, "stroke-width": "1.2", "stroke-dasharray": "2 3"}
            ET.SubElement(self.svg, "rect", {**place, "height": f"{bottom - top:.1f}", **look})
            # Right of the lines in the margin.
            left = max(left, self.start - PADDING)
            title = border.frame.title
            add_text(self.svg, left + PADDING + width_of(title) / 2, top + LINE - 2, title, INK, weight="bold")

    def segment(self, segment: Segment):
        """An edge between two boxes; at the end of a row it goes on to the next."""
        edges = [self.plan.edges[number] for number in segment.numbers]
        middle, centre = self.heights.bands[segment.row].middle, self.start + segment.centre
        left, right = self.start + segment.left + 2, self.start + segment.right - 2
        add_text(self.svg, centre, middle - LINE / 2 - 4, ahead_text(edges), FORWARD)
        add_text(self.svg, centre, middle + LINE + 4, back_text(edges), BACK)
        differentiable = any(edge.differentiable for edge in edges)
        if segment.goes_on:
            self.turn(segment.row, left, differentiable)
            return
        add_arrow(self.svg, left, right, middle - 4, FORWARD, "forward")
        if differentiable:
            add_arrow(self.svg, right, left, middle + 5, BACK, "back")

    def turn(self, row, left, differentiable):
        """From the end of a row around to the beginning of the next, and what comes back inside of it."""
        band, below = self.heights.bands[row], self.heights.bands[row + 1]
        first = next(spot for spot in self.places.spots if spot.row == row + 1)
        to = self.start + first.left - 2
        right, turned = self.end + 2 * LANE, self.start - 2 * LANE
        ahead = f"M {left:.1f} {band.middle - 4:.1f} H {right:.1f} V {band.turn + 9:.1f} H {turned + LANE:.1f} "
        add_path(self.svg, f"{ahead}V {below.middle - 4:.1f} H {to:.1f}", FORWARD, "forward")
        if differentiable:
            back = f"M {to:.1f} {below.middle + 5:.1f} H {turned:.1f} V {band.turn:.1f} H {right - LANE:.1f} "
            add_path(self.svg, f"{back}V {band.middle + 5:.1f} H {left:.1f}", BACK, "back")

    def box(self, spot):
        """A box with its parameters above and its equations below."""
        svg, box, top = self.svg, self.plan.boxes[spot.number], self.heights.bands[spot.row].top
        left = self.start + spot.left
        centre, beside = left + spot.width / 2, inset(self.plan, spot.number)
        place = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": f"{spot.width:.1f}", "height": f"{BOX:.1f}", "rx": "6"}
        ET.SubElement(svg, "rect", {**place, "fill": TINT, "stroke": INK, "stroke-width": "1.2"})
        add_text(svg, centre, top + BOX / 2 + SIZE / 3, box.title, INK, weight="bold")
        for line, text in enumerate(reversed(above(box))):
            back = line % 2 == 0
            add_text(svg, centre, top - GAP / 2 - LINE * line, text, BACK if back else FORWARD)
        for line, text in enumerate(box.formulas, start=1):
            add_text(svg, centre + beside / 2, top + BOX + PADDING / 2 + LINE * line - 4, text, BACK)

    def wire(self, number):
        """A line from an edge, below all else in its row, to where it is taken again."""
        wire, bands = self.places.wires[number], self.heights.bands
        lines = list(zip(self.heights.runs, self.heights.of_runs, strict=True))
        runs = [(run, y) for run, y in lines if run.wire == number]
        (run, low), (_, to) = runs[0], runs[-1]
        start, end = self.start + wire.start, self.start + wire.end
        # To an arrow, where the outputs are drawn once more; else to a box.
        is_box = any(
            spot.row == wire.to and spot.left < wire.end < spot.left + spot.width for spot in self.places.spots
        )
        upper = bands[wire.to].top + BOX if is_box else bands[wire.to].middle + LINE + 10
        path = f"M {start:.1f} {bands[wire.row].middle + LINE + 10:.1f} V {low:.1f} "
        if wire.row != wire.to:
            margin = self.start - self.turns - LANE * (self.levels[self.far.index(wire)] + 0.5)
            path += f"H {margin:.1f} V {to:.1f} "
        add_path(self.svg, f"{path}H {end:.1f} V {upper:.1f}", FORWARD, "forward")
        crossing = [x for other, y in lines if other.row == run.row and y >= low for x in other.uprights]
        add_text(self.svg, self.start + run.text_at(crossing), low - 6, wire.text, FORWARD)
