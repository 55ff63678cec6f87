"""Reading .csv and .tsv files, plain or gzipped, with the place of every mistake."""

from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jaxnet.experiment.console.errors import BadInput, did_you_mean, some
from jaxnet.experiment.data import columns, lines, rows, targets
from jaxnet.experiment.data.cells import LARGEST
from jaxnet.experiment.data.columns import CATEGORY, Column, Odd, Written
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.table import Table
from jaxnet.experiment.devices.memory import require_memory

ROWS_BETWEEN_CHECKS = 2**12


class Selection(NamedTuple):
    """Which columns features are taken from, and as what.

    Attributes:
      drop: left out.
      only: all but these are left out, and these in no case; empty for all.
      kinds: of columns that are known already, by name.
      ignored: left out where they are there.
      weights: the column of what each example counts, if any.
      group: the column that says which rows belong together, if any.
    """

    drop: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    kinds: Mapping[str, str] = MappingProxyType({})
    ignored: tuple[str, ...] = ()
    weights: str | None = None
    group: str | None = None

    @property
    def of_rows(self) -> tuple[str, ...]:
        """The columns that say something of each row, and are no features."""
        return tuple(name for name in (self.weights, self.group) if name is not None)


ALL = Selection()


def read(path: Path, named: tuple[str, ...], selection: Selection = ALL, *, with_target: bool = True) -> Table:
    """A table with a header line of column names.

    Args:
      path: of the file.
      named: the target columns.
      selection: of the others.
      with_target: whether the examples must come with targets.

    Raises:
      BadInput: naming every cell that does not fit its column.
    """
    form = lines.form_of(path)
    header = _header(path, form)
    named = tuple(dict.fromkeys(named))
    if with_target:
        if not named:
            raise BadInput(f"--target: {path} needs a target column; its columns are {some(header)}")
        _require_columns(path, header, named, selection)
    present = [target for target in named if target in header]
    others = {*present, *selection.drop, *selection.ignored, *selection.of_rows}
    asked = [name for name in selection.only or header if name not in others]
    if not asked:
        raise BadInput(f"--data {path}: expected at least one column beside the target")
    as_texts = [*present, *(name for name in selection.of_rows if name in header)]
    raw = _Raw.read(path, form, header, asked, as_texts, selection.kinds)
    x, found, left_out = _features(path, form, raw, asked, selection)
    y = names = None
    try:
        if present:
            y, names = targets.read(raw.texts_of(present), present, raw.places(path))
    except BadInput:
        if with_target:
            raise
    of_rows = rows.read(raw.texts, selection.weights, selection.group, decimal_comma=form.separator == ";")
    if of_rows.odd and with_target:
        raise BadInput(f"--data {path}, {columns.told(of_rows.odd, raw.line_of)}; mend the cells")
    features = tuple(column.name for column in found)
    return Table(
        str(path),
        InMemory(x),
        y,
        features,
        named,
        names=names,
        columns=found,
        left_out=left_out,
        notes=(*_notes(form), *rows.notes(of_rows.weights, selection.weights)),
        weights=of_rows.weights,
        groups=of_rows.groups,
        beside=tuple(name for name in header if name not in (*features, *present)),
    )


def _notes(form):
    """What was found out of the file's form that its reader may want to know."""
    latin = "its text is not UTF-8 and was read as Latin-1; save it as UTF-8 if letters look wrong"
    return (latin,) if form.encoding == "latin-1" else ()


def _require_columns(path, header, named, selection):
    """That the columns which the options name are there."""
    listed = f"its columns are {some(header)}"
    weights, group = (() if name is None else (name,) for name in (selection.weights, selection.group))
    of_options = {"--target": named, "--drop": selection.drop, "--features": selection.only}
    of_options |= {"--weights": weights, "--group": group}
    for option, asked in of_options.items():
        for name in asked:
            if name not in header:
                raise BadInput(f"{option}: {path} has no column {name!r}{did_you_mean(name, header)}; {listed}")
    for option, asked in (("--weights", weights), ("--group", group)):
        for name in asked:
            if name in (*named, *selection.only):
                raise BadInput(f"{option}: {name!r} is given as {'--target' if name in named else '--features'} too")


class _Raw(NamedTuple):
    """What a file holds: of features plain numbers where all cells are, else the cells; of other columns texts."""

    numbers: dict[str, np.ndarray]
    written: dict[str, Written]
    texts: dict[str, list[str]]
    line_of: list[int]

    def texts_of(self, names: list[str]) -> list[tuple[str, ...]]:
        """Of each row, the texts of some columns."""
        return list(zip(*(self.texts[name] for name in names), strict=True))

    def places(self, path: Path) -> list[Any]:
        return [(path, row, line) for row, line in enumerate(self.line_of)]

    @classmethod
    def read(
        cls,
        path: Path,
        form: lines.Form,
        header: list[str],
        asked: list[str],
        as_texts: list[str],
        kinds: Mapping[str, str],
    ) -> "_Raw":
        place_of = {name: place for place, name in enumerate(header)}
        numbers = {name: array("d") for name in asked if kinds.get(name) != CATEGORY}
        texts: dict[str, list[str]] = {name: [] for name in as_texts}
        read: list[int] = []
        for block in _blocks(path, form, header):
            read += [line for line, _ in block]
            for name, of_column in texts.items():
                of_column += [cells_of[place_of[name]].strip() for _, cells_of in block]
            require_memory(path, (len(read), len(header)))
            for name in list(numbers):
                values = _plain([cells_of[place_of[name]] for _, cells_of in block])
                if values is None:
                    del numbers[name]
                else:
                    numbers[name].extend(values)
        if not read:
            raise BadInput(f"--data {path}: has no rows below the column names")
        open_ones = [name for name in asked if name not in numbers]
        written = _written(path, form, header, open_ones) if open_ones else {}
        return cls({name: np.frombuffer(of) for name, of in numbers.items()}, written, texts, read)


def _plain(column):
    """A block's cells as numbers, or None where they are not all plain and finite ones."""
    try:
        values = list(map(float, column))
    except ValueError:
        return None
    fits = all(-LARGEST <= value <= LARGEST for value in values)
    return values if fits and not any("_" in cell for cell in column) else None


def _written(path, form, header, names):
    """The cells of some columns, in a second pass through the file."""
    place_of = [header.index(name) for name in names]
    texts: list[dict[str, int]] = [{} for _ in names]
    places = [array("q") for _ in names]
    for block in _blocks(path, form, header):
        for k, place in enumerate(place_of):
            known = texts[k]
            places[k].extend(known.setdefault(cells_of[place].strip(), len(known)) for _, cells_of in block)
    return {
        name: Written(name, list(known), np.frombuffer(of, np.int64))
        for name, known, of in zip(names, texts, places, strict=True)
    }


def _blocks(path: Path, form: lines.Form, header: list[str]) -> Iterator[list[tuple[int, list[str]]]]:
    """The lines below the header, some thousands at a time, each with as many cells as the header has."""
    block: list[tuple[int, list[str]]] = []
    below = lines.rows(path, form)
    next(below, None)
    for row, (line, of_line) in enumerate(below, start=1):
        # What a spreadsheet leaves behind: cells that the header does not name, with nothing in them.
        while len(of_line) > len(header) and not of_line[-1].strip():
            of_line.pop()
        if len(of_line) != len(header):
            expected = f"expected {len(header)} cells as in the first line, got {len(of_line)}"
            raise BadInput(f"--data {path}, row {row} (line {line}): {expected}")
        block.append((line, of_line))
        if len(block) == ROWS_BETWEEN_CHECKS:
            yield block
            block = []
    if block:
        yield block


def _features(path, form, raw, asked, selection):
    """The features (m, columns), what each column is, and why others are left out."""
    found: list[tuple[Column, np.ndarray]] = []
    odd: list[Odd] = []
    left_out: dict[str, str] = {}
    for name in asked:
        if name in raw.numbers:
            of_column: Any = Column(name), raw.numbers[name]
        else:
            kind = selection.kinds.get(name)
            of_column = columns.interpreted(raw.written[name], kind, decimal_comma=form.separator == ";")
        if isinstance(of_column, Odd):
            odd.append(of_column)
            continue
        why = None if name in selection.only or name in selection.kinds else columns.why_left_out(*of_column)
        if why is None:
            found.append(of_column)
        else:
            left_out[name] = why
    if odd:
        # What a model was trained with, it needs again.
        otherwise = "" if selection.kinds else ", or give --categorical or --drop with the column"
        remedy = f"mend the cells{otherwise}"
        raise BadInput(f"--data {path}, {columns.told(odd, raw.line_of)}; {remedy}")
    if not found:
        raise BadInput(f"--data {path}: no column is left to learn from: {columns.listed(left_out)}")
    return np.stack([values for _, values in found], axis=1), tuple(column for column, _ in found), left_out


def _header(path, form):
    _, header = next(lines.rows(path, form), (0, []))
    if not header:
        raise BadInput(f"--data {path}: is empty; expected a line of column names, then a line for each example")
    header = [name.strip() for name in header]
    while len(header) > 1 and not header[-1]:
        header.pop()
    if not header[0]:
        # What pandas writes before a table of its own.
        header[0] = "index"
    first: dict[str, int] = {}
    for column, name in enumerate(header, start=1):
        if not name or first.setdefault(name, column) != column:
            what = f"{name!r} twice" if name else f"no name for column {column}"
            raise BadInput(f"--data {path}, line 1: expected a name of its own for every column, got {what}")
    return header
