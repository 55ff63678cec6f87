"""Arrays that stay on disk, and are looked at block by block: for data larger than memory."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnet.experiment.console.errors import BadInput

BLOCK_NUMBERS = 2**23


def in_blocks(
    x: np.ndarray, rows: np.ndarray | None = None, *, shared: bool = False
) -> Iterator[tuple[int, np.ndarray]]:
    """(start, values) of some 64 MiB each: the rows of x (examples, features), or those given, as float64.

    With `shared`, each of a run's processes gets other blocks.
    """
    many = max(1, BLOCK_NUMBERS // max(1, x.shape[1]))
    starts = range(0, len(x) if rows is None else len(rows), many)
    for start in starts[jax.process_index() :: jax.process_count()] if shared else starts:
        at: Any = slice(start, start + many)
        with np.errstate(over="ignore", invalid="ignore"):
            yield start, np.asarray(x[at if rows is None else rows[at]], np.float64)


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
