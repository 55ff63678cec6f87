"""The targets of a table: texts that name classes, or numbers; of several targets, also yes and no."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data import cells
from jaxnet.experiment.data.cells import LARGEST
from jaxnet.experiment.data.labels import LONGEST_NAME, PARTS, are_few

# A file, a row from 0, and its line.
Place: TypeAlias = tuple[Path, int, int]


def read(
    texts: Sequence[Sequence[str]], targets: Sequence[str], places: Sequence[Place]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Texts of classes (m,) and None, or numbers (m, targets) and the texts that they were, if there is one target.

    Raises:
      BadInput: naming the cell that is no target.
    """
    for row, place in zip(texts, places, strict=True):
        for text, target in zip(row, targets, strict=True):
            if not text:
                raise _bad(place, target, "expected a target, got an empty cell")
            if len(text) > LONGEST_NAME:
                expected = f"expected a target of at most {LONGEST_NAME} characters, got {len(text)} characters"
                raise _bad(place, target, expected)
    names = np.array([text for (text,) in texts]) if len(targets) == 1 else None
    if names is not None and _are_texts(names.tolist(), targets[0], places):
        return names, None
    y = np.array(
        [
            [_number(text, place, target, several=len(targets) > 1) for text, target in zip(row, targets, strict=True)]
            for row, place in zip(texts, places, strict=True)
        ]
    )
    return y, names


def _are_texts(column, target, places):
    """Whether a column names classes by texts. Of texts among numbers, or the other way, the few may be mistakes.

    Classes may be called K, 1 and 2. A single 'NA' among numbers, or 'nan' among texts, is a target that is missing.
    """
    number = [cells.plain_number(text) is not None for text in column]
    if not any(number) or all(number):
        return not any(number)
    wrong = next((row for row, text in enumerate(column) if cells.is_missing(text)), None)
    if wrong is None:
        values, counts = np.unique(column, return_counts=True)
        if are_few(len(values), len(column)) and counts.min() >= PARTS:
            return True
    mostly_numbers = 2 * sum(number) >= len(number)
    if wrong is None:
        wrong = number.index(not mostly_numbers)
    expected = "a finite number" if mostly_numbers else "a text, as in most rows"
    raise _bad(places[wrong], target, f"expected {expected}, got {column[wrong][:40]!r}")


def _number(cell, place, target, *, several):
    # Of several targets, yes and no are labels.
    value = cells.boolean(cell) if several else None
    value = cells.plain_number(cell) if value is None else value
    if value is None or not abs(value) <= LARGEST:
        expected = "a finite number" if value is None or not math.isfinite(value) else f"a number up to {LARGEST:g}"
        raise _bad(place, target, f"expected {expected}, got {cell[:40]!r}")
    return value


def _bad(place, target, what):
    path, row, line = place
    return BadInput(f"--data {path}, row {row + 1} (line {line}), column {target!r}: {what}")
