"""Examples of a fit on the device, in arrays whose shapes few fits differ in."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.training import TrainState

# Examples that a network looks at together, and what a smaller batch is filled up to at least.
BLOCK, LEAST_BATCH = 256, 32
# Of the random bits that orders are drawn by: fewer are the first ones of more.
LEAST_BITS = 1024


class Batches:
    """The examples of a fit in batches, as `jaxnet.make_epoch` and `jaxnet train` have them.

    Arrays are filled up with rows of weight 0, to sizes such that about as many examples have the same.

    Attributes:
      batch: examples in a batch.
      number: of batches in an epoch.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, batch_size: int) -> None:
        """Scaled inputs (m, inputs), encoded targets (m, ...), weights (m,) whose mean is 1, examples in a batch."""
        self.batch = min(batch_size, len(x))
        self.number = -(-len(x) // self.batch)
        self._examples, self._weights = len(x), weights
        self._room = roomy(self.number), min(batch_size, max(LEAST_BATCH, roomy(len(x))))
        self._x, self._y = (jnp.asarray(filled_up(array, self._room[0] * self._room[1])) for array in (x, y))

    def epoch(self, program: Callable[..., Any], state: TrainState) -> tuple[TrainState, np.ndarray]:
        """The state after all batches in the order of that epoch, and their losses, each before its update."""
        rows = order_of(state.key, int(state.epoch), self._examples, self.batch)
        state, losses = program(state, self._x, self._y, self._filled(rows), self._weights_of(rows), self.number)
        return state, np.asarray(losses)[: self.number]

    def mean(self, losses: np.ndarray) -> float:
        """Over the epoch's examples, from the means over its batches."""
        return float(np.average(losses, weights=self._counts()))

    def _counts(self):
        return np.minimum(self.batch, self._examples - self.batch * np.arange(self.number))

    def _weights_of(self, rows):
        dtype = self._x.dtype
        counts = self._counts()[:, None]
        weights = np.where(np.arange(self.batch) < counts, 1 / counts.astype(dtype), 0).astype(dtype)
        return self._filled(weights if self._weights is None else weights * self._weights[rows].astype(dtype))

    def _filled(self, array):
        return np.pad(array, [(0, room - size) for room, size in zip(self._room, array.shape, strict=True)])


def weights_of(sample_weight: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Examples without those of weight 0, and their weights in float64, the mean of which is 1; None for none.

    Raises:
      ValueError: in scikit-learn's words.
    """
    if sample_weight is None:
        return x, y, None
    from sklearn.utils.validation import _check_sample_weight

    weights = _check_sample_weight(
        sample_weight, x, dtype=np.float64, ensure_non_negative=True, allow_all_zero_weights=False
    )
    x, y, weights = (array[weights > 0] for array in (x, y, weights))
    return x, y, weights / weights.mean()


def order_of(key: jax.Array, epoch: int, examples: int, batch: int) -> np.ndarray:
    """`jaxnet.training.epoch_order`, (batches, m), sorted by NumPy: XLA takes longer to compile a sort than to train."""
    bits = np.asarray(_bits(key, epoch, max(LEAST_BITS, roomy(examples))))[:examples]
    return np.resize(np.argsort(bits, kind="stable"), (-(-examples // batch), batch))


def in_blocks(program: Callable[..., Any], params: Any, *arrays: np.ndarray) -> Any:
    """What a program gives for each example. All blocks are of one size, so that none changes what another one gives."""
    given = []
    for start in range(0, len(arrays[0]), BLOCK):
        blocks = [array[start : start + BLOCK] for array in arrays]
        filled = jax.device_get(program(params, *(filled_up(block, BLOCK) for block in blocks)))
        given.append(jax.tree.map(lambda leaf, rows=len(blocks[0]): leaf[:rows], filled))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *given)


def filled_up(array: np.ndarray, rows: int) -> np.ndarray:
    """With so many rows, by the first one again."""
    return np.concatenate([array, np.broadcast_to(array[:1], (rows - len(array), *array.shape[1:]))])


def roomy(count: int) -> int:
    """The next of 1, 2, 4, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, ...: a quarter more at most, but for the first."""
    if count <= 8:
        return 1 << (count - 1).bit_length()
    step = 1 << ((count - 1).bit_length() - 3)
    return -(-count // step) * step


def _draw_bits(key, epoch, examples):
    return jax.random.bits(jax.random.fold_in(key, epoch), (examples,))


_bits = jax.jit(_draw_bits, static_argnums=2)
