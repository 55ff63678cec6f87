"""Arrays that stay on disk, and are looked at block by block: for data larger than memory."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnet.experiment.errors import BadInput

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


@contextmanager
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
        raise BadInput(f"--data {path}: expected a whole NumPy .npy file of numbers") from None
    if not isinstance(array, np.memmap):
        raise BadInput(f"--data {path}: expected an array with values, got one of shape {np.shape(array)}")
    return array
