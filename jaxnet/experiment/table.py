"""Examples as rows, with the names of what stands in them."""

from typing import NamedTuple

import numpy as np


class Table(NamedTuple):
    """Examples and their targets, before any scaling.

    Attributes:
      source: where they came from, for messages.
      x: (m, features), finite; float64, or a `np.memmap` of numbers that are streamed from disk.
      y: (m,) texts or booleans for classes, (m, targets) numbers otherwise; None where there is no target.
      features: the columns' names.
      targets: the targets' names.
      test: further examples set apart for the test, where the source does so.
      labels: whether numbers in y are labels of classes for certain, as in IDX files.
    """

    source: str
    x: np.ndarray
    y: np.ndarray | None
    features: tuple[str, ...]
    targets: tuple[str, ...]
    test: "Table | None" = None
    labels: bool = False
