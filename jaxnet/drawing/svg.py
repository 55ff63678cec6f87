"""What an SVG is drawn with here: text in a font of one width, so that the place it takes is known, and arrows."""

import xml.etree.ElementTree as ET
from pathlib import Path

FORWARD, BACK, TINT, INK = "#08306B", "#B33C00", "#EEF3F8", "#222222"
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
        Path(path).write_bytes(self.encode())


def add_arrowheads(svg):
    defs = ET.SubElement(svg, "defs")
    for name, colour in (("forward", FORWARD), ("back", BACK)):
        shape = {"id": name, "viewBox": "0 0 10 10", "refX": "9", "refY": "5", "orient": "auto-start-reverse"}
        marker = ET.SubElement(defs, "marker", {**shape, "markerWidth": "6", "markerHeight": "6"})
        ET.SubElement(marker, "path", {"d": "M 0 0 L 10 5 L 0 10 z", "fill": colour})


def add_arrow(svg, start, end, y, colour, head):
    line = {"x1": f"{start:.1f}", "x2": f"{end:.1f}", "y1": f"{y:.1f}", "y2": f"{y:.1f}", "stroke": colour}
    dashes = {"stroke-dasharray": "5 3"} if head == "back" else {}
    ET.SubElement(svg, "line", {**line, **dashes, "stroke-width": "1.6", "marker-end": f"url(#{head})"})


def add_path(svg, path, colour, head):
    line = {"fill": "none", "stroke": colour, "stroke-width": "1.6", "marker-end": f"url(#{head})"}
    ET.SubElement(svg, "path", {"d": path, **line, **({"stroke-dasharray": "5 3"} if head == "back" else {})})


def add_text(svg, x, y, text, colour, weight="normal"):
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "fill": colour, "text-anchor": "middle", "font-weight": weight}
    ET.SubElement(svg, "text", place).text = text


def width_of(text):
    return CHARACTER * SIZE * len(text)
