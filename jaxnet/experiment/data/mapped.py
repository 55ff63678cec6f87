"""NumPy's .npy format: arrays that are left on disk, and what a header promises."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.experiment.console.errors import BadInput


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """NumPy warns of headers that are odd, or whose sizes overflow; those that matter are refused in words of ours."""
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore")
        yield


def map_npy(path: Path) -> np.ndarray:
    """An array of a .npy file, left on disk; never a pickle.

    Raises:
      BadInput: when it is none, or cut short.
    """
    try:
        if not path.is_file():
            raise ValueError("a pipe would never end")
        with quietly():
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # a damaged header can raise nearly anything
        expected = of_objects(path.stem) if _holds_objects(path) else "expected a whole NumPy .npy file of numbers"
        raise BadInput(f"--data {path}: {expected}") from None
    if not isinstance(array, np.memmap):
        raise BadInput(f"--data {path}: expected an array with values, got one of shape {np.shape(array)}")
    return array


def header_of(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array in NumPy's format, by its first bytes.

    Raises:
      ValueError: when there is no such header; where it is damaged, nearly anything.
    """
    major, _ = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def of_objects(name: str) -> str:
    """What is said of an array x or y of Python objects."""
    remedy = "numbers with x.astype(float)" if name == "x" else "texts with y.astype(str)"
    return f"{name} holds Python objects, which only a pickle can, and pickles are not loaded; save it as {remedy}"


def _holds_objects(path):
    with contextlib.suppress(Exception), quietly():
        if path.is_file():
            with path.open("rb") as file:
                return header_of(file)[1].kind == "O"
    return False
