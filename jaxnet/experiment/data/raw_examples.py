"""Examples as a program has them: an array, or columns by name, such as those of a DataFrame."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnet.experiment.console.errors import some
from jaxnet.experiment.data.columns import Odd, Written, interpreted
from jaxnet.experiment.data.encoding import Treatment


def features(raw: Any, columns: tuple[str, ...], treatments: tuple[Treatment, ...]) -> np.ndarray:
    """Features as numbers, (m, ...), of raw ones.

    Args:
      raw: examples (m, columns), or in another shape; or columns by name, in any order and with others beside them.
      columns: their names.
      treatments: how the columns of a file become features; empty for other data.

    Raises:
      ValueError: saying what was expected instead.
    """
    raw = _in_order(raw, columns)
    return _encoded(raw, treatments) if treatments else _numbers(raw)


def ids(raw: Any, tokens: int, context: int) -> np.ndarray:
    """Ids (m, t) of a text, once they are known to be such.

    Args:
      raw: what is given for them.
      tokens: how many there are.
      context: the most positions.

    Raises:
      ValueError: saying what was expected instead.
    """
    given = np.asarray(raw)
    if given.dtype.kind not in "iu" or given.ndim != 2 or not 1 <= given.shape[1] <= context:
        expected = f"ids (m, t) of whole numbers, with t from 1 to {context}"
        raise ValueError(
            f"predict: expected {expected}, got {given.dtype} of shape {given.shape}; encode makes them of text"
        )
    if given.size and not 0 <= given.min() <= given.max() < tokens:
        raise ValueError(f"predict: expected ids from 0 to {tokens - 1}, got {given.min()} to {given.max()}")
    return given


def _in_order(raw, names):
    """The columns that the network knows, side by side, of what has them by name; else as it is."""
    if not hasattr(raw, "columns") and not isinstance(raw, dict):
        return raw
    missing = [name for name in names if name not in (raw.columns if hasattr(raw, "columns") else raw)]
    if missing:
        raise ValueError(f"predict: expected the columns of the training data, lacks {some(map(repr, missing), 5)}")
    return np.stack([np.asarray(raw[name], object) for name in names], axis=1)


def _encoded(raw, treatments):
    """(m, features) of columns (m, columns) of whatever they hold."""
    cells = np.asarray(raw, object)
    if cells.ndim != 2 or cells.shape[1] != len(treatments):
        raise ValueError(f"predict: expected raw columns (m, {len(treatments)}), got shape {cells.shape}")
    made = []
    for treatment, of_column in zip(treatments, cells.T, strict=True):
        texts, places = np.unique([_text(cell) for cell in of_column], return_inverse=True)
        held = interpreted(Written(treatment.name, texts.tolist(), places), treatment.kind, decimal_comma=False)
        if isinstance(held, Odd):
            row, name = held.rows[0], held.column
            raise ValueError(f"predict: expected {held.expected}, got {held.shown[0]} in row {row}, {name!r}")
        made.append(treatment(*held))
    return np.concatenate(made, axis=1)


def _text(cell):
    """As a file has it: numbers with all their digits, True as yes."""
    if cell is None:
        return ""
    if isinstance(cell, (bool, np.bool_)):
        return "yes" if cell else "no"
    return repr(float(cell)) if isinstance(cell, (float, np.floating)) else str(cell).strip()


def require(fits: np.ndarray, values: np.ndarray, features: Sequence[str], expected: str) -> None:
    """Refuses numbers (m, features) of which some do not fit, naming the first.

    Raises:
      ValueError: saying what was expected instead.
    """
    if not fits.all():
        row, column = np.argwhere(~fits)[0]
        value = values[row, column]
        raise ValueError(f"predict: expected {expected}, got {value:g} in row {row}, {features[column]!r}")


def _numbers(raw):
    try:
        return np.asarray(raw, np.float64)
    except (TypeError, ValueError):
        raise ValueError("predict: expected raw features to be numbers, got others") from None
