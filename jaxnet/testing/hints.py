"""What kind of mistake a difference looks like."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

# A hint names a pattern when it explains the difference to this accuracy, whatever the tolerance.
ALIKE = 1e-3


def shape_hint(hand: Any, right: Any) -> str:
    """What a leaf of another shape than the expected one looks like."""
    return ": transposed?" if hand.ndim == 2 and hand.shape == right.shape[::-1] else ""


def value_hint(hand: Any, right: Any, lengths: Sequence[int]) -> str:
    """What a leaf of other values than the expected ones looks like.

    Args:
      hand, right: two arrays of one shape.
      lengths: of the axes of the arguments, to recognise a factor of 1/m.

    Returns:
      The hint, to be appended to a message, or nothing.
    """
    eps = float(jnp.finfo(hand.dtype).eps) if jnp.issubdtype(hand.dtype, jnp.floating) else 0.0
    hand, right = np.asarray(hand, np.float64), np.asarray(right, np.float64)
    scale = np.abs(right).max()
    if not (np.isfinite(hand).all() and np.isfinite(right).all() and scale > 0):
        return ""
    if not hand.any():
        return "; all zeros by hand"
    ratio = float((hand * right).sum() / (right * right).sum())
    if _is_one_factor(ratio, hand, right, eps):
        # A leaf with one element is any multiple of another: only the tell-tale factors are named.
        telling = _factor(ratio, lengths)
        return telling if telling or hand.size == 1 else f"; off by the factor {ratio:.6g} everywhere"
    if np.abs(hand - right).max() > ALIKE * scale:
        for pattern, candidate in _rearranged(hand, right):
            if np.abs(candidate - right).max() <= ALIKE * scale:
                return f"; {pattern}"
    return ""


def _is_one_factor(ratio: float, hand: np.ndarray, right: np.ndarray, eps: float) -> bool:
    """Whether every element is the same multiple of the right one, and of another size than rounding makes it."""
    # A factor is told from 1 in the first half of the type's digits; an element errs in its last.
    if ratio == 0 or abs(ratio - 1) <= math.sqrt(eps):
        return False
    rounding = min(64 * eps, math.sqrt(eps)) * np.abs(hand).max()
    return bool((np.abs(hand - ratio * right) <= ALIKE * abs(ratio - 1) * np.abs(right) + rounding).all())


def _rearranged(hand: np.ndarray, right: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if hand.ndim == 2 and hand.shape[0] == hand.shape[1]:
        yield "transposed", hand.T
        yield "transposed, with the sign flipped", -hand.T
    yield "some signs flipped", np.copysign(hand, right)


def _factor(ratio: float, lengths: Sequence[int]) -> str:
    if math.isclose(ratio, -1, rel_tol=ALIKE):
        return "; the sign is flipped"
    sign = "-" if ratio < 0 else ""
    for length in sorted(set(lengths)):
        if length > 1 and math.isclose(abs(ratio), 1 / length, rel_tol=ALIKE):
            return f"; off by a factor of {sign}1/{length}, the length of an axis: a mean for a sum?"
        if length > 1 and math.isclose(abs(ratio), length, rel_tol=ALIKE):
            return f"; off by a factor of {sign}{length}, the length of an axis: a sum for a mean?"
    return ""
