"""Two trees of numbers, leaf by leaf."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnet.testing.hints import shape_hint, value_hint


def assert_close(
    name: str,
    actual: PyTree,
    expected: PyTree,
    bound: Callable[[Any, Any], float],
    *,
    like: PyTree | None = None,
    lengths: Sequence[int] = (),
    sizes: PyTree | None = None,
    noise: Callable[[], PyTree] | None = None,
) -> None:
    """Asserts the same structure, shapes and dtypes, and values within a bound relative to the leaf's largest value.

    Args:
      name: what is checked, the first line of the message.
      actual, expected: a dictionary from what a person calls it to a pytree.
      bound: (expected leaf, leaf of like) -> the largest relative difference allowed.
      like: whose dtypes the actual leaves must have; those of expected by default.
      lengths: of the axes of the arguments, to recognise a factor of 1/m.
      sizes: leaves whose values count as the expected ones do where the largest is taken.
      noise: `() -> pytree`, what each leaf may differ by where that is more than the bound, since it is a sum of terms
        that cancel. It is asked only where the bound is exceeded.

    Raises:
      AssertionError: naming each leaf that differs by its path.
    """
    like = expected if like is None else like
    sizes = expected if sizes is None else sizes
    if jax.tree.structure(actual) != jax.tree.structure(expected):  # type: ignore[operator]
        raise AssertionError(f"{name}:\n  expected the structure {_drawn(expected)},\n  got {_drawn(actual)}")
    leaves = jax.tree_util.tree_leaves_with_path(actual)
    others = (jax.tree.leaves(tree) for tree in (expected, like, sizes))
    failures = []
    for position, ((path, hand), right, peer, size) in enumerate(zip(leaves, *others, strict=True)):
        where = path_name(path)
        if hand.shape != right.shape or hand.dtype != peer.dtype:
            hint = shape_hint(hand, right)
            failures.append(f"{where}: expected {peer.dtype}{right.shape}, got {hand.dtype}{hand.shape}{hint}")
            continue
        error, index = relative_error(hand, right, size)
        allowed = bound(right, peer)
        if not error <= allowed and noise is not None:
            allowed = max(allowed, float(jax.tree.leaves(noise())[position]) / (_largest(right, size) or 1.0))
        if not error <= allowed:
            values = f"by hand {float(hand[index]):.9g}, expected {float(right[index]):.9g}"
            off = f"off by {error:.1e} of the leaf's largest value, allowed {allowed:.1e}"
            failures.append(f"{where}{list(index)}: {values}; {off}{value_hint(hand, right, lengths)}")
    if failures:
        raise AssertionError("\n  ".join([f"{name}:", *failures]))


def relative_error(actual: Any, expected: Any, size: Any = 0.0) -> tuple[float, tuple[int, ...]]:
    """The largest |difference| over the largest |expected| or |size|, and where it is; NaN where either holds one."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if actual.size == 0:
        return 0.0, ()
    with np.errstate(invalid="ignore"):
        difference = np.abs(actual - expected)
    index = np.unravel_index(np.argmax(difference), difference.shape)
    return float(difference[index] / (_largest(expected, size) or 1.0)), tuple(int(i) for i in index)


def path_name(path: Sequence[Any]) -> str:
    """A leaf's path as one writes it: 'dparams[0].W'."""
    return f"{path[0].key}{jax.tree_util.keystr(tuple(path[1:]))}"


def is_floating(leaf: Any) -> bool:
    """Whether a leaf is of a type that has derivatives."""
    return jnp.issubdtype(leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype, jnp.floating)


def kind_of(value: Any) -> str:
    """What messages call a value that should have been another: 'an array of shape (5, 3)', 'a tuple of 3'."""
    if isinstance(value, (jax.Array, np.ndarray)):
        return f"an array of shape {value.shape}"
    if type(value) is tuple:
        return f"a tuple of {len(value)}"
    kind = "function" if callable(value) else type(value).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _largest(*leaves):
    return max(float(np.abs(np.asarray(leaf, np.float64)).max(initial=0.0)) for leaf in leaves)


def _drawn(tree):
    return jax.tree.map(lambda leaf: f"{leaf.dtype}{leaf.shape}", tree)
