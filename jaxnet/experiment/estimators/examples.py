"""Examples of a fit on the device, in arrays whose shapes few fits differ in."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.training import TrainState

# Examples that a network looks at together, and what a smaller batch is filled up to at least.
BLOCK, LEAST_BATCH = 256, 32
# Of the random bits that orders are drawn by: for an epoch at least, and for some epochs at most.
LEAST_BITS, BITS_AHEAD = 2**10, 2**16


class Batches:
    """The examples of a fit in batches, as `jaxnet.make_epoch` and `jaxnet train` have them.

    Arrays are filled up with rows of weight 0, to sizes such that about as many examples have the same.

    Attributes:
      batch: examples in a batch.
      number: of batches in an epoch.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, batch_size: int, key: Any) -> None:
        """Scaled inputs (m, inputs), encoded targets (m, ...), weights (m,), key of the orders."""
        self.batch = min(batch_size, len(x))
        self.number = -(-len(x) // self.batch)
        self._examples = len(x)
        # The mean is 1, so that a step is as long as without weights.
        self._weights = None if weights is None else weights / weights.mean()
        self._room = roomy(self.number), min(batch_size, max(LEAST_BATCH, roomy(len(x))))
        self._orders = Orders(key, len(x), self.batch)
        self._x, self._y = (jnp.asarray(filled_up(array, self._room[0] * self._room[1])) for array in (x, y))

    def epoch(self, program: Callable[..., Any], state: TrainState) -> tuple[TrainState, np.ndarray]:
        """The state after all batches in the order of that epoch, and their losses, each before its update."""
        rows = self._orders[int(state.epoch)]
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
    """Examples without those of weight 0, and their weights in float64; None for none.

    Raises:
      ValueError: in scikit-learn's words.
    """
    if sample_weight is None:
        return x, y, None
    from sklearn.utils.validation import _check_sample_weight

    weights = _check_sample_weight(
        sample_weight, x, dtype=np.float64, ensure_non_negative=True, allow_all_zero_weights=False
    )
    some = weights > 0
    return x[some], y[some], weights[some]


class Orders:
    """`jaxnet.training.epoch_order` of one epoch after the other, (batches, m).

    Random bits are drawn for many epochs at once, and sorted by NumPy: XLA takes longer to compile a sort than to train
    on a small table.
    """

    def __init__(self, key: jax.Array, examples: int, batch: int) -> None:
        self._key, self._examples, self._shape = key, examples, (-(-examples // batch), batch)
        # Fewer bits are the first ones of more, so that few shapes are compiled.
        self._room = max(LEAST_BITS, roomy(examples))
        self._ahead = max(1, BITS_AHEAD // self._room)
        self._first, self._bits = -self._ahead, np.zeros((0, 0), np.uint32)

    def __getitem__(self, epoch: int) -> np.ndarray:
        if not self._first <= epoch < self._first + self._ahead:
            epochs = epoch + np.arange(self._ahead, dtype=np.int32)
            self._first, self._bits = epoch, np.asarray(_bits(self._key, epochs, self._room))
        bits = self._bits[epoch - self._first, : self._examples]
        return np.resize(np.argsort(bits, kind="stable"), self._shape)


def in_blocks(program: Callable[..., Any], params: Any, *arrays: np.ndarray) -> Any:
    """What a program gives for each example, in blocks of one size: no example changes what another one gets."""
    given = []
    for start in range(0, len(arrays[0]), BLOCK):
        blocks = [array[start : start + BLOCK] for array in arrays]
        given.append(jax.device_get(program(params, *(filled_up(block, BLOCK) for block in blocks))))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(arrays[0])], *given)


def filled_up(array: np.ndarray, rows: int) -> np.ndarray:
    """With so many rows, by the first one again."""
    return np.concatenate([array, np.broadcast_to(array[:1], (rows - len(array), *array.shape[1:]))])


def roomy(count: int) -> int:
    """The next of 1, 2, 4, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, ...: a quarter more at most, but for the first."""
    if count <= 8:
        return 1 << (count - 1).bit_length()
    step = 1 << ((count - 1).bit_length() - 3)
    return -(-count // step) * step


@partial(jax.jit, static_argnums=2)
def _bits(key, epochs, examples):
    return jax.vmap(lambda epoch: jax.random.bits(jax.random.fold_in(key, epoch), (examples,)))(epochs)
