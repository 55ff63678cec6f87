"""The batches of a private run: each example is in each of them by itself."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxnet.experiment.training.batches import Batches
from jaxnet.experiment.training.budget import Budget
from jaxnet.training import poisson_batches

# In an order: no example.
NONE = -1


class PoissonBatches(Batches):
    """The training part in batches by `jaxnet.poisson_batches`, as many in an epoch as there are of such a size.

    Their key may not be known to anyone; which examples they hold is never written.
    """

    def __init__(self, budget: Budget, *arguments: Any) -> None:
        self._budget = budget
        super().__init__(*arguments)

    def order(self, epoch: int, redrawn: Sequence[tuple[int, int]] = ()) -> np.ndarray:
        """Which examples make up each batch of an epoch, (batches, m), with `NONE` for what fills it up.

        Args:
          epoch: counted from 0.
          redrawn: empty, since no private run goes back.
        """
        assert not redrawn
        budget = self._budget
        steps = np.arange(epoch * self.number, (epoch + 1) * self.number, dtype=np.int32)
        rows, weights = jax.device_get(_drawn(self._key, steps, budget.examples, budget.rate, budget.room))
        order = np.where(weights > 0, rows, NONE)
        return np.pad(order, ((0, 0), (0, self._padded - order.shape[1])), constant_values=NONE)

    def pieces(self, order: np.ndarray, cuts: Sequence[tuple[int, int]]) -> Iterator[tuple[Any, Any, Any]]:
        """Inputs, targets and weights of the batches from which to which, cut after cut."""
        shares = (order != NONE) / np.maximum(self.counts(order), 1)[:, None]
        weights = shares.astype(jax.dtypes.canonicalize_dtype(float))
        for (first, end), (x, y) in zip(cuts, self._read(np.maximum(order, 0), cuts), strict=True):
            yield x, y, weights[first:end]

    def counts(self, order: np.ndarray) -> np.ndarray:
        """How many examples are in each batch."""
        return (order != NONE).sum(axis=1)

    def _room(self):
        return self._budget.room

    def _weights_of_all(self):
        return None


def batches_of(budget: Budget | None, *arguments: Any) -> Batches:
    """Batches for a budget of privacy, or the usual ones.

    Args:
      budget: of a private run; else None.
      arguments: as `Batches` takes them.
    """
    return Batches(*arguments) if budget is None else PoissonBatches(budget, *arguments)


_drawn = jax.jit(poisson_batches, static_argnums=(2, 3, 4))
