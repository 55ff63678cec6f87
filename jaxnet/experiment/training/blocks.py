"""Examples on the way to the device, in blocks: of data on disk the next one is read while the device computes."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np

from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.source import Source
from jaxnet.experiment.devices.mesh import Layout

# Of a block on the device. Two are there at a time, and one more on its way.
BLOCK_BYTES = 8 * 2**20


class Block(NamedTuple):
    """Examples of a part on the mesh, filled up to what its devices divide.

    Attributes:
      x, y: inputs and encoded targets.
      weights: 1 for each example, 0 for what fills up.
      rows: how many examples these are.
    """

    x: jax.Array
    y: jax.Array
    weights: jax.Array
    rows: int


def example_bytes(x: Source, dtype: str) -> int:
    """What an example's inputs take on the device."""
    return math.prod(x.shape[1:]) * np.dtype(dtype).itemsize


def most_batches(x: Source, batch_size: int, dtype: str) -> int:
    """How many batches make up a block."""
    return max(1, BLOCK_BYTES // (batch_size * example_bytes(x, dtype)))


def pieces(
    x: Source,
    y: np.ndarray,
    problem: Problem,
    dtype: str,
    layout: Layout,
    order: np.ndarray,
    cuts: Sequence[tuple[int, int]],
) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Inputs (k, m, ...) and encoded targets (k, m, ...) of some batches of an epoch, read ahead.

    Args:
      x, y: the examples.
      problem: encodes the targets.
      dtype: of inputs and targets on the device.
      layout: which process reads which rows.
      order: (batches, m), which examples make up each batch.
      cuts: from which batch to which, piece after piece.
    """
    example, target = x.shape[1:], problem.encode(y[:1], dtype).shape[1:]

    def piece(cut):
        rows = order[slice(*cut)]

        def inputs(index):
            at = rows[index[:2]]
            return x.read(at.ravel(), dtype).reshape(*at.shape, *example)

        def targets(index):
            at = rows[index[:2]]
            return problem.encode(y[at.ravel()], dtype).reshape(*at.shape, *target)

        over = (None, "data")
        return layout.put(inputs, rows.shape + example, *over), layout.put(targets, rows.shape + target, *over)

    yield from _ahead(piece, cuts)


def blocks(x: Source, y: np.ndarray, problem: Problem, dtype: str, layout: Layout) -> Iterator[Block]:
    """The examples on the mesh, block after block, in their order."""
    many = layout.padded(max(1, BLOCK_BYTES // example_bytes(x, dtype)))
    starts = range(0, len(y), many)
    return _ahead(lambda start: block(x, y, slice(start, start + many), problem, dtype, layout), starts)


def block(x: Source, y: np.ndarray, at: slice, problem: Problem, dtype: str, layout: Layout) -> Block:
    """Some of the examples, one block."""
    places = np.arange(len(y))[at]
    rows = len(places)
    # What fills up is the first example again.
    padded = np.pad(places, (0, layout.padded(rows) - rows), constant_values=places[0])
    weights = (np.arange(len(padded)) < rows).astype(dtype)
    target = problem.encode(y[:1], dtype).shape[1:]
    return Block(
        layout.put(lambda index: x.read(padded[index[0]], dtype), (len(padded), *x.shape[1:]), "data"),
        layout.put(lambda index: problem.encode(y[padded[index[0]]], dtype), (len(padded), *target), "data"),
        layout.put(lambda index: weights[index], weights.shape, "data"),
        rows,
    )


def _ahead(make, arguments):
    """The results of `make`, each of which is made while the one before is in use."""
    # What is switched on for a block of a program holds in its own thread only.
    in_64_bits = jax.dtypes.canonicalize_dtype(np.float64) == np.float64

    def make_here(argument):
        with jax.enable_x64(in_64_bits):
            return make(argument)

    with ThreadPoolExecutor(1) as thread:
        coming = None
        for argument in arguments:
            made, coming = coming, thread.submit(make_here, argument)
            if made is not None:
                yield made.result()
        if coming is not None:
            yield coming.result()
