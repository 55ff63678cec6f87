"""Examples as rows, with the names of what stands in them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxnet.experiment.data.columns import Column
from jaxnet.experiment.data.image_form import ImageForm
from jaxnet.experiment.data.source import Source


class Table(NamedTuple):
    """Examples and their targets, before any scaling.

    Attributes:
      name: of the data set or path that they came from, for messages.
      x: (m, ...), finite but for gaps; an image keeps its shape.
      y: (m,) texts for classes, (m, targets) numbers otherwise; None where there is no target.
      features: the columns' names; of an example of several axes, its numbers' names in their order.
      targets: the targets' names.
      test: further examples set apart for the test, where the source does so.
      labels: whether numbers in y are labels of classes for certain, as in IDX files.
      names: (m,) of one target, what its numbers are called if they are labels of classes: the texts of a file, or
        integers, which float64 does not tell apart beyond 2^53; None where they are called as y has them.
      image: whether x are an image's values, which have one scale in common.
      columns: of a file of columns, what each feature is; gaps are NaN in x. Empty for other data.
      left_out: columns that are no features, and why.
      notes: what else was found out while it was read.
      validation: further examples set apart for the validation, where that is asked for.
      weights: (m,), what each example counts, in proportion; None where all count alike.
      groups: (m,), numbers: rows of one number belong together.
      group_names: what the groups are called, by their numbers.
      beside: columns of the file that are neither features nor targets, for whatever reason.
      form: of a folder of images, how they became arrays; None for other data.
      files: (m,), of a folder of images, where in it each one is.
    """

    name: str
    x: Source
    y: np.ndarray | None
    features: tuple[str, ...]
    targets: tuple[str, ...]
    test: "Table | None" = None
    labels: bool = False
    names: np.ndarray | None = None
    image: bool = False
    columns: tuple[Column, ...] = ()
    left_out: Mapping[str, str] = MappingProxyType({})
    notes: tuple[str, ...] = ()
    validation: "Table | None" = None
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None
    group_names: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    form: ImageForm | None = None
    files: np.ndarray | None = None

    @property
    def class_labels(self) -> np.ndarray:
        """What the classes are called, (m,): texts, integers or whole numbers, if y are labels of classes."""
        assert self.y is not None
        return self.y.ravel() if self.names is None else self.names

    def at(self, rows: np.ndarray) -> "Table":
        """Some of the examples."""
        of_rows = (self.y, self.names, self.weights, self.groups, self.files)
        y, names, weights, groups, files = (None if of_all is None else of_all[rows] for of_all in of_rows)
        return self._replace(x=self.x.at(rows), y=y, names=names, weights=weights, groups=groups, files=files)
