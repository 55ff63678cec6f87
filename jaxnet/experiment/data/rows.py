"""What some columns of a table say of its rows: what each counts, and which of them belong together."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxnet.experiment.data import cells
from jaxnet.experiment.data.cells import LARGEST
from jaxnet.experiment.data.columns import Odd, Written, odd_cells


class OfRows(NamedTuple):
    """What is known of rows beside features and targets.

    Attributes:
      weights: (m,), what each counts, 0 or more; None where no column says so.
      groups: (m,), a number for each: rows of one number belong together; None where no column says so.
      group_names: what the groups are called, by their numbers.
      odd: cells that do not fit; their column is None then.
    """

    weights: np.ndarray | None
    groups: np.ndarray | None
    group_names: tuple[str, ...]
    odd: tuple[Odd, ...]


def read(columns: Mapping[str, Written], weights: str | None, group: str | None, *, decimal_comma: bool) -> OfRows:
    """What some columns say.

    Args:
      columns: by their names.
      weights, group: the columns' names; a column need not be there.
      decimal_comma: whether 1,5 is one and a half.
    """
    odd: list[Odd] = []

    def column(name, reader):
        if name is None or name not in columns:
            return None
        of_column = reader(columns[name])
        if isinstance(of_column, Odd):
            odd.append(of_column)
            return None
        return of_column

    numbers = column(weights, lambda written: _weights(written, decimal_comma))
    groups = column(group, _groups)
    names = () if group is None or groups is None else tuple(columns[group].texts)
    return OfRows(numbers, groups, names, tuple(odd))


def _weights(written, decimal_comma):
    values = (cells.number(text, decimal_comma=decimal_comma) for text in written.texts)
    weights = np.array([np.nan if value is None else value for value in values])
    wrong = ~((weights >= 0) & (weights <= LARGEST))
    return odd_cells(written, wrong, "weights of 0 or more") if wrong.any() else weights[written.places]


def _groups(written):
    wrong = np.array([not text for text in written.texts])
    return odd_cells(written, wrong, "the name of a group") if wrong.any() else written.places


def notes(weights: np.ndarray | None, name: str | None) -> tuple[str, ...]:
    """What is worth knowing of weights."""
    if weights is None or weights.all():
        return ()
    return (f"by --weights {name}, {(weights == 0).sum()} of {len(weights)} examples count for nothing",)
