"""Gradients along a direction, and along one another."""

from typing import Any

from jaxtyping import Array, Float, PyTree

from jaxnet.factored import map_leaves
from jaxnet.per_example.forms import sum_of_leaves


def dot(dparams: PyTree[Any], direction: PyTree[Array]) -> Float[Array, " m"]:
    """Each example's gradient along a given direction: <g_i, d>, (m,). One product of matrices, 2 m P.

    Args:
      dparams: what `backward` returned.
      direction: the structure and shapes of the parameters, such as the mean gradient or an update.

    Returns:
      (m,): the change of each example's loss for a small step along d.

    Raises:
      ValueError: when there are no parameters.
    """
    return sum_of_leaves("dot", map_leaves(lambda leaf, along: leaf.dot(along), dparams, direction))


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
    """
    inner = map_leaves(
        lambda leaf, leaf_of_other: leaf.inner(leaf_of_other), dparams, dparams if other is None else other
    )
    return sum_of_leaves("gram", inner)
