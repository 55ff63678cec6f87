"""What the columns of a table hold: numbers, dates, yes or no, or texts; and which of them tell nothing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxnet.experiment.console.errors import some
from jaxnet.experiment.data import cells
from jaxnet.experiment.data.cells import LARGEST
from jaxnet.experiment.data.labels import PARTS, are_few

NUMBER, DATE, BOOLEAN, CATEGORY = "number", "date", "yes or no", "category"
KINDS = (NUMBER, DATE, BOOLEAN, CATEGORY)
# With fewer rows nothing is taken for a name or a count of them.
LEAST_ROWS_NAMED = 20
# Texts that differ in more of a column's rows than this name the rows.
MOST_DIFFERENT = 0.5
# Of the cells that do not fit their column, so many are shown, and so much of each.
MOST_SHOWN = 3
LONGEST_SHOWN = 40


class Column(NamedTuple):
    """A column as a table holds it: as numbers, with NaN where a cell says nothing.

    Attributes:
      name: in the header.
      kind: 'number'; 'date', in days since 1970; 'yes or no', 1 or 0; or 'category', with a text's place in `texts`.
      texts: of a category, in the order of their letters.
    """

    name: str
    kind: str = NUMBER
    texts: tuple[str, ...] = ()


class Written(NamedTuple):
    """The cells of a column, each different one once.

    Attributes:
      name: in the header.
      texts: the cells that differ, without space around them.
      places: (m,) which of them each row has.
    """

    name: str
    texts: list[str]
    places: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """In how many rows each text stands."""
        return np.bincount(self.places, minlength=len(self.texts))


def written_once(name: str, texts: Iterable[str]) -> Written:
    """A column of these cells."""
    known: dict[str, int] = {}
    places = np.array([known.setdefault(text, len(known)) for text in texts])
    return Written(name, list(known), places)


class Odd(NamedTuple):
    """Cells that do not fit their column.

    Attributes:
      column: its name.
      rows: where they are, from 0.
      shown: the first few of them, as they are told.
      expected: what fits.
    """

    column: str
    rows: np.ndarray
    shown: tuple[str, ...]
    expected: str


def interpreted(written: Written, kind: str | None, *, decimal_comma: bool) -> tuple[Column, np.ndarray] | Odd:
    """What a column's cells are, as numbers (m,); or those that do not fit.

    Args:
      written: the column.
      kind: what it is known to be; None to find out.
      decimal_comma: whether 1,5 is one and a half.
    """
    numbers = _each(written.texts, lambda cell: cells.number(cell, decimal_comma=decimal_comma))
    says = ~np.array([cells.is_missing(text) for text in written.texts])
    kind = _kind(written, numbers, says) if kind is None else kind
    if kind == CATEGORY:
        texts = tuple(sorted(text for text, is_there in zip(written.texts, says, strict=True) if is_there))
        place = {text: float(k) for k, text in enumerate(texts)}
        return Column(written.name, CATEGORY, texts), _each(written.texts, place.get)[written.places]
    readers = {NUMBER: numbers, DATE: _each(written.texts, cells.days), BOOLEAN: _each(written.texts, cells.boolean)}
    values = readers[kind]
    wrong = says & ~(np.abs(values) <= LARGEST)
    if wrong.any():
        expected = {NUMBER: expected_numbers(written, wrong), DATE: "dates, as 2024-01-31", BOOLEAN: "yes or no"}
        return odd_cells(written, wrong, expected[kind])
    return Column(written.name, kind), np.where(says, values, np.nan)[written.places]


def _each(texts, read):
    values = (read(text) for text in texts)
    return np.array([np.nan if value is None else value for value in values], float)


def _kind(written, numbers, says):
    """Numbers where most cells are, so that the others are mistakes; but classes may be called K, 1 and 2."""
    texts = [text for text, is_there in zip(written.texts, says, strict=True) if is_there]
    counts, are_numbers = written.counts[says], ~np.isnan(numbers[says])
    if are_numbers.all():
        return NUMBER
    for kind, read in ((BOOLEAN, cells.boolean), (DATE, cells.days)):
        if all(read(text) is not None for text in texts):
            return kind
    few = are_few(len(texts), int(counts.sum())) and counts.min() >= PARTS
    return NUMBER if 2 * counts[are_numbers].sum() >= counts.sum() and not few else CATEGORY


def odd_cells(written: Written, wrong: np.ndarray, expected: str) -> Odd:
    """Those of a column that are wrong, as a mask of its texts."""
    rows = np.flatnonzero(wrong[written.places])
    first = [written.texts[written.places[row]] for row in rows[:MOST_SHOWN]]
    shown = tuple(repr(text[:LONGEST_SHOWN]) if text else "an empty cell" for text in first)
    return Odd(written.name, rows, shown, expected)


def expected_numbers(written: Written, wrong: np.ndarray) -> str:
    """What is expected in place of the first of the wrong cells, of numbers."""
    first = written.texts[written.places[np.flatnonzero(wrong[written.places])[0]]]
    value = cells.plain_number(first)
    is_large = value is not None and LARGEST < abs(value) < np.inf
    return f"numbers up to {LARGEST:g}" if is_large else "finite numbers"


def told(odd: Sequence[Odd], lines: Sequence[int]) -> str:
    """All cells that do not fit, by column, with their rows and lines."""

    def of(one):
        places = (
            f"{text} in row {row + 1} (line {lines[row]})" for text, row in zip(one.shown, one.rows, strict=False)
        )
        more = f" and {len(one.rows) - MOST_SHOWN} more" if len(one.rows) > MOST_SHOWN else ""
        return f"column {one.column!r}: expected {one.expected}, got {', '.join(places)}{more}"

    return "; ".join(map(of, odd))


def why_left_out(column: Column, values: np.ndarray) -> str | None:
    """Why a column tells nothing, if so: it is empty, or names the rows."""
    known = values[~np.isnan(values)]
    if not len(known):
        return "is empty"
    if len(known) < LEAST_ROWS_NAMED:
        return None
    different = len(np.unique(known))
    if column.kind == CATEGORY and different > MOST_DIFFERENT * len(known):
        return f"names the rows: {different} different texts in {len(known)} rows"
    if column.kind == NUMBER and _is_called_id(column.name) and different == len(values):
        return "is an id: its numbers all differ"
    return None


def _is_called_id(name):
    last = name.replace(" ", "_").replace("-", "_").rsplit("_", 1)[-1]
    return (
        name == "Unnamed: 0"
        or last.lower() in ("id", "ids", "uuid", "guid", "index")
        or (len(last) > 2 and last.endswith(("Id", "ID")))
    )


def listed(left_out: Mapping[str, str]) -> str:
    """Columns that are left out and why, for a message."""
    return some([f"{name!r} ({why})" for name, why in left_out.items()], 5)
