"""Training, validation and test part of a table, scaled by the training part alone."""

from typing import NamedTuple

import numpy as np

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data.mapped import in_blocks
from jaxnet.experiment.data.problem import Problem, scaled_to
from jaxnet.experiment.data.scaling import FARTHEST, Scale, Scaling, require_moderate, scaled, scaling_of
from jaxnet.experiment.data.table import Table
from jaxnet.experiment.devices.processes import together
from jaxnet.experiment.training.blocks import Rows

VALIDATION, TEST = 0.1, 0.2


class Part(NamedTuple):
    """Scaled inputs (m, features), on disk if the table's are, and targets as in the table."""

    x: np.ndarray | Rows
    y: np.ndarray


class Split(NamedTuple):
    """The three parts and how their inputs were scaled."""

    train: Part
    validation: Part
    test: Part
    scaling: Scaling


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
    scaling = scaling_of(table.x, rows.train, scale, image=table.image)
    inputs = _inputs(table, scaling)
    if table.test is None:
        test = Part(inputs(rows.test), y[rows.test])
    else:
        assert table.test.y is not None
        test = Part(_inputs(table.test, scaling)(rows.test), table.test.y)
    train, validation = (Part(inputs(of_part), y[of_part]) for of_part in (rows.train, rows.validation))
    problem = scaled_to(problem, train.y)
    if not problem.classes:
        _require_near(table, y, (y - problem.mean) / problem.scale)
    return Split(train, validation, test, scaling), problem


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
                f"--data {table.source}: a part of {min(count, len(rows) - count)} of {len(table.x)} rows cannot hold "
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


def _inputs(table, scaling):
    """(rows) -> the scaled features of these rows, in memory or still on disk."""
    if not isinstance(table.x, np.memmap):
        x = scaled(table, scaling)
        return lambda rows: x[rows]

    def require():
        for start, values in in_blocks(table.x, shared=True):
            require_moderate(table, values, start)

    if np.isinf(scaling.bounds).any():
        together(require)
    return lambda rows: Rows(table.x, rows, scaling)


def _require_near(table, values, scaled):
    far = np.argwhere(np.abs(scaled) > FARTHEST)
    if len(far):
        row, column = far[0]
        raise BadInput(
            f"--data {table.source}, row {row + 1}, column {table.targets[column]!r}: {values[row, column]:g} is "
            f"{abs(scaled[row, column]):.1g} standard deviations from the mean; expected at most {FARTHEST:g}"
        )
