"""The targets of a table: texts that name classes, or numbers; of several targets, also yes and no."""

from collections.abc import Sequence

import numpy as np

from jaxnet.experiment.data import cells
from jaxnet.experiment.data.cells import LARGEST
from jaxnet.experiment.data.columns import Odd, Written, expected_numbers, odd_cells
from jaxnet.experiment.data.labels import LONGEST_NAME, PARTS, are_few


def read(targets: Sequence[Written]) -> tuple[np.ndarray, np.ndarray | None] | list[Odd]:
    """Texts of classes (m,) and None, or numbers (m, targets) and the texts that they were, if there is one target.

    Args:
      targets: the columns.

    Returns:
      Those; or the cells that are no targets.
    """
    odd = [found for target in targets if (found := _without_names(target)) is not None]
    if odd:
        return odd
    if len(targets) > 1:
        columns = [_numbers(target, labels=True) for target in targets]
        odd = [column for column in columns if isinstance(column, Odd)]
        return odd or (np.stack([column for column in columns if not isinstance(column, Odd)], axis=1), None)
    (target,) = targets
    names = np.array(target.texts)[target.places]
    are_texts = _are_texts(target)
    if isinstance(are_texts, Odd):
        return [are_texts]
    if are_texts:
        return names, None
    numbers = _numbers(target, labels=False)
    return [numbers] if isinstance(numbers, Odd) else (numbers[:, None], names)


def _without_names(target):
    """Cells that say nothing, or too much."""
    empty = np.array([not text for text in target.texts])
    if empty.any():
        return odd_cells(target, empty, "a target in each row")
    long = np.array([len(text) > LONGEST_NAME for text in target.texts])
    return odd_cells(target, long, f"targets of at most {LONGEST_NAME} characters") if long.any() else None


def _are_texts(target):
    """Whether a column names classes by texts. Of texts among numbers, or the other way, the few may be mistakes.

    Classes may be called K, 1 and 2. A single 'NA' among numbers, or 'nan' among texts, is a target that is missing.
    """
    number = np.array([cells.plain_number(text) is not None for text in target.texts])
    if number.all() or not number.any():
        return not number.any()
    missing = np.array([cells.is_missing(text) for text in target.texts])
    counts, said = target.counts, target.counts[~missing]
    are_classes = are_few(len(said), int(said.sum())) and said.min() >= PARTS
    if not missing.any() and are_classes:
        return True
    if 2 * counts[number].sum() >= counts.sum():
        return odd_cells(target, missing if are_classes else missing | ~number, "finite numbers")
    return odd_cells(target, missing if missing.any() else number, "texts, as in most rows")


def _numbers(target, *, labels):
    def value(text):
        label = cells.boolean(text) if labels else None
        return cells.plain_number(text) if label is None else label

    values = np.array([np.nan if (read := value(text)) is None else read for text in target.texts])
    wrong = ~(np.abs(values) <= LARGEST)
    return odd_cells(target, wrong, expected_numbers(target, wrong)) if wrong.any() else values[target.places]
