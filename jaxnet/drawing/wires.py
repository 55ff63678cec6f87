"""Lines below a row, from where an edge is drawn to where it is taken again: which runs above which."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxnet.drawing.svg import PADDING, width_of

# Between a text and a line that goes up or down beside it.
APART = 4


class Wire(NamedTuple):
    """From an edge in one row to a box in the same row or another, where it goes by the left margin.

    Attributes:
      row, start: where the edge is drawn.
      to, end: where it is taken.
      text: what it is.
    """

    row: int
    start: float
    to: int
    end: float
    text: str


class Run(NamedTuple):
    """The level part of a wire in one row, with the text if there is one.

    Attributes:
      wire: its number.
      row: where.
      left, right: its ends.
      uprights: where lines come down to it, or go up from it.
      text: on it.
    """

    wire: int
    row: int
    left: float
    right: float
    uprights: tuple[float, ...]
    text: str

    @property
    def span(self) -> tuple[float, float]:
        """What it takes of the width, with the text, which stands beside a line that is too short for it."""
        width = width_of(self.text) + 2 * APART if self.text else 0
        return self.left, self.right if self.right - self.left >= width else self.right + width

    def text_at(self, crossing: Sequence[float]) -> float:
        """The middle of the text: as near to that of the line as no other line goes through the text, from below."""
        half = width_of(self.text) / 2
        (left, right), middle = self.span, (self.left + self.right) / 2
        steps = int(right - left - 2 * half) // 2
        places = sorted((left + half + 2 * step for step in range(steps + 1)), key=lambda place: abs(place - middle))
        free = (place for place in places if not any(abs(place - x) < half + APART for x in crossing))
        return next(free, middle)


def runs_of(wires: Sequence[Wire]) -> list[Run]:
    """A run for each wire within a row; for one to another row a run in each of the two, from the left margin."""
    runs = []
    for number, wire in enumerate(wires):
        if wire.row == wire.to:
            ends = wire.start, wire.end
            runs.append(Run(number, wire.row, min(ends), max(ends), ends, wire.text))
        else:
            runs.append(Run(number, wire.row, 0.0, wire.start, (wire.start,), wire.text))
            runs.append(Run(number, wire.to, 0.0, wire.end, (wire.end,), ""))
    return runs


def levels_of(spans: Sequence[tuple[float, float]], apart: int = PADDING) -> list[int]:
    """For each span how far away: the shorter the nearer, and none on another."""
    levels: dict[int, int] = {}
    for number in sorted(range(len(spans)), key=lambda number: spans[number][1] - spans[number][0]):
        left, right = spans[number]
        taken = {levels[k] for k in levels if left < spans[k][1] + apart and spans[k][0] < right + apart}
        levels[number] = min(set(range(len(spans))) - taken)
    return [levels[number] for number in range(len(spans))]


def levels_in_rows(runs: Sequence[Run]) -> list[int]:
    """For each run how far below its row."""
    levels = [0] * len(runs)
    for row in {run.row for run in runs}:
        here = [number for number, run in enumerate(runs) if run.row == row]
        for number, level in zip(here, levels_of([runs[number].span for number in here]), strict=True):
            levels[number] = level
    return levels
