"""Kronecker factors with corrected eigenvalues: the factors tell directions, and the examples how far along them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnet.curvature.columns import AXIS, averaged, exact, sampled, send_back
from jaxnet.curvature.kronecker import Positions, factors_by, is_diagonal, of_form
from jaxnet.factored import Diagonal, map_leaves
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.weighting import rows_that_count


class Eigen(NamedTuple):
    """A block of curvature in its Kronecker factors' eigenbases: Q diag(vec(values)) Q^T with Q = Q_B kron Q_A.

    Attributes:
      bases: (Q_B, Q_A) at a weight, (Q_B,) at a bias: eigenvectors as columns; those of a `Diagonal` are unit vectors,
        whose matrix is a `Diagonal` too.
      values: the second moments along them, of the parameter's shape.

    Example:
      >>> factors = jn.curvature.kflr(net, loss, params, x, y)
      >>> block = jn.curvature.eigen(factors, params)[0].b
      >>> jax.tree.map(jnp.shape, block)
      Eigen(bases=((4, 4),), values=(4,))
    """

    bases: tuple[Any, ...]
    values: Float[Array, "..."]


def ekfac(
    net: Layer,
    loss: Loss,
    params: Any,
    x: PyTree[Array],
    y: Any,
    key: jax.Array | None = None,
    samples: int = 1,
    weights: Float[Array, " m"] | None = None,
    *,
    positions: Positions = "expand",
) -> PyTree[Eigen]:
    """Kronecker factors with corrected eigenvalues: the exact second moments along the factors' eigenvectors.

    values = (1/m) sum_vn (Q_B^T g_vn Q_A)^2, the diagonal in that basis, in place of the products of eigenvalues. No
    other diagonal in that basis is nearer, in the Frobenius norm, to the block that the columns make. With positions
    g_vn is their sum, of which nothing is left out: only the bases depend on how the factors were made.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples.
      key: draws labels from the model; without it the columns are exact.
      samples: draws for each example.
      weights, positions: as for `kronecker`.

    Returns:
      The structure of the parameters, an `Eigen` at each. Cost: the factors, their eigenvectors, and a second backward
      pass of all columns.

    Source: George et al., Fast approximate natural gradient descent in a Kronecker-factored eigenbasis, 2018.

    Example:
      >>> bases = jn.curvature.ekfac(net, loss, params, x, y)
      >>> jax.tree.map(jnp.shape, jn.curvature.solve(bases, grads, 0.1)[0])
      Dense(W=(4, 3), b=(4,))
    """
    columns = exact(loss) if key is None else sampled(loss, key, samples)
    read_factors = of_form("curvature.ekfac", positions)
    factors = factors_by(read_factors, "curvature.ekfac", net, columns, params, x, y, weights)
    bases = jax.tree.map(_eigenvectors, factors, is_leaf=is_diagonal)
    x, y = rows_that_count("curvature.ekfac", weights, x, y)

    def read(dparams):
        return map_leaves(
            lambda leaf, of_leaf: averaged(leaf, weights, leaf.rotated(of_leaf).square_total(weights, AXIS)),
            dparams,
            bases,
        )

    values = send_back(net, columns, params, x, y, read)
    return jax.tree.map(
        lambda leaf, of_leaf, value, like: Eigen(of_leaf, value.reshape(like.shape)), params, bases, values, params
    )


def _eigenvectors(factor):
    return Diagonal(jnp.ones_like(factor.values)) if is_diagonal(factor) else jnp.linalg.eigh(factor)[1]
