"""Examples on the way to the device, in blocks: of data on disk the next one is read while the device computes."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np

from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.source import Source
from jaxnet.experiment.data.split import Part
from jaxnet.experiment.data.windows import Windows
from jaxnet.experiment.devices.mesh import Layout

# Of a block on the device. Two are there at a time, and one more on its way.
BLOCK_BYTES = 8 * 2**20
# Of a text, in tokens.
BLOCK_TOKENS = 2**15


class Block(NamedTuple):
    """Examples of a part on the mesh, filled up to what its devices divide.

    Attributes:
      x, y: inputs and encoded targets.
      weights: what each example counts in the loss, 1 where all count alike; 0 for what fills up.
      of_scores: what it counts in scores.
      rows: how many examples these are.
    """

    x: jax.Array
    y: jax.Array
    weights: jax.Array
    of_scores: jax.Array
    rows: int


def example_bytes(x: Source, dtype: str) -> int:
    """What an example's inputs take on the device."""
    return math.prod(x.shape[1:]) * np.dtype(dtype).itemsize


def most_batches(x: Source, batch_size: int, dtype: str) -> int:
    """How many batches make up a block."""
    return max(1, BLOCK_BYTES // (batch_size * example_bytes(x, dtype)))


def pieces(
    x: Source,
    y: np.ndarray | Windows,
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


def blocks(part: Part, problem: Problem, dtype: str, layout: Layout) -> Iterator[Block]:
    """The examples on the mesh, block after block, in their order."""
    x, y, alike = part.x, part.y, None
    if isinstance(x, Windows):
        # Blocks of one size, and of as few windows as that takes: what a network makes of a token is a thousandfold.
        number = -(-len(y) * x.context // BLOCK_TOKENS)
        many = alike = layout.padded(-(-len(y) // number))
    else:
        many = layout.padded(max(1, BLOCK_BYTES // example_bytes(x, dtype)))
    starts = range(0, len(y), many)
    return _ahead(lambda start: block(part, slice(start, start + many), problem, dtype, layout, alike), starts)


def block(part: Part, at: slice, problem: Problem, dtype: str, layout: Layout, filled: int | None = None) -> Block:
    """Some of the examples, one block, filled up to what the devices divide, or to a size that they do."""
    x, y = part.x, part.y
    places = np.arange(len(y))[at]
    rows = len(places)
    # What fills up is the first example again.
    size = layout.padded(rows) if filled is None else filled
    padded = np.pad(places, (0, size - rows), constant_values=places[0])
    counts = (np.arange(len(padded)) < rows).astype(dtype)
    weights, of_scores = (
        counts if of_part is None else counts * of_part[padded].astype(dtype)
        for of_part in (part.loss_weights, part.weights)
    )
    target = problem.encode(y[:1], dtype).shape[1:]
    return Block(
        layout.put(lambda index: x.read(padded[index[0]], dtype), (len(padded), *x.shape[1:]), "data"),
        layout.put(lambda index: problem.encode(y[padded[index[0]]], dtype), (len(padded), *target), "data"),
        layout.put(lambda index: weights[index], weights.shape, "data"),
        layout.put(lambda index: of_scores[index], of_scores.shape, "data"),
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
