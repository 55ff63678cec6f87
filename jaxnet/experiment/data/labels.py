"""Classes and their labels: a class is its text, and numbers only order the classes."""

import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

import numpy as np

# Numbers count as labels of classes when there are no more of them than this, each in so many rows on average.
MOST_GUESSED_CLASSES = 100
LEAST_ROWS_A_CLASS = 5
# A class must reach the training, the validation and the test part.
PARTS = 3
# Of a class: NumPy gives each the room of the longest.
LONGEST_NAME = 1000


def classes_of(labels: np.ndarray) -> tuple[str, ...]:
    """The names of the classes that labels (m,) stand for, in the order of their numbers.

    Args:
      labels: texts, integers or whole floats. Integers are never made floats, which merges those beyond 2^53.
    """
    return _in_order(map(_name, np.unique(labels)))


def numbers_of(labels: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Each label's place among the classes, (m,); -1 where no class has that name."""
    places = {name: place for place, name in enumerate(classes)}
    values, inverse = np.unique(labels, return_inverse=True)
    return np.array([places.get(_name(value), -1) for value in values], int)[inverse.reshape(-1)]


def are_few(classes: int, rows: int) -> bool:
    """Whether so many different values in so many rows are labels of classes rather than numbers to be learnt."""
    return classes <= MOST_GUESSED_CLASSES and classes * LEAST_ROWS_A_CLASS <= rows


def _name(label):
    # By adding 0, -0.0 becomes 0.0.
    return f"{label + 0:.17g}" if isinstance(label, np.floating) else str(label)


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """By size if all are numbers, otherwise as texts, in which whole numbers go by size: class 2 before class 10."""
    names = list(names)
    sizes = list(map(_size, names))
    if None in sizes:
        return tuple(sorted(names, key=lambda name: (_pieces(name), name)))
    return tuple(name for _, name in sorted(zip(sizes, names, strict=True)))


def _pieces(name):
    """Texts and whole numbers by turns, so that the pieces of two names compare."""
    return [int(piece) if k % 2 else piece for k, piece in enumerate(re.split(r"([0-9]+)", name))]


def _size(name):
    """The number that a text is, exactly, or None."""
    try:
        size = Decimal(name)
    except InvalidOperation:
        return None
    return size if size.is_finite() and "_" not in name else None
