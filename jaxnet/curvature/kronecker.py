"""Kronecker factors: the block of a weight's curvature as B kron A, B among its outputs and A among its inputs.

With g_vn = dz_vn a_n^T and row-major vec, (1/m) sum_vn vec(g_vn) vec(g_vn)^T is (1/m) sum_vn (dz_vn dz_vn^T) kron
(a_n a_n^T). Taking the mean of the products for the product of the means gives B kron A with

    B = (1/m) sum_vn dz_vn dz_vn^T    and    A = (1/m) sum_n a_n a_n^T.

That is exact where sum_v dz_vn dz_vn^T is the same for all examples, as in a linear network of any depth with a squared
error and exact columns. A bias has only B, which is its block exactly (but for `kfra`). With T positions A is a mean
over those as well, and the products of two positions' signals are left out of B (KFAC-expand).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import require_examples
from jaxnet.curvature.columns import AXIS, Columns, exact, sampled, send_back
from jaxnet.factored import Diagonal, map_leaves
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.weighting import check_weights, examples_of, with_rows_that_count


def kronecker(
    net: Layer, columns: Columns, params: Any, x: PyTree[Array], y: Any, weights: Float[Array, " m"] | None = None
) -> PyTree[tuple[Any, ...]]:
    """Kronecker factors for any columns: B = (1/m) sum_vn dz_vn dz_vn^T, A = (1/m) sum_n a_n a_n^T.

    Args:
      net, params: the network.
      columns: what is sent back: `exact(loss)`, `sampled(loss, key)`, `empirical(loss)`, or your own `(z, y) -> S`.
      x, y: m examples.
      weights: (m,), at least 0, in place of 1/m; a zero leaves an example out, such as one that only fills up a batch,
        whatever x and y hold there. Where values are not known, under `jax.jit`, a negative one makes all NaN.

    Returns:
      The structure of the parameters, with a pair (B (o, o), A (i, i)) at a weight (o, i), so that B kron A is the
      block of the row-major vec(W), and (B,) at a bias, or any parameter that is no weight. At an embedding (rows, d)
      it is (A (rows, rows), B (d, d)), with A among the ids: a `Diagonal` of how often each is looked up. Those of a
      repeated layer have a leading axis, as its parameters have.

    Raises:
      ValueError: when there is no example, or the weights are not one for each, or one of them is negative.

    Source: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, 2015;
    with positions Eschenhagen et al., Kronecker-factored approximate curvature for modern neural network
    architectures, 2023, section 3.
    """
    return factors_by(_of_form, "curvature.kronecker", net, columns, params, x, y, weights)


def kflr(
    net: Layer, loss: Loss, params: Any, x: PyTree[Array], y: Any, weights: Float[Array, " m"] | None = None
) -> PyTree[tuple[Any, ...]]:
    """Kronecker factors of the GGN by exact columns: B = (1/m) sum_vn S_vn S_vn^T at the layer's outputs.

    As BackPACK scales them: with the loss's S carrying 1/sqrt(m), the factors are sum_vn S S^T and A^T A / m.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples.
      weights: as for `kronecker`.

    Returns:
      As `kronecker` returns them.

    Source: Botev et al., Practical Gauss-Newton optimisation for deep learning, 2017, where it is KFLR.
    """
    return factors_by(_of_form, "curvature.kflr", net, exact(loss), params, x, y, weights)


def kfac(
    net: Layer,
    loss: Loss,
    params: Any,
    x: PyTree[Array],
    y: Any,
    key: jax.Array,
    samples: int = 1,
    weights: Float[Array, " m"] | None = None,
) -> PyTree[tuple[Any, ...]]:
    """Kronecker factors of the Fisher matrix by labels drawn from the model: as `kflr`, with fewer columns.

    In expectation the two are equal for losses that include their sigmoid or softmax, with targets that sum to 1, and
    for squared errors.

    Args:
      net, loss, params: the network and its loss.
      x: m examples.
      y: their labels, of which only the shape counts.
      key: of the draws.
      samples: draws for each example.
      weights: as for `kronecker`.

    Returns:
      As `kronecker` returns them.

    Source: Martens and Grosse, 2015, sections 3 and 5.
    """
    return factors_by(_of_form, "curvature.kfac", net, sampled(loss, key, samples), params, x, y, weights)


def factors_by(
    read: Callable[..., tuple[Any, ...]],
    name: str,
    net: Layer,
    columns: Columns,
    params: Any,
    x: Array,
    y: Any,
    weights: Float[Array, " m"] | None,
) -> PyTree[tuple[Any, ...]]:
    """As `kronecker`, with matrices of one's own for each parameter.

    Args:
      read: `(form, parameter, weights) -> matrices`, from one column's gradients in factored form.
      name: the function that was called.
      net, columns, params, x, y, weights: as for `kronecker`.
    """
    require_examples(name, x)
    if weights is not None:
        check_weights(name, weights, (examples_of(x),))
        weights = _not_negative(name, weights)
        x, y = with_rows_that_count(weights, (x, y))

    def read_all(dparams):
        return map_leaves(lambda form, leaf: read(form, leaf, weights), dparams, params)

    return send_back(net, columns, params, x, y, read_all)


def _of_form(form, _, weights):
    return form.kronecker_factors(weights, AXIS)


def _not_negative(name, weights):
    if not isinstance(weights, jax.core.Tracer) and (least := np.asarray(weights).min()) < 0:
        raise ValueError(f"{name}: expected weights of at least 0, got {least:g}")
    return jnp.where((weights < 0).any(), jnp.nan, weights)


class Eigen(NamedTuple):
    """A block of curvature in its Kronecker factors' eigenbases: Q diag(vec(values)) Q^T with Q = Q_B kron Q_A.

    Attributes:
      bases: (Q_B, Q_A) at a weight, (Q_B,) at a bias: eigenvectors as columns; those of a `Diagonal` are unit vectors,
        whose matrix is a `Diagonal` too.
      values: the second moments along them, of the parameter's shape.
    """

    bases: tuple[Any, ...]
    values: Float[Array, "..."]


def ekfac(
    net: Layer, loss: Loss, params: Any, x: PyTree[Array], y: Any, key: jax.Array | None = None, samples: int = 1
) -> PyTree[Eigen]:
    """Kronecker factors with corrected eigenvalues: the exact second moments along the factors' eigenvectors.

    values = (1/m) sum_vn (Q_B^T g_vn Q_A)^2, the diagonal in that basis, in place of the products of eigenvalues. No
    other diagonal in that basis is nearer, in the Frobenius norm, to the block that the columns make.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples.
      key: draws labels from the model; without it the columns are exact.
      samples: draws for each example.

    Returns:
      The structure of the parameters, an `Eigen` at each.

    Source: George et al., Fast approximate natural gradient descent in a Kronecker-factored eigenbasis, 2018.
    """
    require_examples("curvature.ekfac", x)
    columns = exact(loss) if key is None else sampled(loss, key, samples)
    factors = kronecker(net, columns, params, x, y)
    bases = jax.tree.map(_eigenvectors, factors, is_leaf=is_diagonal)

    def read(dparams):
        return map_leaves(
            lambda leaf, of_leaf: leaf.rotated(of_leaf).square_total(None, AXIS) / leaf.examples, dparams, bases
        )

    values = send_back(net, columns, params, x, y, read)
    return jax.tree.map(
        lambda leaf, of_leaf, value, like: Eigen(of_leaf, value.reshape(like.shape)), params, bases, values, params
    )


def is_diagonal(factor: Any) -> bool:
    """Whether a Kronecker factor is kept as a diagonal."""
    return isinstance(factor, Diagonal)


def _eigenvectors(factor):
    return Diagonal(jnp.ones_like(factor.values)) if is_diagonal(factor) else jnp.linalg.eigh(factor)[1]
