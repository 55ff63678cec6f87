"""Folders of IDX files: headers that promise other types, axes and lengths than there are, cut or misplaced."""

import gzip
import random
import struct
from pathlib import Path

import numpy as np

from fuzzing.case import Case, broken_bytes, misplace

LENGTHS = (0, 1, 35, 37, 2**16, 2**31, 2**32 - 1)


def make(rng: random.Random, folder: Path) -> Case:
    """A folder of images and labels to train on."""
    data = folder / "new" / "MNIST" / "raw" if rng.random() < 0.3 else folder / "new"
    data.mkdir(parents=True)
    draw = np.random.default_rng(rng.randrange(2**32))
    parts = {"train": 36, "t10k": 6} if rng.random() < 0.3 else {"train": 36}
    broken = rng.choice([(part, what) for part in parts for what in ("images", "labels")])
    for part, many in parts.items():
        pixels = draw.integers(0, 256, (many, 2, 2))
        for what, values in (("images", pixels), ("labels", np.arange(many) % 3)):
            content = _idx(rng, values.astype(np.uint8), broken=(part, what) == broken and rng.random() < 0.9)
            _write(rng, data / f"{part}-{what}-idx{values.ndim}-ubyte", content, broken=(part, what) == broken)
    options = ["--data", "new", "--hidden", "2", "--epochs", "1", "--out", "made"]
    options += ["--scale", rng.choice(("range", "none"))] if rng.random() < 0.3 else []
    return Case("train.py", [*options, *(["--stream"] if rng.random() < 0.4 else [])], ("made",))


def _idx(rng, values, *, broken):
    code, axes, shape = 0x08, values.ndim, list(values.shape)
    content = values.tobytes()
    if broken:
        match rng.randrange(5):
            case 0:
                code = rng.choice((0x09, 0x0B, 0x0C, 0x0D, 0x0E, 0, 0xFF))
            case 1:
                axes = rng.choice((0, 1, 2, 4, 200, 255))
            case 2:
                shape[rng.randrange(len(shape))] = rng.choice(LENGTHS)
            case 3:
                # Terabytes.
                shape = [rng.choice(LENGTHS[4:]) for _ in shape]
            case _:
                code, content = 0x0E, np.frombuffer(rng.randbytes(8 * values.size), ">f8").tobytes()
    return bytes([0, 0, code, axes]) + struct.pack(f">{len(shape)}I", *shape) + content


def _write(rng, path, content, *, broken):
    if broken and rng.random() < 0.6:
        content = broken_bytes(rng, content)
    if rng.random() < 0.3:
        path, content = path.with_name(path.name + ".gz"), gzip.compress(content)
        if broken and rng.random() < 0.4:
            content = broken_bytes(rng, content)
    path.write_bytes(content)
    if broken and rng.random() < 0.1:
        misplace(rng, path)
