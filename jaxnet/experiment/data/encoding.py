"""From columns as a table holds them to features that a network takes: texts become one-hot, gaps are filled.

By what the training part holds, as the scaling is; a text that it lacks, or has hardly, has a place of its own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxnet.experiment.data.columns import CATEGORY, Column
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.table import Table

# A text in fewer of the training part's rows shares the place of all others.
LEAST_ROWS_OF_A_TEXT = 3
# Texts with a feature of their own; those in fewer rows share the place of all others.
MOST_TEXTS = 100


class Treatment(NamedTuple):
    """What becomes of a column.

    Attributes:
      name, kind: of the column.
      texts: of a category, those with a feature of their own.
      fill: what stands in a gap of another column: the median of the training part.
      gaps: whether a feature of its own says where gaps were, as there are some in the training part.
    """

    name: str
    kind: str
    texts: tuple[str, ...]
    fill: float
    gaps: bool

    @property
    def features(self) -> tuple[str, ...]:
        """The names of what becomes of it."""
        gap = (f"{self.name} missing",) if self.gaps else ()
        if self.kind != CATEGORY:
            return (self.name, *gap)
        return (*(f"{self.name}={text}" for text in self.texts), f"{self.name} other", *gap)

    @property
    def is_plain(self) -> bool:
        """Whether numbers stay as they are."""
        return self.kind != CATEGORY and not self.gaps

    def __call__(self, column: Column, values: np.ndarray) -> np.ndarray:
        """(m, features) of the column's values (m,), in whatever file they are."""
        missing = np.isnan(values)
        if self.kind != CATEGORY:
            made = [np.where(missing, self.fill, values)]
        else:
            place = {text: k for k, text in enumerate(self.texts)}
            # Texts of this file to places in ours; all others share the last one.
            ours = np.array([place.get(text, len(place)) for text in column.texts] or [0])
            at = ours[np.where(missing, 0, values).astype(int)]
            made = [(at == k) & ~missing for k in range(len(place) + 1)]
            # In training there were no gaps: what a gap may mean, nobody knows.
            made[-1] = made[-1] | (missing & (not self.gaps))
        return np.stack([*made, missing] if self.gaps else made, axis=1).astype(float)


def treatments_of(table: Table, rows: np.ndarray) -> tuple[Treatment, ...]:
    """How each column becomes features, by the rows of the training part; none where the data have no columns."""
    if not table.columns:
        return ()
    x = table.x.at(np.sort(rows)).read(slice(None), np.float64)
    return tuple(_treatment(column, values) for column, values in zip(table.columns, x.T, strict=True))


def encoded(table: Table, treatments: Sequence[Treatment]) -> Table:
    """The table with features that a network takes.

    Args:
      table: with the columns that the treatments are of, in their order.
      treatments: of `treatments_of`.
    """
    if not treatments:
        return table
    x = table.x.read(slice(None), np.float64)
    if all(treatment.is_plain for treatment in treatments) and not np.isnan(x).any():
        return table
    columns = table.columns or tuple(Column(name) for name in table.features)
    made = [treatment(*of_column) for treatment, *of_column in zip(treatments, columns, x.T, strict=True)]
    features = tuple(name for treatment in treatments for name in treatment.features)
    return table._replace(x=InMemory(np.concatenate(made, axis=1)), features=features, columns=())


def _treatment(column, values):
    known = values[~np.isnan(values)]
    gaps = len(known) < len(values)
    if column.kind != CATEGORY:
        return Treatment(column.name, column.kind, (), float(np.median(known)) if len(known) else 0.0, gaps)
    counts = np.bincount(known.astype(int), minlength=len(column.texts))
    often = [k for k in np.argsort(-counts, kind="stable")[:MOST_TEXTS] if counts[k] >= LEAST_ROWS_OF_A_TEXT]
    return Treatment(column.name, CATEGORY, tuple(column.texts[k] for k in sorted(often)), 0.0, gaps)
