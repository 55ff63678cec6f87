"""Data that stays on disk: rows are read and standardised in blocks, the next one while the device computes."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np

from jaxnet.experiment.problem import Problem

# Of a block on the device. Two are there at a time, and one more on its way.
BLOCK_BYTES = 8 * 2**20
# Rows that are standardised at a time: in float64 they fit a processor's cache.
ROWS = 64
ALIGNMENT = 64


class Rows(NamedTuple):
    """Standardised rows of an array on disk, (m, features), read when they are asked for.

    Attributes:
      x: the array, (examples, features), a `np.memmap`.
      rows: (m,), which of its rows these are.
      standardisation: from raw to standardised features.
    """

    x: np.ndarray
    rows: np.ndarray
    standardisation: Callable[[np.ndarray], np.ndarray]

    @property
    def shape(self) -> tuple[int, int]:
        """(m, features)."""
        return len(self.rows), self.x.shape[1]

    def read(self, at: np.ndarray | slice, dtype: str) -> np.ndarray:
        """The rows at these places, in a fresh array: JAX may keep it, so it is never written to again."""
        rows, x = self.rows[at], np.asarray(self.x)
        read = _aligned((len(rows), x.shape[1]), dtype)
        for start in range(0, len(rows), ROWS):
            read[start : start + ROWS] = self.standardisation(x[rows[start : start + ROWS]])
        return read


def most_batches(batch_size: int, features: int, dtype: str) -> int:
    """How many batches make up a block."""
    return max(1, BLOCK_BYTES // (batch_size * features * np.dtype(dtype).itemsize))


def pieces(
    x: Rows,
    y: np.ndarray,
    order: np.ndarray,
    cuts: Sequence[tuple[int, int]],
    problem: Problem,
    dtype: str,
) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Inputs (k, m, features) and encoded targets (k, m, ...) of some batches of an epoch, read ahead.

    Args:
      x, y: the examples.
      order: (batches, m), which examples make up each batch.
      cuts: from which batch to which, piece after piece.
      problem: encodes the targets.
      dtype: of inputs and targets on the device.
    """

    def piece(cut):
        start, end = cut
        rows = order[start:end]
        inputs = x.read(rows.ravel(), dtype).reshape(*rows.shape, x.shape[1])
        targets = problem.encode(y[rows.ravel()], dtype)
        return inputs, targets.reshape(*rows.shape, *targets.shape[1:])

    for arrays in _ahead(piece, cuts):
        yield jax.device_put(arrays)


def blocks(x: Rows, y: np.ndarray, problem: Problem, dtype: str) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Inputs and encoded targets on the device, block after block, in their order."""
    many = max(1, BLOCK_BYTES // (x.shape[1] * np.dtype(dtype).itemsize))

    def block(start):
        at = slice(start, start + many)
        return x.read(at, dtype), problem.encode(y[at], dtype)

    for arrays in _ahead(block, range(0, len(y), many)):
        yield jax.device_put(arrays)


def _aligned(shape, dtype):
    """Fresh memory that JAX takes as it is on a CPU; what is not aligned so is copied."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _ahead(make, arguments):
    """The results of `make`, each of which is made while the one before is in use."""
    with ThreadPoolExecutor(1) as thread:
        coming = None
        for argument in arguments:
            made, coming = coming, thread.submit(make, argument)
            if made is not None:
                yield made.result()
        if coming is not None:
            yield coming.result()
