"""Gradients along a direction, and along one another."""

from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from jaxnet.factored import Factored, map_leaves, require_forms
from jaxnet.per_example.forms import sum_of_leaves


def dot(dparams: PyTree[Any], direction: PyTree[Array]) -> Float[Array, "m ..."]:
    """Each example's gradient along a given direction: <g_i, d>, (m,). One product of matrices, 2 m P.

    Along many at once it is <g_i, d_j>, (m, n), 2 m n P, such as of training by test examples: of `each` of other
    examples, or of what `curvature.solve` makes of it, where it tells influences. With T positions gradients are formed
    where that is fewer numbers, since then no direction takes T products.

    Args:
      dparams: what `backward` returned.
      direction: the structure and shapes of the parameters, such as the mean gradient or an update; or many, along a
        further axis in front of each of their shapes.

    Returns:
      (m,): the change of each example's loss for a small step along d; (m, n) for n directions.

    Raises:
      ValueError: when there are no parameters, or a direction has another shape than they have.

    Example:
      >>> grads = jn.per_example.mean(dparams)
      >>> jn.per_example.dot(dparams, grads)  # a step along -grads makes the third example's loss larger
      Array([ 3.42,  1.83, -0.39,  2.82,  0.12,  2.1 ], dtype=float32)
    """
    require_forms("per_example.dot", dparams)
    leaves = jax.tree.leaves(map_leaves(_many, dparams, direction))
    if len(set(leaves)) > 1:
        raise ValueError(
            "per_example.dot: expected as many directions at each parameter, got one at some, many at others"
        )
    if leaves and leaves[0]:
        return sum_of_leaves("dot", map_leaves(lambda leaf, along: leaf.dots(along), dparams, direction))
    return sum_of_leaves("dot", map_leaves(lambda leaf, along: leaf.dot(along), dparams, direction))


def _many(leaf, direction):
    shape = jax.eval_shape(lambda leaf: leaf.total(None), leaf).shape
    if isinstance(direction, Factored):
        raise ValueError(
            f"per_example.dot: expected a direction of shape {shape}, the parameter's, got the form "
            f"{type(direction).__name__}; products of two examples' gradients are per_example.gram"
        )
    if shape not in (direction.shape, direction.shape[1:]):
        many = f"({', '.join(map(str, ('n', *shape)))})"
        raise ValueError(
            f"per_example.dot: expected a direction of shape {shape}, the parameter's, or many, {many}, "
            f"got {direction.shape}"
        )
    return direction.shape != shape


def gram(dparams: PyTree[Any], other: PyTree[Any] | None = None) -> Float[Array, "m n"]:
    """All inner products of two examples' gradients: K_ij = <g_i, g_j>, (m, m).

    A weight adds (dZ dZ^T) * (A A^T): O(m^2 (o + i)).

    Args:
      dparams: what `backward` returned.
      other: another batch's, through the same parameters; by default the same batch.

    Returns:
      (m, n): examples of the first by examples of the other.

    Raises:
      ValueError: when there are no parameters.

    Source: BatchDotGrad in Dangel et al., BackPACK, 2020.

    Example:
      >>> K = jn.per_example.gram(dparams)
      >>> K.shape, bool(jnp.allclose(jnp.diagonal(K), jn.per_example.squared_norms(dparams)))
      ((6, 6), True)
    """
    for name, batch in {"dparams": dparams, "other": other}.items():
        require_forms("per_example.gram", batch, name)
    inner = map_leaves(
        lambda leaf, leaf_of_other: leaf.inner(leaf_of_other), dparams, dparams if other is None else other
    )
    return sum_of_leaves("gram", inner)
