"""Trees of NumPy arrays, whose arithmetic needs no compilation: points, and random moves of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.testing.closeness import is_floating

MOVE = 0.3


def as_type(tree: Any, dtype: Any) -> Any:
    """The tree's floating leaves in another type."""

    def cast(leaf):
        leaf = np.asarray(leaf)
        return leaf.astype(jnp.dtype(dtype)) if is_floating(leaf) else leaf

    return jax.tree.map(cast, tree)


def as_numpy(tree: Any) -> Any:
    """The tree's leaves as NumPy arrays."""
    return jax.tree.map(np.asarray, tree)


def size_of(leaf: Any) -> float:
    """The root of a leaf's mean square; 1 where that is 0."""
    largest = float(np.abs(leaf).max(initial=0.0)) or 1.0
    # Over the largest, so that no square overflows.
    return (largest * float(np.sqrt(np.mean(np.square(leaf / largest)))) or 1.0) if np.size(leaf) else 1.0


def random_move(tree: Any, scale: float, rng: np.random.Generator, count: tuple[int, ...] = ()) -> Any:
    """Normal numbers of `scale` times each floating leaf's size, and zeros for other leaves; `count` of them."""

    def draw(leaf):
        shape = (*count, *leaf.shape)
        size = size_of(leaf) if is_floating(leaf) else 0
        return (scale * size * rng.standard_normal(shape)).astype(leaf.dtype)

    return jax.tree.map(draw, tree)


def moved_params(params: Any, rng: np.random.Generator) -> Any:
    """The parameters off their 0 and 1 starts, in float64."""

    def move(leaf):
        leaf = np.asarray(leaf)
        return jnp.asarray(leaf + MOVE * rng.standard_normal(leaf.shape)) if is_floating(leaf) else jnp.asarray(leaf)

    return jax.tree.map(move, params)


def float64(tree: Any) -> Any:
    """JAX arrays, in float64 where they are floating; needs 64-bit types enabled."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, np.float64) if is_floating(leaf) else jnp.asarray(leaf), tree)


def examples_of(x: Any) -> int:
    """How many examples inputs hold; 1 where there is no axis of them."""
    return int((*np.shape(jax.tree.leaves(x)[0]), 1)[0])


def generator(key: jax.Array | None) -> np.random.Generator:
    """NumPy's, which has nothing to compile."""
    return np.random.default_rng(0 if key is None else np.asarray(jax.random.key_data(key)))
