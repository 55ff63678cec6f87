"""Two trees of numbers, leaf by leaf; where they differ, what kind of mistake it looks like."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

# A hint names a pattern when it explains the difference to this accuracy, whatever the tolerance.
ALIKE = 1e-3


def assert_close(
    name: str,
    actual: PyTree,
    expected: PyTree,
    bound: Callable[[Any, Any], float],
    *,
    like: PyTree | None = None,
    lengths: Sequence[int] = (),
) -> None:
    """Asserts the same structure, shapes and dtypes, and values within a bound relative to the leaf's largest value.

    Args:
      name: what is checked, the first line of the message.
      actual, expected: a dictionary from what a person calls it to a pytree.
      bound: (expected leaf, leaf of like) -> the largest relative difference allowed.
      like: whose dtypes the actual leaves must have; those of expected by default.
      lengths: of the axes of the arguments, to recognise a factor of 1/m.

    Raises:
      AssertionError: naming each leaf that differs by its path.
    """
    like = expected if like is None else like
    if jax.tree.structure(actual) != jax.tree.structure(expected):  # type: ignore[operator]
        raise AssertionError(f"{name}:\n  expected the structure {_drawn(expected)},\n  got {_drawn(actual)}")
    failures = []
    leaves = jax.tree_util.tree_leaves_with_path(actual)
    for (path, hand), right, peer in zip(leaves, jax.tree.leaves(expected), jax.tree.leaves(like), strict=True):
        where = path_name(path)
        if hand.shape != right.shape or hand.dtype != peer.dtype:
            hint = _shape_hint(hand, right)
            failures.append(f"{where}: expected {peer.dtype}{right.shape}, got {hand.dtype}{hand.shape}{hint}")
            continue
        error, index = relative_error(hand, right)
        allowed = bound(right, peer)
        if not error <= allowed:
            values = f"by hand {float(hand[index]):.9g}, expected {float(right[index]):.9g}"
            size = f"off by {error:.1e} of the leaf's largest value, allowed {allowed:.1e}"
            failures.append(f"{where}{list(index)}: {values}; {size}{_hint(hand, right, lengths)}")
    if failures:
        raise AssertionError("\n  ".join([f"{name}:", *failures]))


def relative_error(actual: Any, expected: Any) -> tuple[float, tuple[int, ...]]:
    """The largest |difference| over the largest |expected|, and where it is; NaN where either holds one."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if actual.size == 0:
        return 0.0, ()
    with np.errstate(invalid="ignore"):
        difference = np.abs(actual - expected)
    index = np.unravel_index(np.argmax(difference), difference.shape)
    scale = np.abs(expected).max()
    worst = float(difference[index] / scale) if scale > 0 else float(difference[index])
    return worst, tuple(int(i) for i in index)


def path_name(path: Sequence[Any]) -> str:
    """A leaf's path as one writes it: 'dparams[0].W'."""
    return f"{path[0].key}{jax.tree_util.keystr(tuple(path[1:]))}"


def _drawn(tree):
    return jax.tree.map(lambda leaf: f"{leaf.dtype}{leaf.shape}", tree)


def _shape_hint(hand, right):
    return ": transposed?" if hand.ndim == 2 and hand.shape == right.shape[::-1] else ""


def _hint(hand, right, lengths):
    hand, right = np.asarray(hand, np.float64), np.asarray(right, np.float64)
    scale = np.abs(right).max()
    if not (np.isfinite(hand).all() and np.isfinite(right).all() and scale > 0):
        return ""
    if not hand.any():
        return "; all zeros by hand"

    def alike(candidate):
        return np.abs(candidate - right).max() <= ALIKE * scale

    ratio = float((hand * right).sum() / (right * right).sum())
    # A leaf with one element is any multiple of another: only the tell-tale factors are named.
    if ratio and alike(hand / ratio):
        telling = _factor(ratio, lengths)
        return telling if telling or hand.size == 1 else f"; off by the factor {ratio:.6g} everywhere"
    for pattern, candidate in _rearranged(hand, right):
        if alike(candidate) and not alike(hand):
            return f"; {pattern}"
    return ""


def _rearranged(hand, right):
    if hand.ndim == 2 and hand.shape[0] == hand.shape[1]:
        yield "transposed", hand.T
        yield "transposed, with the sign flipped", -hand.T
    yield "some signs flipped", np.copysign(hand, right)


def _factor(ratio, lengths):
    if math.isclose(ratio, -1, rel_tol=ALIKE):
        return "; the sign is flipped"
    for length in sorted(set(lengths)):
        if length > 1 and math.isclose(abs(ratio), 1 / length, rel_tol=ALIKE):
            return (
                f"; off by a factor of {'-' if ratio < 0 else ''}1/{length}, the length of an axis: a mean for a sum?"
            )
        if length > 1 and math.isclose(abs(ratio), length, rel_tol=ALIKE):
            return f"; off by a factor of {'-' if ratio < 0 else ''}{length}, the length of an axis: a sum for a mean?"
    return ""


def is_floating(leaf: Any) -> bool:
    """Whether a leaf is of a type that has derivatives."""
    return jnp.issubdtype(leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype, jnp.floating)
