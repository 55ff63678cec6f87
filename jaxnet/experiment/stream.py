"""Data that stays on disk: rows are read and standardised in blocks, the next one while the device computes."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.experiment.errors import interrupted
from jaxnet.experiment.problem import Problem
from jaxnet.training import Metrics, TrainState, batch_weights, epoch_mean, epoch_order

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


def make_streamed_epoch(
    steps: Callable[..., tuple[TrainState, Metrics]], problem: Problem, batch_size: int, dtype: str
) -> Callable[[TrainState, Rows, np.ndarray], tuple[TrainState, Metrics]]:
    """An epoch as `make_epoch` has it, the same batches in the same order, over rows on disk.

    Args:
      steps: as `make_steps` makes it.
      problem: encodes the targets.
      batch_size: examples in a minibatch.
      dtype: of inputs and targets on the device.
    """

    def epoch(state, x, y):
        examples, features = x.shape
        order = np.asarray(epoch_order(state.key, state.epoch, examples, batch_size))
        weights = None if examples % batch_size == 0 else np.asarray(batch_weights(examples, batch_size))
        many = max(1, BLOCK_BYTES // (batch_size * features * np.dtype(dtype).itemsize))

        def block(start):
            rows = order[start : start + many]
            inputs = x.read(rows.ravel(), dtype).reshape(*rows.shape, features)
            targets = problem.encode(y[rows.ravel()], dtype)
            return inputs, targets.reshape(*rows.shape, *targets.shape[1:]), _part(weights, start, many)

        values: list[Any] = []
        for arrays in _ahead(block, range(0, len(order), many)):
            state, metrics = steps(state, *jax.device_put(arrays))
            values.append(metrics["loss"])
            # Not more than two blocks are handed to the device at a time.
            jax.block_until_ready(values[-2:-1])
            if interrupted():
                raise KeyboardInterrupt
        mean = epoch_mean(jnp.concatenate(values), examples, batch_size)
        return state._replace(epoch=state.epoch + 1), {"loss": mean}

    return epoch


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


def _part(weights, start, many):
    return None if weights is None else weights[start : start + many]
