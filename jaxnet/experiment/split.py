"""Training, validation and test part of a table, standardised on the training part alone."""

from typing import NamedTuple

import numpy as np

from jaxnet.experiment.errors import BadInput
from jaxnet.experiment.mapped import in_blocks
from jaxnet.experiment.problem import Problem, scaled_to
from jaxnet.experiment.processes import gathered, together
from jaxnet.experiment.stream import Rows
from jaxnet.experiment.table import Table

VALIDATION, TEST = 0.1, 0.2
# Squares of what lies farther than this from the mean, in standard deviations, overflow float32.
FARTHEST = 1e15


class Standardisation(NamedTuple):
    """x -> (x - mean) * factor, so that each feature has mean 0 and variance 1 over the training part.

    Attributes:
      mean: (features,).
      factor: (features,), one over the standard deviation; 0 for a constant feature.
    """

    mean: np.ndarray
    factor: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        # What overflows is refused in words of ours.
        with np.errstate(over="ignore", invalid="ignore"):
            return (x - self.mean) * self.factor


class Part(NamedTuple):
    """Standardised inputs (m, features), on disk if the table's are, and targets as in the table."""

    x: np.ndarray | Rows
    y: np.ndarray


class Split(NamedTuple):
    """The three parts and how their inputs were standardised."""

    train: Part
    validation: Part
    test: Part
    standardisation: Standardisation


def split(table: Table, problem: Problem, seed: int) -> tuple[Split, Problem]:
    """Draws the parts by the seed, stratified by class; a test part that the source sets apart is kept.

    Returns:
      The parts, and the problem with its targets' scaling taken from the training part.

    Raises:
      BadInput: when a part would not hold every class.
    """
    from sklearn.model_selection import train_test_split

    y = table.y
    assert y is not None

    def part(rows, fraction):
        labels = y[rows] if problem.classes else None
        count = max(round(fraction * len(table.x)), 1)
        if problem.classes and min(count, len(rows) - count) < len(problem.classes):
            raise BadInput(
                f"--data {table.source}: a part of {min(count, len(rows) - count)} of {len(table.x)} rows cannot hold "
                f"{len(problem.classes)} classes; expected more rows"
            )
        return train_test_split(rows, test_size=count, stratify=labels, random_state=seed)

    rows = np.arange(len(table.x))
    if table.test is None:
        rows, test_rows = part(rows, TEST)
    train_rows, validation_rows = part(rows, VALIDATION)

    standardisation = _standardisation_of(table.x, train_rows)

    inputs = _inputs(table, standardisation)
    if table.test is None:
        test = Part(inputs(test_rows), y[test_rows])
    else:
        assert table.test.y is not None
        test = Part(_inputs(table.test, standardisation)(np.arange(len(table.test.x))), table.test.y)
    parts = Split(
        train=Part(inputs(train_rows), y[train_rows]),
        validation=Part(inputs(validation_rows), y[validation_rows]),
        test=test,
        standardisation=standardisation,
    )
    problem = scaled_to(problem, parts.train.y)
    if not problem.classes:
        _require_near(table, table.targets, y, (y - problem.mean) / problem.scale)
    return parts, problem


def standardise(table: Table, standardisation: Standardisation) -> np.ndarray:
    """The table's features, standardised.

    Raises:
      BadInput: naming a value that is too far from the training part's for the network's arithmetic.
    """
    x = standardisation(table.x)
    _require_near(table, table.features, table.x, x)
    return x


def _inputs(table, standardisation):
    """(rows) -> the standardised features of these rows, in memory or still on disk."""
    if not isinstance(table.x, np.memmap):
        x = standardise(table, standardisation)
        return lambda rows: x[rows]

    def require_near():
        for start, values in in_blocks(table.x, shared=True):
            _require_near(table, table.features, values, standardisation(values), start)

    together(require_near)
    return lambda rows: Rows(table.x, rows, standardisation)


def _require_near(table, names, values, scaled, start=0):
    far = np.argwhere(np.abs(scaled) > FARTHEST)
    if len(far):
        row, column = far[0]
        raise BadInput(
            f"--data {table.source}, row {start + row + 1}, column {names[column]!r}: {values[row, column]:g} is "
            f"{abs(scaled[row, column]):.1g} standard deviations from the mean; expected at most {FARTHEST:g}"
        )


def _standardisation_of(x: np.ndarray, rows: np.ndarray) -> Standardisation:
    rows = np.sort(rows)
    total = np.zeros(x.shape[1])
    low, high = np.full_like(total, np.inf), np.full_like(total, -np.inf)
    for _, values in in_blocks(x, rows, shared=True):
        total += values.sum(axis=0)
        low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
    mean = gathered(total).sum(axis=0) / len(rows)
    low, high = gathered(low).min(axis=0), gathered(high).max(axis=0)
    squares = np.zeros_like(mean)
    for _, values in in_blocks(x, rows, shared=True):
        squares += ((values - mean) ** 2).sum(axis=0)
    squares = gathered(squares).sum(axis=0)
    # By largest and smallest: rounding gives some constant columns a standard deviation just above 0.
    constant = low == high
    deviation = np.where(constant, 1.0, np.sqrt(squares / len(rows)))
    # A column of huge or tiny numbers may overflow or underflow its variance.
    usable = np.isfinite(deviation) & (deviation > 0) & ~constant
    factor = np.zeros_like(deviation)
    np.divide(1.0, deviation, out=factor, where=usable)
    return Standardisation(mean, factor)
