"""How far down everything of a picture stands."""

from typing import NamedTuple

from jaxnet.drawing.placing import Places
from jaxnet.drawing.plan import Frame, Plan
from jaxnet.drawing.rows import above
from jaxnet.drawing.svg import GAP, LINE, PADDING
from jaxnet.drawing.wires import Run, levels_in_rows, runs_of

# A title of a frame, the line below a frame, a line's level below a row, and what leads to the next row.
TITLE, FOOT, LEVEL, TURN = LINE + 8, 8, LINE + 10, 34
BOX = 2 * LINE + PADDING


class Band(NamedTuple):
    """A row.

    Attributes:
      start: where it begins.
      top: of its boxes.
      foot: below its equations.
      lanes: below the frames within it, where lines run.
      turn: where an arrow goes back to the left, for the next row.
    """

    start: float
    top: float
    foot: float
    lanes: float
    turn: float

    @property
    def middle(self) -> float:
        return self.top + BOX / 2


class Heights(NamedTuple):
    """All of them.

    Attributes:
      bands: row by row.
      frames: where each begins and ends.
      runs: the level parts of lines.
      of_runs: where each of them is.
      end: of the picture.
    """

    bands: list[Band]
    frames: dict[Frame, tuple[float, float]]
    runs: list[Run]
    of_runs: list[float]
    end: float


def heights_of(plan: Plan, places: Places) -> Heights:
    """Row below row: titles of frames, parameters, boxes, equations, lines."""
    runs = runs_of(places.wires)
    levels = levels_in_rows(runs)
    bands: list[Band] = []
    tops: dict[Frame, float] = {}
    frames: dict[Frame, tuple[float, float]] = {}
    y = PADDING / 2
    last = max([*(spot.row for spot in places.spots), *(segment.row for segment in places.segments)], default=0)
    for row in range(last + 1):
        boxes = [plan.boxes[spot.number] for spot in places.spots if spot.row == row]
        borders = [border for border in places.borders if border.row <= row <= border.to]
        # Those of rows before this one have had their titles; those of rows behind it end further down.
        around = sum(border.row < row for border in borders)
        beginning = [border.frame for border in borders if border.row == row]
        tops |= {frame: y + TITLE * (frame.depth - around) for frame in beginning}
        start = y
        y += TITLE * max((frame.depth + 1 - around for frame in beginning), default=0)
        top = y + PADDING / 2 + LINE * max((len(above(box)) for box in boxes), default=0) + GAP
        foot = top + BOX + PADDING + LINE * max((len(box.formulas) for box in boxes), default=0)
        within = [border.frame for border in borders if border.ends is not None]
        y = _ends(within, tops, frames, foot)
        here = [level for level, run in zip(levels, runs, strict=True) if run.row == row]
        lanes = y + GAP
        y = lanes + GAP / 2 + LEVEL * max(here) if here else y
        of_rows = [border.frame for border in borders if border.ends is None and border.to == row]
        y = _ends(of_rows, tops, frames, y)
        bands.append(Band(start, top, foot, lanes, y + PADDING))
        y += TURN if row < last else 0
    of_runs = [bands[run.row].lanes + LEVEL * level for run, level in zip(runs, levels, strict=True)]
    return Heights(bands, frames, runs, of_runs, y + GAP)


def _ends(ending, tops, frames, y):
    """Puts the frames' lower lines below one another, the innermost first; returns what is below them all."""
    for depth in sorted({frame.depth for frame in ending}, reverse=True):
        y += FOOT
        frames |= {frame: (tops[frame], y) for frame in ending if frame.depth == depth}
    return y
