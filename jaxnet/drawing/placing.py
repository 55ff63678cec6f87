"""Where in its row everything of a plan stands; how far down is another question."""

from dataclasses import dataclass, field
from typing import NamedTuple

from jaxnet.drawing.plan import Frame, Plan
from jaxnet.drawing.rows import before, box_width, frames_from, rows_of, segment_width, wired
from jaxnet.drawing.svg import GAP, PADDING, width_of
from jaxnet.drawing.wires import Wire


class Spot(NamedTuple):
    """A box: its number in the plan, its row, and where it begins."""

    number: int
    row: int
    left: float
    width: float


class Segment(NamedTuple):
    """An arrow between boxes, with what is written on it.

    Attributes:
      numbers: of edges.
      row, left, centre, right: where.
      goes_on: whether it leads to the first box of the next row.
    """

    numbers: tuple[int, ...]
    row: int
    left: float
    centre: float
    right: float
    goes_on: bool = False


class Border(NamedTuple):
    """A frame: within a row, from left to right; or, without these, around whole rows."""

    frame: Frame
    row: int
    to: int
    ends: tuple[float, float] | None


@dataclass
class Places:
    """All of them, measured from where rows begin; and the widest row's end."""

    spots: list[Spot] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    borders: list[Border] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    right: float = 0.0


def places_in(plan: Plan) -> Places:
    """Boxes from left to right, row after row."""
    return _Placing(plan).places


class _Placing:
    """A pen that goes along the rows."""

    def __init__(self, plan):
        self.plan, self.rows, self.places = plan, rows_of(plan), Places()
        # Where each edge is drawn: the row, and the middle of its arrow.
        self.drawn: dict[int, tuple[int, float]] = {}
        self.row, self.left, self.closing = 0, 0.0, 0.0
        self.begun: dict[Frame, float] = {}
        for number in range(len(plan.boxes)):
            self.lead_to(number)
            self.box(number)
            self.close(number + 1)
        self.end()
        for frame in self.rows.wide:
            rows = [spot.row for spot in self.places.spots if frame.first <= spot.number < frame.end]
            self.places.borders.append(Border(frame, rows[0], rows[-1], None))

    def lead_to(self, number):
        """The arrow from what is before a box, and the beginnings of frames."""
        numbers, takes = before(self.plan, number), self.plan.boxes[number].takes
        follows = any(edge in numbers for edge in takes)
        opening = [frame for frame in frames_from(self.plan, number) if frame not in self.rows.wide]
        room = PADDING * len(opening)
        if number and number in self.rows.starts:
            self.segment(numbers, 0, goes_on=follows)
            self.row, self.left = self.row + 1, float(room)
        else:
            self.segment(numbers, room if follows else 0)
            self.left += 0 if follows else 2 * GAP + room
        for k, frame in enumerate(opening):
            self.begun[frame] = self.left - PADDING * (len(opening) - k - 0.5)

    def segment(self, numbers, opening, *, goes_on=False, again=False):
        """An arrow, with place for the lines of frames that end before it or begin behind it."""
        left = self.left
        width = segment_width(self.plan, numbers)
        self.left = right = left + self.closing + width + opening
        if numbers:
            centre = left + self.closing + width / 2
            self.places.segments.append(Segment(tuple(numbers), self.row, left, centre, right, goes_on))
            if not again:
                self.drawn |= dict.fromkeys(numbers, (self.row, centre))
        self.closing = 0.0
        self.places.right = max(self.places.right, right)

    def box(self, number):
        box, width = self.plan.boxes[number], box_width(self.plan, number)
        # Lines come in from below, beside the equations; the one from nearby first, so that they do not cross.
        numbers = sorted(wired(self.plan, number), key=lambda edge: self.drawn[edge], reverse=True)
        of_sum = self.plan.edges[box.gives[0]].name if box.title == "+" else ""
        self.wire(numbers, self.left + PADDING, PADDING, of_sum)
        self.places.spots.append(Spot(number, self.row, self.left, width))
        self.left += width
        self.places.right = max(self.places.right, self.left)

    def wire(self, numbers, end, apart, of_sum):
        """Lines to one place, from where these edges are drawn."""
        for position, number in enumerate(numbers):
            edge, (row, start) = self.plan.edges[number], self.drawn[number]
            back = f", and d{of_sum or edge.name} on the way back" if edge.differentiable else ""
            self.places.wires.append(Wire(row, start, self.row, end + apart * position, f"{edge.name}{back}"))

    def close(self, number):
        """The frames that end before a box, innermost first."""
        for frame in sorted(self.begun, key=lambda frame: -frame.depth):
            if frame.end == number:
                start = self.begun[frame]
                end = max(self.left + self.closing + PADDING / 2, start + width_of(frame.title) + 2 * PADDING)
                self.places.borders.append(Border(frame, self.row, self.row, (start, end)))
                self.closing = end - self.left + PADDING / 2
                self.places.right = max(self.places.right, end)

    def end(self):
        """The outputs, once more where they are not those of the last box."""
        last = self.plan.boxes[-1].gives if self.plan.boxes else self.plan.inputs
        self.segment(last, 0)
        if not set(self.plan.outputs) <= set(last):
            self.left += 2 * GAP
            start = self.left
            self.segment(self.plan.outputs, 0, again=True)
            self.wire(self.plan.outputs, (start + self.left) / 2, 0, "")
