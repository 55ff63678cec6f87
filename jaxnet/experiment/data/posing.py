"""Which problem a table poses, by its targets and the options: classes, labels, values or counts."""

import numpy as np

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data.labels import PARTS, are_few, classes_of, numbers_of
from jaxnet.experiment.data.problem import LOSSES_OF_LABELS, OUTPUT_RANGES, Problem
from jaxnet.experiment.data.table import Table
from jaxnet.experiment.options.train_config import LossName, OutputActivation

# Losses of targets that are numbers; the others are of classes.
OF_NUMBERS = ("half_squared_error", "huber_loss", "poisson_nll_loss")
# Why an output activation of one's own is refused, where it is not the activation that losses of classes include.
REASONS = {"binary_cross_entropy": "takes probabilities", "poisson_nll_loss": "includes its own exponential"}


def pose(table: Table, loss: LossName = "auto", output_activation: OutputActivation = "auto") -> tuple[Problem, Table]:
    """Infers the problem from the targets; an explicit loss decides where the targets leave it open.

    Args:
      table: the examples.
      loss, output_activation: of the options.

    Returns:
      The problem, and the table with classes as their numbers (m,) or values (m, targets).

    Raises:
      BadInput: when the targets cannot be learnt with the options given.
    """
    if _are_labels(table, loss):
        problem = _labels_of(table, loss, output_activation)
    elif _are_classes(table, loss):
        problem, table = _pose_classes(table, loss, output_activation)
    else:
        problem = _regression_of(table, "half_squared_error" if loss == "auto" else loss, output_activation)
    for part, apart in (("test", table.test), ("validation", table.validation)):
        _require_alike(problem, part, apart)
    return problem, table


def _are_labels(table, loss):
    """Whether there are several targets, all of 0 and 1."""
    several = table.y.ndim == 2 and table.y.shape[1] > 1
    return several and loss in ("auto", *LOSSES_OF_LABELS) and bool(np.isin(table.y, (0, 1)).all())


def _labels_of(table, loss, output_activation):
    for name, column in zip(table.targets, table.y.T, strict=True):
        if column.min() == column.max():
            raise BadInput(
                f"--data {table.name}, target {name!r}: expected a label that some examples have and others have not, "
                f"got only {column[0]:g}"
            )
    loss = LOSSES_OF_LABELS[0] if loss == "auto" else loss
    output, nothing = _output_for(loss, output_activation), np.zeros(0)
    return Problem(f"{len(table.targets)} labels", table.targets, (), loss, output, nothing, nothing)


def _require_alike(problem, part, apart):
    """Refuses targets of a part that is set apart, where they are not such as the training part's."""
    if apart is None or problem.classes:
        return
    several = len(problem.targets)
    if apart.y.shape != (len(apart.x), several):
        expected = "numbers" if several == 1 else f"{several} targets of numbers"
        got = "texts" if apart.y.ndim == 1 else f"{apart.y.shape[1]} targets"
        raise BadInput(f"--data {apart.name}: expected the {part} part to have {expected}, got {got}")
    if problem.labels and not np.isin(apart.y, (0, 1)).all():
        raise BadInput(f"--data {apart.name}: expected the {part} part's labels to be 0 or 1, got other numbers")


def _are_classes(table, loss):
    assert table.y is not None
    wants_numbers = loss in OF_NUMBERS
    if table.y.ndim == 1:
        if wants_numbers:
            raise BadInput(f"--loss {loss}: expects numbers, but {table.targets[0]!r} holds texts")
        return True
    whole = bool((table.y == np.round(table.y)).all())
    if loss != "auto" and not wants_numbers:
        if table.y.shape[1] > 1 or not whole:
            what = "several targets" if table.y.shape[1] > 1 else "numbers that are not whole"
            raise BadInput(f"--loss {loss}: expects classes, but {table.name} has {what}")
        return True
    if wants_numbers or table.y.shape[1] > 1 or not whole:
        return False
    return table.labels or are_few(len(np.unique(table.class_labels)), len(table.y))


def _pose_classes(table, loss, output_activation):
    classes = classes_of(table.class_labels)
    numbers = numbers_of(table.class_labels, classes)
    _check_classes(table, classes, np.bincount(numbers), _parts_of(table))
    if loss == "auto":
        two = len(classes) == 2
        loss = "sigmoid_binary_cross_entropy" if two else "softmax_cross_entropy_with_integer_labels"
    kind = "two classes" if len(classes) == 2 else f"{len(classes)} classes"
    nothing = np.zeros(0)
    output = _output_for(loss, output_activation)
    problem = Problem(kind, table.targets, classes, loss, output, nothing, nothing)
    test, validation = (
        apart and apart._replace(y=_known_numbers_of(apart, part, classes))
        for part, apart in (("test", table.test), ("validation", table.validation))
    )
    return problem, table._replace(y=numbers, test=test, validation=validation)


def _parts_of(table):
    """The parts that are taken from the table's own rows."""
    apart = {"validation": table.validation, "test": table.test}
    return ["training", *(part for part, of_part in apart.items() if of_part is None)]


def _check_classes(table, classes, counts, parts):
    target = f"--data {table.name}, target {table.targets[0]!r}"
    if len(classes) < 2:
        raise BadInput(f"{target}: expected at least two classes, got only {classes[0]!r}")
    each = "one for each of training, validation and test" if len(parts) == PARTS else f"one for {' and '.join(parts)}"
    if len(classes) * len(parts) > counts.sum():
        raise BadInput(
            f"{target}: {len(classes)} classes in {counts.sum()} rows; expected at least {len(parts)} rows for each "
            f"class, {each}; for numbers use --loss half_squared_error"
        )
    if counts.min() < len(parts):
        rare = classes[int(counts.argmin())]
        raise BadInput(f"{target}: class {rare!r} has {counts.min()} rows; expected at least {len(parts)}, {each}")


def _known_numbers_of(apart, part, classes):
    numbers = numbers_of(apart.class_labels, classes)
    if numbers.min() < 0:
        (unknown,) = classes_of(apart.class_labels[[numbers.argmin()]])
        raise BadInput(f"--data {apart.name}: the {part} part has the class {unknown!r}, which the training part lacks")
    return numbers


def _output_for(loss, output_activation):
    needed = "sigmoid" if loss == "binary_cross_entropy" else "identity"
    if output_activation not in ("auto", needed):
        reason = REASONS.get(loss, "includes its own")
        raise BadInput(
            f"--output-activation {output_activation}: {loss} {reason}; expected {needed}, or leave it at auto"
        )
    return needed


def _regression_of(table, loss, output_activation):
    if len(table.y) < 10:
        raise BadInput(f"--data {table.name}: expected at least 10 rows to split, got {len(table.y)}")
    if loss == "poisson_nll_loss":
        output_activation = _output_for(loss, output_activation)
        _check_counts(table)
    output = "identity" if output_activation == "auto" else output_activation
    low, high = OUTPUT_RANGES.get(output, (-np.inf, np.inf))
    outside = np.argwhere((table.y < low) | (table.y > high))
    if len(outside):
        row, column = outside[0]
        raise BadInput(
            f"--output-activation {output}: gives values in [{low}, {high}], but {table.name}, row {row + 1}, "
            f"target {table.targets[column]!r} is {table.y[row, column]:g}"
        )
    for name, column in zip(table.targets, table.y.T, strict=True):
        if column.min() == column.max():
            raise BadInput(
                f"--data {table.name}, target {name!r}: expected numbers that differ, got only {column[0]:g}"
            )
    targets = table.y.shape[1]
    kind = "regression" if targets == 1 else f"regression with {targets} outputs"
    return Problem(kind, table.targets, (), loss, output, np.zeros(targets), np.ones(targets))


def _check_counts(table):
    for part in (table, table.validation, table.test):
        if part is None or part.y.ndim == 1:
            continue
        for row, column in np.argwhere(part.y < 0)[:1]:
            raise BadInput(
                f"--loss poisson_nll_loss: expects counts of at least 0, but {part.name}, row {row + 1}, "
                f"target {table.targets[column]!r} is {part.y[row, column]:g}"
            )
