"""Examples on the mesh: the batches of an epoch, piece after piece, and whole parts, block after block."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.split import Part
from jaxnet.experiment.data.windows import Windows
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.training import blocks
from jaxnet.experiment.training.blocks import Block
from jaxnet.training import batch_weights, epoch_order

# Of the batches that are gathered at a time.
PIECE_BYTES = 64 * 2**20


class Batches:
    """The training part in batches, each a multiple of the devices: what fills up a batch has weight 0.

    Attributes:
      examples: of the part.
      batch_size: of those in a batch.
      number: of batches in an epoch.
      most: batches in a piece, at most.
    """

    def __init__(
        self, part: Part, problem: Problem, batch_size: int, dtype: str, layout: Layout, key: jax.Array
    ) -> None:
        self.examples = part.examples
        self.batch_size = min(batch_size, self.examples)
        self.number = batches_in(self.examples, self.batch_size)
        self._key, self._padded = key, layout.padded(self._room())
        self._of_examples = None if part.loss_weights is None else part.loss_weights.astype(dtype)
        seeds = key.size
        self._weights, self._epoch = self._weights_of_all(), part.epoch
        if part.x.on_disk:
            self.most = blocks.most_batches(part.x, self._padded, dtype)
            self._read = functools.partial(blocks.pieces, part.x, part.y, problem, dtype, layout)
        else:
            self.most = max(1, PIECE_BYTES // (seeds * self._padded * blocks.example_bytes(part.x, dtype)))
            gathered = _gathered_windows if isinstance(part.x, Windows) else _gathered
            self._read = gathered(part, problem, dtype, layout, (None,) * (1 + key.ndim) + ("data",))

    def draw_by(self, key: jax.Array) -> None:
        """Another key decides from here on; a copy of it, that lies on no mesh."""
        self._key = jax.random.wrap_key_data(jnp.asarray(np.asarray(jax.random.key_data(key))))

    def order(self, epoch: int, redrawn: Sequence[tuple[int, int]] = ()) -> np.ndarray:
        """Which examples make up each batch of an epoch, (batches, m); of several keys (keys, batches, m).

        Args:
          epoch: counted from 0.
          redrawn: (first, number): the examples from batch `first` on are drawn anew, by the number.
        """
        if self._key.ndim:
            return np.stack([self._order_by(key, epoch, redrawn) for key in self._key])
        return self._order_by(self._key, epoch, redrawn)

    def _order_by(self, key, epoch, redrawn):
        order = np.asarray(_order_of(key, epoch, self.examples, self.batch_size))
        for first, number in redrawn:
            ends, at = order.ravel()[: self.examples].copy(), first * self.batch_size
            rest = _order_of(jax.random.fold_in(key, number), epoch, self.examples - at, self.examples - at)
            ends[at:] = ends[at:][np.asarray(rest).ravel()]
            order = np.resize(ends, order.shape)
        if self._epoch is not None:
            order = self._epoch.rows(_key_of_rows(key, epoch))[order]
        return np.pad(order, ((0, 0), (0, self._padded - self.batch_size)), mode="edge")

    def pieces(self, order: np.ndarray, cuts: Sequence[tuple[int, int]]) -> Iterator[tuple[Any, Any, Any]]:
        """Inputs, targets and weights, if any, of the batches from which to which, cut after cut."""
        for (first, end), (x, y) in zip(cuts, self._read(order, cuts), strict=True):
            yield x, y, None if self._weights is None else self._weights_of(order, first, end)

    def _weights_of(self, order, first, end):
        weights = self._weights[first:end]
        return weights if self._of_examples is None else weights * self._of_examples[order[..., first:end, :]]

    def counts(self, order: np.ndarray) -> np.ndarray:
        """How many examples are in each batch, without what fills it up."""
        batches = order.shape[-2]
        counts = np.full(batches, self.batch_size)
        counts[-1] = self.examples - self.batch_size * (batches - 1)
        return counts

    def _room(self):
        """For how many examples a batch has room."""
        return self.batch_size

    def _weights_of_all(self):
        """1 over a batch's examples, and 0 for what fills it up; None where that is 1/m for all."""
        is_even = self.examples % self.batch_size == 0 and self._padded == self.batch_size
        if is_even and self._of_examples is None:
            return None
        weights = jax.device_get(jax.jit(batch_weights, static_argnums=(0, 1))(self.examples, self.batch_size))
        return np.pad(weights, ((0, 0), (0, self._padded - self.batch_size)))


def batches_in(examples: int, batch_size: int) -> int:
    """How many batches make up an epoch, the last of which may be smaller."""
    return -(-examples // min(batch_size, examples))


def blocks_of(part: Part, problem: Problem, dtype: str, layout: Layout) -> Callable[[], Iterable[Block]]:
    """() -> the examples of a part on the mesh: all in one block that stays there, or one after the other."""
    if part.x.on_disk or isinstance(part.x, Windows):
        return functools.partial(blocks.blocks, part, problem, dtype, layout)
    whole = blocks.block(part, slice(None), problem, dtype, layout)
    return lambda: [whole]


def _gathered(part, problem, dtype, layout, places):
    """(order, cuts) -> inputs and targets, gathered from the whole part, which each device holds."""
    x, y = part.x.read(slice(None), dtype), problem.encode(part.y, dtype)
    on_device = [layout.put(lambda index, array=array: array[index], array.shape) for array in (x, y)]
    # The compiler's partitions gather what is theirs.
    gather = jax.jit(lambda x, y, rows: (x[rows], y[rows]), out_shardings=layout.places(*places))
    return lambda order, cuts: (gather(*on_device, order[..., first:end, :]) for first, end in cuts)


def _gathered_windows(part, problem, dtype, layout, places):
    """(order, cuts) -> windows and what follows in them, gathered from all tokens, which each device holds."""
    ids = part.x.ids.astype(np.int32)
    on_device, within = layout.put(lambda index: ids[index], ids.shape), np.arange(part.x.context + 1)

    def windows(ids, rows):
        window = ids[rows[..., None] * part.x.stride + within[(None,) * rows.ndim]]
        return window[..., :-1], window[..., 1:]

    gather = jax.jit(windows, out_shardings=layout.places(*places))
    return lambda order, cuts: (gather(on_device, order[..., first:end, :]) for first, end in cuts)


@jax.jit
def _key_of_rows(key, epoch):
    # Epochs fold their own numbers into the key, and steps what follows 2^32 - 1.
    return jax.random.fold_in(jax.random.fold_in(key, 2**32 - 2), epoch)


_order_of = jax.jit(epoch_order, static_argnums=(2, 3))
