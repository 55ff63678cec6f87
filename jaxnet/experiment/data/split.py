"""Training, validation and test part of a table, scaled by the training part alone."""

from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data import stratified
from jaxnet.experiment.data.encoding import Treatment, encoded, treatments_of
from jaxnet.experiment.data.grouped import draw
from jaxnet.experiment.data.problem import Problem, scaled_to
from jaxnet.experiment.data.scaling import FARTHEST, Scale, Scaling, require_moderate, scaling_of
from jaxnet.experiment.data.source import Source
from jaxnet.experiment.data.table import Table


class Fractions(NamedTuple):
    """The shares of a table's rows that are drawn for a part; None where the part is a file of its own."""

    validation: float | None = 0.1
    test: float | None = 0.2


FRACTIONS = Fractions()
PARTS = ("training", "validation", "test")


class OfEpoch(Protocol):
    """Which examples of a part make up an epoch, where these are not all."""

    @property
    def examples(self) -> int:
        """How many they are."""
        ...

    def rows(self, key: jax.Array) -> np.ndarray:
        """Which they are, (examples,), by an epoch's key."""
        ...


class Part(NamedTuple):
    """Examples of a part.

    Attributes:
      x: scaled inputs (m, ...), on disk if the table's are.
      y: targets as in the table; of a text windows too.
      weights: (m,), what each example counts in scores, 1 in the mean; None where all count 1.
      loss_weights: (m,), what it counts in the loss, 1 in the mean, with its class's weight if there are any.
      epoch: which of them make up an epoch; None for all.
    """

    x: Source
    y: Any
    weights: np.ndarray | None = None
    loss_weights: np.ndarray | None = None
    epoch: OfEpoch | None = None

    @property
    def examples(self) -> int:
        """How many an epoch has."""
        return len(self.y) if self.epoch is None else self.epoch.examples


class Split(NamedTuple):
    """The three parts, and how their inputs became what they are.

    Attributes:
      train, validation, test: the parts.
      scaling: of the features.
      features: their names.
      treatments: of a table's columns, from which the features come; empty for other data.
      class_weights: in the loss, (classes,); None where all classes count 1.
    """

    train: Part
    validation: Part
    test: Part
    scaling: Scaling
    features: tuple[str, ...]
    treatments: tuple[Treatment, ...]
    class_weights: np.ndarray | None = None

    def shaped(self, example: tuple[int, ...]) -> "Split":
        """The same parts with each example in the shape that a network takes."""
        train, validation, test = (part._replace(x=part.x.shaped(example)) for part in self[:3])
        return self._replace(train=train, validation=validation, test=test)


class RowsOfParts(NamedTuple):
    """Which rows of a table make up each part; of the table set apart for the test, if there is one, all."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(
    table: Table,
    problem: Problem,
    seed: int,
    scale: Scale = "standard",
    fractions: Fractions = FRACTIONS,
    *,
    balanced: bool = False,
) -> tuple[Split, Problem]:
    """Draws the parts by the seed, and scales their inputs by the training part.

    Args:
      table, problem: as `pose` returns them.
      seed: of the draw.
      scale: of the features.
      fractions: how much of the table is drawn for a part, unless that is set apart.
      balanced: whether losses weigh each class as if all had as many examples.

    Returns:
      The parts, and the problem with its targets' scaling taken from the training part.

    Raises:
      BadInput: when a part would not hold every class, or a number is too large for the network's arithmetic, or no
        example of a part counts.
    """
    assert table.y is not None
    if balanced and not problem.classes:
        why = "; an example has several labels, and one weight" if problem.labels else ""
        raise BadInput(f"--class-weights balanced: expected one target of classes, got {problem.kind}{why}")
    rows = rows_of(table, problem, seed, fractions)
    treatments = treatments_of(table, rows.train)
    apart = [one and encoded(one, treatments) for one in (table.validation, table.test)]
    table = encoded(table, treatments)
    tables = [table, *filter(None, apart)]
    scaling = scaling_of(table.x, rows.train, scale, image=table.image)
    for read in tables:
        require_moderate(read, scaling)
    class_weights = _balancing(table, rows.train, problem) if balanced else None
    train, validation, test = [
        _part(name, (of_part or table).at(at), scaling, class_weights)
        for name, of_part, at in zip(PARTS, (None, *apart), rows, strict=True)
    ]
    problem = scaled_to(problem, train.y)
    for read in tables if problem.regression else ():
        assert read.y is not None
        _require_near(read, read.y, (read.y - problem.mean) / problem.scale)
    return Split(train, validation, test, scaling, table.features, treatments, class_weights), problem


def rows_of(table: Table, problem: Problem, seed: int, fractions: Fractions = FRACTIONS) -> RowsOfParts:
    """Which rows make up each part, by the seed: stratified by class, or whole groups; parts set apart are kept.

    Raises:
      BadInput: when a part would not hold every class.
    """
    y = table.y
    assert y is not None
    rows, of_parts = np.arange(len(table.x)), {}
    for name, apart in (("test", table.test), ("validation", table.validation)):
        share = getattr(fractions, name)
        if apart is not None:
            of_parts[name] = np.arange(len(apart.x))
        elif share is None:
            of_parts[name] = rows[:0]
        else:
            rows, of_parts[name] = _drawn(table, problem, rows, share, seed)
    if table.groups is not None and problem.classes:
        lacking = np.setdiff1d(np.arange(len(problem.classes)), y[rows])
        if len(lacking):
            raise BadInput(
                f"--group: by whole groups no row of class {problem.classes[lacking[0]]!r} is left to learn from; "
                "expected each class in several groups, or try another --seed"
            )
    return RowsOfParts(rows, of_parts["validation"], of_parts["test"])


def _drawn(table, problem, rows, share, seed):
    """The rows without those of a part, and these."""
    count, classes = max(round(share * len(table.x)), 1), len(problem.classes)
    labels = table.y[rows] if classes else np.zeros(len(rows), int)
    if table.groups is not None:
        groups = table.groups[rows]
        if (groups == groups[0]).all():
            raise BadInput(f"--group: {table.name} has too few groups for its parts; expected one for each at least")
        chosen = draw(count, groups, labels, seed)
        return rows[~chosen], rows[chosen]
    if classes and min(count, len(rows) - count) < classes:
        raise BadInput(
            f"--data {table.name}: a part of {min(count, len(rows) - count)} of {len(table.x)} rows cannot hold "
            f"{classes} classes; expected more rows"
        )
    if count >= len(rows):
        raise BadInput(f"--data {table.name}: {len(rows)} rows are too few for the parts; expected more rows")
    if classes and (held := np.bincount(labels)).min() == 1:
        raise BadInput(
            f"--data {table.name}: of class {problem.classes[held.argmin()]!r} one row is left for two parts; expected "
            "more rows of it"
        )
    return stratified.draw(rows, count, labels if classes else None, seed)


def _balancing(table, rows, problem):
    """What each class counts, so that all count alike: n / (classes n_k), by the training part."""
    weights = None if table.weights is None else table.weights[rows]
    counted = np.bincount(table.y[rows], weights, len(problem.classes))
    if not counted.all():
        least = problem.classes[int(counted.argmin())]
        raise BadInput(f"--class-weights balanced: no example of class {least!r} counts in the training part")
    return counted.sum() / (len(counted) * counted)


def _part(name, table, scaling, class_weights):
    weights = loss_weights = table.weights
    if class_weights is not None:
        loss_weights = class_weights[table.y] if weights is None else weights * class_weights[table.y]
    if weights is not None and not weights.any():
        raise BadInput(f"--weights: no example of the {name} part counts; expected some weights above 0 in each part")
    return Part(table.x.scaled(scaling), table.y, _with_mean_1(weights), _with_mean_1(loss_weights))


def _with_mean_1(weights):
    # In units of the largest, whose sum cannot overflow.
    return None if weights is None else (of_largest := weights / weights.max()) / of_largest.mean()


def _require_near(table, values, scaled):
    far = np.argwhere(np.abs(scaled) > FARTHEST)
    if len(far):
        row, column = far[0]
        raise BadInput(
            f"--data {table.name}, row {row + 1}, column {table.targets[column]!r}: {values[row, column]:g} is "
            f"{abs(scaled[row, column]):.1g} standard deviations from the mean; expected at most {FARTHEST:g}"
        )
