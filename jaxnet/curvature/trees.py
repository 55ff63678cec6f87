"""What has the structure of the parameters, as a vector of all its numbers."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnet.norms import long_type


def inner(tree: PyTree[Array], other: PyTree[Array]) -> Float[Array, ""]:
    """The sum of the products of all numbers, in float32 at least."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    first, *more = ((_long(a) * _long(b)).sum() for a, b in pairs)
    return sum(more, start=first)


def plus(tree: PyTree[Array], share: Any, other: PyTree[Array]) -> PyTree[Array]:
    """tree + share other."""
    return jax.tree.map(lambda a, b: a + jnp.asarray(share, a.dtype) * b, tree, other)


def times(share: Any, tree: PyTree[Array]) -> PyTree[Array]:
    """share tree."""
    return jax.tree.map(lambda a: jnp.asarray(share, a.dtype) * a, tree)


def _long(array):
    return array.astype(long_type(array.dtype))
