"""Which boxes of a plan stand in which row: as many as a page is wide, and those in a frame together, if they fit."""

from typing import NamedTuple

from jaxnet.drawing.plan import Box, Frame, Plan
from jaxnet.drawing.svg import GAP, PADDING, width_of

# Of what stands in a row: the whole picture can be read where it is 800 pixels wide.
LIMIT = 860


class Rows(NamedTuple):
    """The number of the first box of each row; and the frames that have rows of their own."""

    starts: list[int]
    wide: frozenset[Frame]


def rows_of(plan: Plan) -> Rows:
    """A row ends where the next box has no room; and before and after a frame that has none in any row."""
    starts, wide = [0], set[Frame]()
    x = segment_width(plan, plan.inputs)
    for number in range(len(plan.boxes)):
        if any(frame.end == number for frame in wide):
            starts, x = _with(starts, number), 0
        for frame in frames_from(plan, number):
            size = sum(_size(plan, k, wide) for k in range(frame.first, frame.end))
            if x + size <= LIMIT:
                break
            x = x if number in starts else 0
            starts = _with(starts, number)
            if x + size <= LIMIT:
                break
            wide.add(frame)
        size = _size(plan, number, wide)
        if x + size > LIMIT and number not in starts:
            starts, x = _with(starts, number), 0
        x += size
    return Rows(starts, frozenset(wide))


def frames_from(plan: Plan, number: int) -> list[Frame]:
    """The frames that begin with a box, outermost first."""
    return sorted((frame for frame in plan.frames if frame.first == number), key=lambda frame: frame.depth)


def before(plan: Plan, number: int) -> tuple[int, ...]:
    """The edges that lie between a box and the one before it."""
    return plan.boxes[number - 1].gives if number else plan.inputs


def wired(plan: Plan, number: int) -> list[int]:
    """The edges that a box takes from further away."""
    return [edge for edge in plan.boxes[number].takes if edge not in before(plan, number)]


def above(box: Box) -> list[str]:
    """What is written above a box: its parameters, and their gradients."""
    return [
        text
        for edge in box.learnt
        for text in (f"{'shared ' if edge.shared else ''}{edge.name} {edge.shape}", f"d{edge.name} {edge.shape}")
    ]


def inset(plan: Plan, number: int) -> int:
    """What a box is wider by, for the lines that come in from below beside its equations."""
    lines = len(wired(plan, number))
    return PADDING * (lines + 1) if lines else 0


def box_width(plan: Plan, number: int) -> float:
    box = plan.boxes[number]
    return max(map(width_of, (box.title, *above(box), *box.formulas))) + 2 * PADDING + inset(plan, number)


def segment_width(plan: Plan, numbers: tuple[int, ...]) -> float:
    """What an arrow takes between two boxes, by what is written on it."""
    if not numbers:
        return 0.0
    edges = [plan.edges[number] for number in numbers]
    return max(map(width_of, (ahead_text(edges), back_text(edges)))) + 2 * PADDING


def ahead_text(edges):
    return ", ".join(f"{edge.name} {edge.shape}" for edge in edges)


def back_text(edges):
    """What flows back: the loss is where derivatives begin, and integers have none."""
    shapes = [f"d{edge.name} {edge.shape}" for edge in edges if edge.differentiable]
    return "1 per example" if edges[0].name == "L" else ", ".join(shapes) or "no derivative"


def _with(starts, number):
    return starts if number in starts else [*starts, number]


def _size(plan, number, wide):
    """A box, the arrow behind it, and what frames take that begin or end here."""
    box = plan.boxes[number]
    ends = [frame for frame in plan.frames if number in (frame.first, frame.end - 1) and frame not in wide]
    apart = number and not any(edge in before(plan, number) for edge in box.takes)
    return (
        box_width(plan, number) + segment_width(plan, box.gives) + 2 * PADDING * len(ends) + (2 * GAP if apart else 0)
    )
