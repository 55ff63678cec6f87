"""Reading .csv and .tsv files, plain or gzipped, with the place of every mistake."""

import csv
import gzip
import math
import zlib
from array import array
from pathlib import Path

import numpy as np

from jaxnet.experiment.console.errors import BadInput, did_you_mean, some
from jaxnet.experiment.data.files import LARGEST
from jaxnet.experiment.data.labels import LONGEST_NAME, PARTS, are_few
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.table import Table
from jaxnet.experiment.devices.memory import require_memory

# By the ending of the file's name, and what separators are called.
SEPARATORS = {".csv": ",", ".tsv": "\t"}
NAMES = {",": "commas", "\t": "tabs", ";": "semicolons"}
# Among numbers these are no class but a target that is not there; where all targets are texts, they are texts too.
MISSING = {"na", "n/a", "#n/a", "nan", "null", "none", "nil", "missing", "?", "-", "."}
# Characters. What a gzipped file unpacks to has no other limit.
LONGEST_LINE = 2**24
ROWS_BETWEEN_CHECKS = 2**12


def is_one(path: Path) -> bool:
    """Whether the file's name says that this reads it."""
    return _ending(path) in SEPARATORS


def read(path: Path, targets: tuple[str, ...], *, with_target: bool = True) -> Table:
    """A table with a header line of column names, every feature a finite number."""
    rows = _rows(path)
    header = _header(path, rows)
    targets = tuple(dict.fromkeys(targets))
    if with_target and not targets:
        raise BadInput(f"--target: {path} needs a target column; its columns are {some(header)}")
    for target in targets:
        if with_target and target not in header:
            near = did_you_mean(target, header)
            raise BadInput(f"--target: {path} has no column {target!r}{near}; its columns are {some(header)}")
    present = [target for target in targets if target in header]
    features = tuple(name for name in header if name not in present)
    if not features:
        raise BadInput(f"--data {path}: expected at least one column beside the target")

    x, texts, lines = _values(path, header, features, present, rows)
    y = names = None
    try:
        if present:
            y, names = _targets(texts, present, [(path, row, line) for row, line in enumerate(lines)])
    except BadInput:
        if with_target:
            raise
    return Table(str(path), InMemory(x), y, features, targets, names=names)


def _values(path, header, features, targets, rows):
    """Features (m, features), texts of the targets (m, targets), and each row's line."""
    place_of = {name: column for column, name in enumerate(header)}
    columns, target_columns = [place_of[name] for name in features], [place_of[name] for name in targets]
    numbers = array("d")
    texts: list[list[str]] = []
    lines: list[int] = []
    for line, cells in rows:
        place = path, len(lines), line
        if len(cells) != len(header):
            raise _bad(place, None, f"expected {len(header)} cells as in the first line, got {len(cells)}")
        numbers.extend(_number(cells[column], place, header[column]) for column in columns)
        texts.append([cells[column].strip() for column in target_columns])
        lines.append(line)
        if len(lines) % ROWS_BETWEEN_CHECKS == 0:
            require_memory(path, (len(lines), len(header)))
    if not lines:
        raise BadInput(f"--data {path}: has no rows below the column names")
    return np.frombuffer(numbers).reshape(len(lines), len(columns)), texts, lines


def _header(path, rows):
    _, header = next(rows, (0, []))
    if not header:
        raise BadInput(f"--data {path}: is empty; expected a line of column names, then a line for each example")
    header = [name.strip() for name in header]
    separator = SEPARATORS[_ending(path)]
    for other, named in NAMES.items():
        if len(header) == 1 and other in header[0]:
            expected = NAMES[separator]
            remedy = f"save it with {expected}" + (", or name it .tsv" if other == "\t" else "")
            raise BadInput(f"--data {path}: expected cells separated by {expected}, got {named}; {remedy}")
    first: dict[str, int] = {}
    for column, name in enumerate(header, start=1):
        if not name or first.setdefault(name, column) != column:
            what = f"{name!r} twice" if name else f"no name for column {column}"
            raise BadInput(f"--data {path}, line 1: expected a name of its own for every column, got {what}")
    return header


def _rows(path):
    """(line, cells) of every line that is not blank; the first, with the column names, may be."""
    read = 0
    try:
        opener = gzip.open if path.suffix.lower() == ".gz" else open
        with opener(path, "rt", newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(_lines(path, file), delimiter=SEPARATORS[_ending(path)], strict=True)
            for cells in reader:
                if cells or not read:
                    yield reader.line_num, cells
                read = reader.line_num
    except UnicodeDecodeError:
        raise BadInput(f"--data {path}: expected text in UTF-8; save it in that encoding") from None
    except csv.Error as error:
        what = "a quoted cell is not closed" if "end of data" in str(error) else str(error)
        expected = f"expected values separated by {NAMES[SEPARATORS[_ending(path)]]}"
        raise BadInput(f"--data {path}, from line {read + 1} on: {expected}, but {what}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"--data {path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _lines(path, file):
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise BadInput(f"--data {path}, line {number}: expected fewer than {LONGEST_LINE:,} characters in a line")
        yield line


def _ending(path):
    return (Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix).lower()


def _bad(place, column, what):
    path, row, line = place
    where = f"--data {path}, row {row + 1} (line {line})" + ("" if column is None else f", column {column!r}")
    return BadInput(f"{where}: {what}")


def _number(cell, place, column):
    value = _as_number(cell)
    if value is None or not abs(value) <= LARGEST:
        what = "an empty cell" if not cell.strip() else repr(cell.strip()[:40])
        expected = "a finite number" if value is None or not math.isfinite(value) else f"a number up to {LARGEST:g}"
        raise _bad(place, column, f"expected {expected}, got {what}")
    return value


def _as_number(cell):
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _targets(texts, targets, places):
    """Texts of classes (m,) and None, or numbers (m, targets) and the texts that they were, if there is one target."""
    for row, place in zip(texts, places, strict=True):
        for text, target in zip(row, targets, strict=True):
            if not text:
                raise _bad(place, target, "expected a target, got an empty cell")
            if len(text) > LONGEST_NAME:
                expected = f"expected a target of at most {LONGEST_NAME} characters, got {len(text)} characters"
                raise _bad(place, target, expected)
    names = np.array([text for (text,) in texts]) if len(targets) == 1 else None
    if names is not None and _are_texts(names.tolist(), targets[0], places):
        return names, None
    y = np.array(
        [
            [_number(text, place, target) for text, target in zip(row, targets, strict=True)]
            for row, place in zip(texts, places, strict=True)
        ]
    )
    return y, names


def _are_texts(column, target, places):
    """Whether a column names classes by texts. Of texts among numbers, or the other way, the few may be mistakes.

    Classes may be called K, 1 and 2. A single 'NA' among numbers, or 'nan' among texts, is a target that is missing.
    """
    number = [_as_number(text) is not None for text in column]
    if not any(number) or all(number):
        return not any(number)
    wrong = next((row for row, text in enumerate(column) if text.lower() in MISSING), None)
    if wrong is None:
        values, counts = np.unique(column, return_counts=True)
        if are_few(len(values), len(column)) and counts.min() >= PARTS:
            return True
    mostly_numbers = 2 * sum(number) >= len(number)
    if wrong is None:
        wrong = number.index(not mostly_numbers)
    expected = "a finite number" if mostly_numbers else "a text, as in most rows"
    raise _bad(places[wrong], target, f"expected {expected}, got {column[wrong][:40]!r}")
