"""NumPy's archives and files: other types, shapes and values, headers that promise what is not there, and pickles."""

import io
import random
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np

from fuzzing import samples
from fuzzing.case import Case, broken_bytes, broken_text, misplace

TYPES = (
    "<f8",
    "<f8",
    "<f4",
    ">f8",
    "<f2",
    "<i8",
    ">u8",
    "<u1",
    "?",
    "<c16",
    "<M8[s]",
    "<U3",
    "S4",
    "O",
    "V8",
    "<f8,<i4",
)
HEADERS = (
    "(1000000000000, 3)",
    "(30, 3, 1000000000)",
    "(-1, 3)",
    "(30,)",
    "()",
    "(0, 3)",
    "(30, 3.0)",
    "(2**70, 3)",
    "30",
    "(True, 3)",
)
DESCRIPTIONS = (
    "'|O'",
    "'<f80'",
    "'<M8'",
    "[('a', '<f8')]",
    "'<U1000000000'",
    "'|V0'",
    "'<f8' ",
    "8",
    "'x'",
    "'<f8', 'descr': 1",
)
ODD_NUMBERS = (np.nan, np.inf, -np.inf, 1e300, -1e151, 1e150, 5e-324, 1e15, 0.0, 2.0**53)
# What is broken: values, types and shapes; a header; bytes; where a file should be, another thing; or much of that.
LEVELS = (*(3 * [{"arrays"}]), *(2 * [{"header"}]), *(2 * [{"bytes"}]), {"names"}, {"arrays", "header", "bytes"})


def make(rng: random.Random, folder: Path) -> Case:
    """An archive, or a folder of two files, to train on or to predict for."""
    level = rng.choice(LEVELS)
    arrays = _arrays(rng, rng.choice((1, 1, 2)) if "arrays" in level else 0)
    if rng.random() < 0.2:
        # As Keras saves them, with the same examples for the test.
        arrays = {f"{name}_{part}": array for part in ("train", "test") for name, array in arrays.items()}
    broken = rng.choice(list(arrays))
    files = {name: _npy(rng, array, "header" in level and name == broken) for name, array in arrays.items()}
    if rng.random() < 0.3:
        options = ["--data", "new", *(["--stream"] if rng.random() < 0.5 else [])]
        (folder / "new").mkdir()
        for name, content in files.items():
            _write(rng, folder / "new" / f"{name}.npy", content, level if name == broken else set())
    else:
        options = ["--data", "new.npz"]
        _write(rng, folder / "new.npz", _npz(rng, files, "names" in level), level)
    if "--stream" not in options and rng.random() < 0.4:
        samples.copy(folder, samples.NUMBERS)
        return Case("predict.py", [samples.NUMBERS, *options])
    if rng.random() < 0.3:
        options += ["--scale", rng.choice(("range", "none"))]
    return Case("train.py", [*options, "--hidden", "2", "--epochs", "1", "--out", "made"], ("made",))


def _write(rng, path, content, level):
    path.write_bytes(broken_bytes(rng, content) if "bytes" in level else content)
    if "names" in level and rng.random() < 0.5:
        misplace(rng, path)


def _arrays(rng, changes):
    draw = np.random.default_rng(rng.randrange(2**32))
    x, y = draw.normal(size=(30, 3)), draw.normal(size=(30, 1))
    if rng.random() < 0.5:
        y = np.arange(30) % rng.choice((1, 2, 3, 30))
        if rng.random() < 0.4:
            y = rng.choice((y + 2**53, y + (2**63 - 99), np.eye(30)[y], np.eye(2, dtype=bool)[y % 2]))
    if rng.random() < 0.3:
        x = rng.choice((x[:, None], (50 * abs(x)).astype(np.uint8)))
    for change in rng.sample((_other_type, _odd_number, _other_length, _other_shape), changes):
        x, y = (change(rng, x), y) if rng.random() < 0.6 else (x, change(rng, y))
    return {"x": x, "y": y}


def _other_type(rng, array):
    kind = np.dtype(rng.choice(TYPES))
    if array.dtype.kind not in "fi" or kind.kind in "OV":
        return np.zeros(array.shape, kind)
    with np.errstate(all="ignore"):
        return np.round(array).astype(np.int64).astype(kind) if kind.kind in "Mui" else array.astype(kind)


def _odd_number(rng, array):
    changed = np.zeros(array.shape) if array.dtype.kind not in "fi" else array.astype(np.float64)
    if changed.size:
        changed.flat[rng.randrange(changed.size)] = rng.choice(ODD_NUMBERS)
    with np.errstate(over="ignore"):
        return changed * rng.choice((1, 1, 1, 1e200, 1e-310))


def _other_length(rng, array):
    return array[: rng.choice((0, 1, 9, 29))] if array.ndim else array


def _other_shape(rng, array):
    return rng.choice((array[..., None], array.T, array.ravel(), array[None], np.array(1.0)))


def _npy(rng, array, broken):
    """An array as a .npy file holds it, or with another header."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    content = file.getvalue()
    if not broken:
        return content
    length = struct.unpack("<H", content[8:10])[0]
    header, values = content[10 : 10 + length].decode("latin-1").rstrip(), content[10 + length :]
    match rng.randrange(4):
        case 0:
            header = header.replace(str(array.shape), rng.choice(HEADERS))
        case 1:
            header = header.replace(repr(array.dtype.str), rng.choice(DESCRIPTIONS))
        case 2:
            header = header.replace("False", rng.choice(("True", "None", "0", "''")))
        case _:
            header = broken_text(rng, header)
    told = header.encode("utf-8", "replace")[:60_000]
    version = rng.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9)))
    size = struct.pack(
        "<H" if version == (1, 0) else "<I", len(told) if rng.random() < 0.9 else rng.choice((0, 5, 65_535))
    )
    return b"\x93NUMPY" + bytes(version) + size + told + values


def _npz(rng, files, broken):
    """The files in one archive, or one of them under another name, twice or not at all."""
    names = [f"{name}.npy" for name in files]
    if broken:
        others = ("z.npy", "X.npy", "x", "y", "x.txt", "../x.npy", "/x.npy", ".npy", "x.npy", "y.npy", "x_train.npy")
        names[rng.randrange(len(names))] = rng.choice(others)
    file = io.BytesIO()
    packed = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(file, "w", packed) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in zip(names, files.values(), strict=True):
            archive.writestr(name, content)
    return file.getvalue()
