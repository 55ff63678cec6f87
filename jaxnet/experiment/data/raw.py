"""The cells of a file, column by column: as numbers where all are plain ones."""

import unicodedata
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data import lines
from jaxnet.experiment.data.cells import LARGEST
from jaxnet.experiment.data.columns import CATEGORY, Written, written_once
from jaxnet.experiment.devices.memory import require_memory

ROWS_BETWEEN_CHECKS = 2**12


def header_of(path: Path, form: lines.Form) -> list[str]:
    """The names of a file's columns.

    Raises:
      BadInput: when there are none, or one is there twice.
    """
    _, header = next(lines.rows(path, form), (0, []))
    if not header:
        raise BadInput(f"--data {path}: is empty; expected a line of column names, then a line for each example")
    # A Latin-1 file is any file: pictures and programs, too.
    for sign in "".join(header):
        if unicodedata.category(sign) == "Cc" and sign not in "\t\r\n":
            raise BadInput(
                f"--data {path}, line 1: expected names of columns, got the control character {sign!r}; save it as text"
            )
    header = [name.strip() for name in header]
    while len(header) > 1 and not header[-1]:
        header.pop()
    if form.names_rows:
        header = [lines.INDEX, *header]
    if not header[0]:
        # What pandas writes before a table of its own.
        header[0] = lines.INDEX
    first: dict[str, int] = {}
    for column, name in enumerate(header, start=1):
        if not name or first.setdefault(name, column) != column:
            what = f"{name!r} twice" if name else f"no name for column {column}"
            raise BadInput(f"--data {path}, line 1: expected a name of its own for every column, got {what}")
    return header


class Raw(NamedTuple):
    """What a file holds: of features plain numbers where all cells are, else the cells; of other columns texts."""

    numbers: dict[str, np.ndarray]
    written: dict[str, Written]
    texts: dict[str, Written]
    line_of: list[int]

    @classmethod
    def read(
        cls,
        path: Path,
        form: lines.Form,
        header: list[str],
        asked: list[str],
        as_texts: list[str],
        kinds: Mapping[str, str],
    ) -> "Raw":
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
        plain = {name: np.frombuffer(of) for name, of in numbers.items()}
        return cls(plain, written, {name: written_once(name, of) for name, of in texts.items()}, read)


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
