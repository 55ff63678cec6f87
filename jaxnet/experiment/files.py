"""Reading .csv, .npz and .npy files, with the place of every mistake."""

import csv
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.experiment.errors import BadInput, did_you_mean, some
from jaxnet.experiment.mapped import in_blocks, map_npy, quietly
from jaxnet.experiment.memory import require_memory
from jaxnet.experiment.table import Table

# Squares of larger numbers overflow.
LARGEST = 1e150
# Of a class: NumPy gives each the room of the longest.
LONGEST_NAME = 1000


def read_csv(path: Path, targets: tuple[str, ...], *, with_target: bool = True) -> Table:
    """A table with a header line of column names, comma-separated, every feature a finite number."""
    header, rows, lines = _read_cells(path)
    targets = tuple(dict.fromkeys(targets))
    if with_target and not targets:
        raise BadInput(f"--target: {path} needs a target column; its columns are {some(header)}")
    for target in targets:
        if with_target and target not in header:
            near = did_you_mean(target, header)
            raise BadInput(f"--target: {path} has no column {target!r}{near}; its columns are {some(header)}")
    present = [target for target in targets if target in header]
    features = {name: position for position, name in enumerate(header) if name not in present}
    if not features:
        raise BadInput(f"--data {path}: expected at least one column beside the target")

    x = np.empty((len(rows), len(features)))
    for row, (cells, line) in enumerate(zip(rows, lines, strict=True)):
        for column, (name, position) in enumerate(features.items()):
            x[row, column] = _number(cells[position], path, row, line, name)
    try:
        y = _read_targets(path, header, rows, lines, present) if present else None
    except BadInput:
        if with_target:
            raise
        y = None
    return Table(str(path), x, y, tuple(features), tuple(targets))


def _read_cells(path):
    header: list[str] = []
    numbered: list[tuple[list[str], int]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            numbered.extend((row, reader.line_num) for row in reader if row)
    except UnicodeDecodeError:
        raise BadInput(f"--data {path}: expected text in UTF-8; save it in that encoding") from None
    except csv.Error as error:
        start = 1 + (numbered[-1][1] if numbered else len(header[:1]))
        what = "a quoted cell is not closed" if "end of data" in str(error) else str(error)
        raise BadInput(f"--data {path}, from line {start} on: expected comma-separated values, but {what}") from None
    except OSError as error:
        raise BadInput(f"--data {path}: cannot be read ({error.strerror})") from None
    if not header:
        raise BadInput(f"--data {path}: is empty; expected a line of column names, then a line for each example")
    _check_header(path, header)
    if not numbered:
        raise BadInput(f"--data {path}: has no rows below the column names")
    for row, (cells, line) in enumerate(numbered, start=1):
        if len(cells) != len(header):
            raise BadInput(
                f"--data {path}, row {row} (line {line}): expected {len(header)} cells as in the first line, "
                f"got {len(cells)}"
            )
    return header, [row for row, _ in numbered], [line for _, line in numbered]


def _check_header(path, header):
    for separator, named in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            raise BadInput(f"--data {path}: expected cells separated by commas, got {named}; save it with commas")
    first: dict[str, int] = {}
    for column, name in enumerate(header, start=1):
        if not name or first.setdefault(name, column) != column:
            what = f"{name!r} twice" if name else f"no name for column {column}"
            raise BadInput(f"--data {path}, line 1: expected a name of its own for every column, got {what}")


def _number(cell, path, row, line, column):
    value = _as_number(cell)
    if value is None or not abs(value) <= LARGEST:
        what = "an empty cell" if not cell.strip() else repr(cell.strip()[:40])
        where = f"--data {path}, row {row + 1} (line {line}), column {column!r}"
        expected = "a finite number" if value is None or not math.isfinite(value) else f"a number up to {LARGEST:g}"
        raise BadInput(f"{where}: expected {expected}, got {what}")
    return value


def _as_number(cell):
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _read_targets(path, header, rows, lines, targets):
    columns = [header.index(target) for target in targets]
    for row, (cells, line) in enumerate(zip(rows, lines, strict=True), start=1):
        for column in columns:
            if not cells[column].strip():
                where = f"--data {path}, row {row} (line {line}), column {header[column]!r}"
                raise BadInput(f"{where}: expected a target, got an empty cell")
            if len(cells[column]) > LONGEST_NAME:
                where = f"--data {path}, row {row} (line {line}), column {header[column]!r}"
                got = f"{len(cells[column])} characters"
                raise BadInput(f"{where}: expected a target of at most {LONGEST_NAME} characters, got {got}")
    texts = np.array([[cells[column].strip() for column in columns] for cells in rows])
    # One column without a number names classes. Among numbers, a text is taken for a mistake, such as 'NA'.
    if len(targets) == 1 and not any(_as_number(text) is not None for text in texts[:, 0]):
        return texts[:, 0]
    return np.array(
        [
            [_number(cells[column], path, row, line, header[column]) for column in columns]
            for row, (cells, line) in enumerate(zip(rows, lines, strict=True))
        ]
    )


def read_npz(path: Path, *, with_target: bool = True) -> Table:
    """Arrays x (m, ...) and y (m,) or (m, targets) of a NumPy archive; never a pickle."""
    arrays = {}
    try:
        with quietly(), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for name in ("x", "y") if with_target else ("x",):
                if name not in archive.files:
                    found = some(archive.files) or "nothing"
                    raise BadInput(f"--data {path}: has no array {name!r}; expected x and y, got {found}")
            for name in ("x", "y"):
                if name in archive.files:
                    # Told apart before values are read: an archive can promise, or unpack to, far more than it has.
                    shape, dtype = promised(archive, name)
                    if name == "x":
                        _require_examples(path, shape, dtype)
                    require_memory(path, shape)
                    arrays[name] = archive[name]
    except BadInput:
        raise
    except Exception:  # a damaged archive can raise nearly anything
        raise BadInput(f"--data {path}: expected a NumPy .npz archive of plain arrays x and y") from None
    x = _examples(path, arrays["x"])
    y = _npz_targets(path, arrays["y"], len(x)) if "y" in arrays else None
    return Table(str(path), x, y, tuple(f"x{column}" for column in range(x.shape[1])), _numbered_targets(y))


def promised(archive: Any, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array in an open .npz archive, by its first bytes.

    Raises:
      ValueError: when it holds less than that, or a pickle.
    """
    member = archive.zip.getinfo(name if name in archive.zip.namelist() else f"{name}.npy")
    with archive.zip.open(member) as file:
        major, _ = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError("a pickle, or values that are not there")
    return shape, dtype


def read_npy_folder(folder: Path, *, with_target: bool = True, stream: bool = False) -> Table:
    """A folder with x.npy (m, ...) and y.npy (m,) or (m, targets); with `stream`, x stays on disk."""
    paths = {name: folder / f"{name}.npy" for name in ("x", "y")}
    if with_target and not paths["y"].is_file():
        raise BadInput(f"--data {folder}: has x.npy and no y.npy; expected both")
    x = map_npy(paths["x"])
    x = mapped_examples(paths["x"], x) if stream else _examples(paths["x"], np.asarray(x))
    y = _npz_targets(paths["y"], np.asarray(map_npy(paths["y"])), len(x)) if paths["y"].is_file() else None
    return Table(str(folder), x, y, tuple(f"x{column}" for column in range(x.shape[1])), _numbered_targets(y))


def mapped_examples(path: Path, x: np.ndarray, name: str = "x") -> np.ndarray:
    """Numbers that stay on disk, as (examples, features), once every one is known to be finite."""
    _require_examples(path, x.shape, x.dtype)
    x = x.reshape(len(x), -1)
    for start, values in in_blocks(x, shared=True):
        require_finite(path, name, values, start)
    return x


def _numbered_targets(y):
    return ("y",) if y is None or y.ndim == 1 or y.shape[1] == 1 else tuple(f"y{k}" for k in range(y.shape[1]))


def _require_examples(path, shape, dtype):
    if dtype.kind not in "fiub" or len(shape) < 2 or 0 in shape:
        raise BadInput(f"--data {path}: expected x of numbers, (examples, features), got {dtype} {shape}")


def _examples(path, x):
    _require_examples(path, x.shape, x.dtype)
    require_memory(path, x.shape)
    with np.errstate(over="ignore"):
        x = x.reshape(len(x), -1).astype(np.float64)
    require_finite(path, "x", x)
    return x


def _npz_targets(path, y, examples):
    if y.dtype.kind not in "fiubU" or y.ndim not in (1, 2) or len(y) != examples or y.size == 0:
        expected = f"expected y of numbers or texts, ({examples},) or ({examples}, targets)"
        raise BadInput(f"--data {path}: {expected}, got {y.dtype} {y.shape}")
    if y.dtype.kind in "bU":
        if y.ndim == 2 and y.shape[1] > 1:
            raise BadInput(f"--data {path}: expected one target for classes, got y of {y.dtype} {y.shape}")
        if y.dtype.kind == "U":
            _require_names(path, y)
        return y.reshape(-1).astype(str)
    require_memory(path, y.shape)
    with np.errstate(over="ignore"):
        y = y.reshape(examples, -1).astype(np.float64)
    require_finite(path, "y", y)
    one_hot = y.shape[1] > 1 and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()
    return y.argmax(axis=1).astype(str) if one_hot else y


def _require_names(path, y):
    """Texts can be classes' names; the bytes of an array can also be what no text is."""
    if y.dtype.itemsize > 4 * LONGEST_NAME:
        raise BadInput(f"--data {path}: expected y of texts of at most {LONGEST_NAME} characters, got {y.dtype}")
    letters = np.ascontiguousarray(y).view(np.dtype(np.uint32).newbyteorder(y.dtype.byteorder))
    if ((letters > sys.maxunicode) | ((letters >= 0xD800) & (letters < 0xE000))).any():
        raise BadInput(f"--data {path}: expected y of texts in Unicode, got other characters")


def require_finite(path: Path, name: str, values: np.ndarray, start: int = 0) -> None:
    """Refuses what is not finite, or so large that its square overflows; rows are counted from `start` on."""
    bad = np.argwhere(~(np.abs(values) <= LARGEST))
    if len(bad):
        row, column = bad[0]
        where = f"--data {path}, {name}, row {start + row + 1}, column {column + 1}"
        value = values[row, column]
        expected = f"a number up to {LARGEST:g}" if np.isfinite(value) else "a finite number"
        raise BadInput(f"{where}: expected {expected}, got {value}")
