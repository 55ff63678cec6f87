"""Training, validation and test part of a table, scaled by the training part alone."""

from typing import NamedTuple

import numpy as np

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data.encoding import Treatment, encoded, treatments_of
from jaxnet.experiment.data.problem import Problem, scaled_to
from jaxnet.experiment.data.scaling import FARTHEST, Scale, Scaling, require_moderate, scaling_of
from jaxnet.experiment.data.source import Source
from jaxnet.experiment.data.table import Table

VALIDATION, TEST = 0.1, 0.2


class Part(NamedTuple):
    """Scaled inputs (m, ...), on disk if the table's are, and targets as in the table."""

    x: Source
    y: np.ndarray


class Split(NamedTuple):
    """The three parts, and how their inputs became what they are.

    Attributes:
      train, validation, test: the parts.
      scaling: of the features.
      features: their names.
      treatments: of a table's columns, from which the features come; empty for other data.
    """

    train: Part
    validation: Part
    test: Part
    scaling: Scaling
    features: tuple[str, ...]
    treatments: tuple[Treatment, ...]

    def shaped(self, example: tuple[int, ...]) -> "Split":
        """The same parts with each example in the shape that a network takes."""
        train, validation, test = (part._replace(x=part.x.shaped(example)) for part in self[:3])
        return self._replace(train=train, validation=validation, test=test)


class RowsOfParts(NamedTuple):
    """Which rows of a table make up each part; of the table set apart for the test, if there is one, all."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(table: Table, problem: Problem, seed: int, scale: Scale = "standard") -> tuple[Split, Problem]:
    """Draws the parts by the seed, and scales their inputs by the training part.

    Returns:
      The parts, and the problem with its targets' scaling taken from the training part.

    Raises:
      BadInput: when a part would not hold every class, or a number is too large for the network's arithmetic.
    """
    y = table.y
    assert y is not None
    rows = rows_of(table, problem, seed)
    treatments = treatments_of(table, rows.train)
    table = encoded(table, treatments)
    scaling = scaling_of(table.x, rows.train, scale, image=table.image)
    for read in (table,) if table.test is None else (table, table.test):
        require_moderate(read, scaling)
    train, validation = (_part(table, of_part, scaling) for of_part in (rows.train, rows.validation))
    test = _part(table if table.test is None else table.test, rows.test, scaling)
    problem = scaled_to(problem, train.y)
    if not problem.classes:
        _require_near(table, y, (y - problem.mean) / problem.scale)
    return Split(train, validation, test, scaling, table.features, treatments), problem


def rows_of(table: Table, problem: Problem, seed: int) -> RowsOfParts:
    """Which rows make up each part, by the seed, stratified by class; a test part that is set apart is kept.

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
                f"--data {table.name}: a part of {min(count, len(rows) - count)} of {len(table.x)} rows cannot hold "
                f"{len(problem.classes)} classes; expected more rows"
            )
        return train_test_split(rows, test_size=count, stratify=labels, random_state=seed)

    rows = np.arange(len(table.x))
    if table.test is None:
        rows, test = part(rows, TEST)
    else:
        test = np.arange(len(table.test.x))
    train, validation = part(rows, VALIDATION)
    return RowsOfParts(train, validation, test)


def _part(table, rows, scaling):
    return Part(table.x.at(rows).scaled(scaling), table.y[rows])


def _require_near(table, values, scaled):
    far = np.argwhere(np.abs(scaled) > FARTHEST)
    if len(far):
        row, column = far[0]
        raise BadInput(
            f"--data {table.name}, row {row + 1}, column {table.targets[column]!r}: {values[row, column]:g} is "
            f"{abs(scaled[row, column]):.1g} standard deviations from the mean; expected at most {FARTHEST:g}"
        )
