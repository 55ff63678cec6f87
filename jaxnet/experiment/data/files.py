"""Reading .npz and .npy files, with the place of every mistake."""

import math
import sys
from pathlib import Path

import numpy as np

from jaxnet.experiment.console.errors import BadInput, some
from jaxnet.experiment.data.cells import LARGEST
from jaxnet.experiment.data.labels import LONGEST_NAME
from jaxnet.experiment.data.mapped import header_of, map_npy, of_objects, quietly
from jaxnet.experiment.data.source import InMemory, Source, in_blocks, stays_on_disk
from jaxnet.experiment.data.table import Table
from jaxnet.experiment.devices.memory import require_memory


def read_npz(path: Path, *, with_target: bool = True) -> Table:
    """Arrays x (m, ...) and y (m,) or (m, targets) of a NumPy archive; never a pickle.

    Or x_train and y_train, with x_test and y_test as the test part, as Keras saves its data sets.
    """
    arrays = {}
    try:
        with quietly(), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            parts = _parts_of(archive.files)
            required = parts if with_target else [(x,) for x, _ in parts]
            for name in (name for of_part in required for name in of_part):
                if name not in archive.files:
                    found = some(archive.files) or "nothing"
                    raise BadInput(f"--data {path}: has no array {name!r}; expected x and y, got {found}")
            for name in (name for of_part in parts for name in of_part):
                if name in archive.files:
                    # Told apart before values are read: an archive can promise, or unpack to, far more than it has.
                    shape, dtype = _promised(path, archive, name)
                    if name.startswith("x"):
                        _require_examples(path, shape, dtype, name)
                    require_memory(path, shape)
                    arrays[name] = archive[name]
    except BadInput:
        raise
    except Exception:  # a damaged archive can raise nearly anything
        raise BadInput(f"--data {path}: expected a NumPy .npz archive of plain arrays x and y") from None
    table, *test = [_table(path, arrays[x], _examples(path, arrays[x], x), path, arrays.get(y)) for x, y in parts]
    if test and test[0].x.shape[1:] != table.x.shape[1:]:
        shapes = [" x ".join(map(str, of_part.x.shape[1:])) for of_part in (table, *test)]
        raise BadInput(f"--data {path}: expected x_test of examples of x_train's shape, {shapes[0]}, got {shapes[1]}")
    return table._replace(test=test[0]) if test else table


def _parts_of(names):
    """Of an archive, the names of inputs and targets of its parts: the first one, and the test part, if any."""
    if "x" in names or "x_train" not in names:
        return [("x", "y")]
    return [("x_train", "y_train"), *([("x_test", "y_test")] if "x_test" in names else [])]


def _promised(path, archive, name):
    """Shape and dtype of an array in an open .npz archive, by its first bytes."""
    member = archive.zip.getinfo(name if name in archive.zip.namelist() else f"{name}.npy")
    with archive.zip.open(member) as file:
        shape, dtype = header_of(file)
    if dtype.kind == "O":
        raise BadInput(f"--data {path}: {of_objects(name)}")
    if dtype.hasobject or math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError("a pickle, or values that are not there")
    return shape, dtype


def read_npy_folder(folder: Path, *, with_target: bool = True, stream: bool = False) -> Table:
    """A folder with x.npy (m, ...) and y.npy (m,) or (m, targets); with `stream`, x stays on disk."""
    paths = {name: folder / f"{name}.npy" for name in ("x", "y")}
    if with_target and not paths["y"].is_file():
        raise BadInput(f"--data {folder}: has x.npy and no y.npy; expected both")
    stored = map_npy(paths["x"])
    x = mapped_examples(paths["x"], stored) if stream else _examples(paths["x"], np.asarray(stored))
    y = np.asarray(map_npy(paths["y"])) if paths["y"].is_file() else None
    return _table(folder, stored, x, paths["y"], y)


def mapped_examples(path: Path, stored: np.ndarray, name: str = "x") -> Source:
    """Numbers (examples, ...) that stay on disk, once every one is known to be finite."""
    _require_examples(path, stored.shape, stored.dtype)
    x = stays_on_disk(stored)
    for start, values in in_blocks(x, shared=True):
        require_finite(path, name, values, start)
    return x


def is_image(x: np.ndarray) -> bool:
    """Whether an array holds images, by its shape (examples, rows, columns, ...) or by bytes as the type of a pixel."""
    return x.ndim > 2 or x.dtype == np.uint8


def _table(source, stored, x, y_path, y):
    """Of x as it is stored and as a source, and of y as it is stored."""
    features = tuple(f"x{column}" for column in range(math.prod(x.shape[1:])))
    if y is None:
        return Table(str(source), x, None, features, ("y",), image=is_image(stored))
    y, names = _targets(y_path, y, len(x))
    targets = ("y",) if y.ndim == 1 or y.shape[1] == 1 else tuple(f"y{k}" for k in range(y.shape[1]))
    return Table(str(source), x, y, features, targets, names=names, image=is_image(stored))


def _require_examples(path, shape, dtype, name="x"):
    if dtype.kind not in "fiub" or len(shape) < 2 or 0 in shape:
        raise BadInput(f"--data {path}: expected {name} of numbers, (examples, features), got {dtype} {shape}")


def _examples(path, x, name="x"):
    _require_examples(path, x.shape, x.dtype, name)
    require_memory(path, x.shape)
    with np.errstate(over="ignore"):
        vectors = x.reshape(len(x), -1).astype(np.float64)
    require_finite(path, name, vectors)
    return InMemory(vectors.reshape(x.shape))


def _targets(path, y, examples):
    """Texts of classes (m,) and None, or numbers (m, targets) and, of one column of integers, what they are called."""
    if y.dtype.kind not in "fiubU" or y.ndim not in (1, 2) or len(y) != examples or y.size == 0:
        expected = f"expected y of numbers or texts, ({examples},) or ({examples}, targets)"
        raise BadInput(f"--data {path}: {expected}, got {y.dtype} {y.shape}")
    several = y.ndim == 2 and y.shape[1] > 1
    if several and y.dtype.kind != "U" and _is_one_hot(y):
        return y.argmax(axis=1).astype(str), None
    if y.dtype.kind in "bU":
        if several:
            raise BadInput(f"--data {path}: expected one target for classes, got y of {y.dtype} {y.shape}")
        if y.dtype.kind == "U":
            _require_names(path, y)
        return y.reshape(-1).astype(str), None
    require_memory(path, y.shape)
    names = y.reshape(-1) if y.dtype.kind in "iu" and not several else None
    with np.errstate(over="ignore"):
        y = y.reshape(examples, -1).astype(np.float64)
    require_finite(path, "y", y)
    return y, names


def _is_one_hot(y):
    return bool(((y == 0) | (y == 1)).all() and ((y == 1).sum(axis=1) == 1).all())


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
