"""How features are scaled before the network sees them, by what the training part holds of them."""

import math
from typing import Literal, NamedTuple

import numpy as np

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data.source import InMemory, Source, in_blocks
from jaxnet.experiment.data.table import Table
from jaxnet.experiment.devices.processes import gathered, together

Scale = Literal["standard", "range", "none"]
# In standard deviations. A feature that hardly varies in training puts a new value hundreds of them away, and a few
# such examples then make most of the loss; values of tables with long tails do lie as far out as this.
BOUND = 10.0
# Squares of what is larger than this overflow float32.
FARTHEST = 1e15
# Rounding alone gives a constant column this much of its size for a standard deviation, or less.
ROUNDING = 8 * np.finfo(np.float64).eps


class Scaling(NamedTuple):
    """x -> (x - shift) * factor, and what is then beyond the bounds is put at them; x (m, ...) keeps its shape.

    Attributes:
      shift: (features,).
      factor: (features,), 0 for a feature that is constant in training.
      bounds: (2,), the least and the most.
    """

    shift: np.ndarray
    factor: np.ndarray
    bounds: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        # What overflows is beyond the bounds.
        with np.errstate(over="ignore"):
            scaled = x.reshape(len(x), -1) - self.shift
            scaled *= self.factor
        return np.clip(scaled, *self.bounds, out=scaled).reshape(x.shape)


def scaling_of(x: Source, rows: np.ndarray, scale: Scale, *, image: bool) -> Scaling:
    """What brings the features of the training part to one size.

    Args:
      x: all examples (m, ...), of which a run's processes read different blocks.
      rows: those of the training part.
      scale: standard: mean 0 and standard deviation 1, up to `BOUND` of these; range: from 0 to 1, and not beyond;
        none: as they are.
      image: whether all features have their mean and deviation, or their ends, in common.
    """
    features = math.prod(x.shape[1:])
    if scale == "none":
        return Scaling(np.zeros(features), np.ones(features), np.array([-np.inf, np.inf]))
    rows = np.sort(rows)
    total, low, high = _sums_and_ends(x, rows, features)
    if image:
        total, low, high = (np.full(features, value) for value in (total.mean(), low.min(), high.max()))
    shift, spread = low, high - low
    if scale == "standard":
        shift = total / len(rows)
        # In units of the range, so that no square over- or underflows.
        unit = np.where(spread > 0, spread, 1.0)
        squares = _squares(x, rows, shift, unit)
        spread = unit * np.sqrt((squares.mean() if image else squares) / len(rows))
    return _scaling(shift, spread, low, high, scale)


def weighted_scaling_of(x: np.ndarray, weights: np.ndarray, scale: Scale) -> Scaling:
    """What `scaling_of` would be, if each example were there as often as it weighs.

    Args:
      x: examples (m, features).
      weights: (m,), above 0.
      scale: as for `scaling_of`.
    """
    everywhere = np.arange(len(x))
    if scale != "standard":
        return scaling_of(InMemory(x), everywhere, scale, image=False)
    x = x.astype(np.float64, copy=False)
    low, high = x.min(axis=0), x.max(axis=0)
    shift, unit = np.average(x, axis=0, weights=weights), np.where(high > low, high - low, 1.0)
    spread = unit * np.sqrt(np.average(((x - shift) / unit) ** 2, axis=0, weights=weights))
    return _scaling(shift, spread, low, high, scale)


def _scaling(shift, spread, low, high, scale):
    with np.errstate(divide="ignore", over="ignore"):
        factor = 1 / spread
    constant = (low == high) | (spread <= ROUNDING * np.maximum(abs(low), abs(high))) | np.isinf(factor)
    bounds = np.array([0.0, 1.0] if scale == "range" else [-BOUND, BOUND])
    return Scaling(shift, np.where(constant, 0.0, factor), bounds)


def require_moderate(table: Table, scaling: Scaling) -> None:
    """Refuses features whose squares overflow the network's arithmetic, where no bounds hold them.

    Raises:
      BadInput: naming the row and the column, in every process of a run.
    """
    if np.isinf(scaling.bounds).any():
        together(lambda: _require_moderate(table, scaling))


def _require_moderate(table, scaling):
    for start, values in in_blocks(table.x, shared=True):
        scaled = scaling(values)
        far = np.argwhere(np.abs(scaled) > FARTHEST)
        if len(far):
            row, column = far[0]
            raise BadInput(
                f"--data {table.name}, row {start + row + 1}, column {table.features[column]!r}: expected a number "
                f"up to {FARTHEST:g}, since --scale none leaves it as it is; got {scaled[row, column]:g}"
            )


def _sums_and_ends(x, rows, features):
    """Of each feature over the rows: the sum, the least and the largest."""
    total = np.zeros(features)
    low, high = np.full_like(total, np.inf), np.full_like(total, -np.inf)
    for _, values in in_blocks(x, rows, shared=True):
        total += values.sum(axis=0)
        low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
    return gathered(total).sum(axis=0), gathered(low).min(axis=0), gathered(high).max(axis=0)


def _squares(x, rows, shift, unit):
    """The sum of ((x - shift) / unit)^2 over the rows, for each feature."""
    squares = np.zeros_like(shift)
    for _, values in in_blocks(x, rows, shared=True):
        squares += (((values - shift) / unit) ** 2).sum(axis=0)
    return gathered(squares).sum(axis=0)
