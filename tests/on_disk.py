"""Data that runs read from disk, and what is said of some that they cannot read."""

import struct
from pathlib import Path

import numpy as np
import pytest

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data import named


def three_classes(folder: Path, dtype: str = "float64") -> Path:
    """A folder with x.npy, 150 examples of 4 features, and y.npy, which of the first three is the largest."""
    folder.mkdir()
    x = np.random.default_rng(0).normal(size=(150, 4)).astype(dtype)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", x[:, :3].argmax(axis=1))
    return folder


def idx(array):
    code = {"u1": 0x08, "i4": 0x0C, "f4": 0x0D}[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def refusal(*args, **kwargs):
    with pytest.raises(BadInput) as error:
        named.load(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)
