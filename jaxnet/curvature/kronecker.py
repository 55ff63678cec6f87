"""Kronecker factors: the block of a weight's curvature as B kron A, B among its outputs and A among its inputs.

With g_vn = dz_vn a_n^T and row-major vec, (1/m) sum_vn vec(g_vn) vec(g_vn)^T is (1/m) sum_vn (dz_vn dz_vn^T) kron
(a_n a_n^T). Taking the mean of the products for the product of the means gives B kron A with

    B = (1/m) sum_vn dz_vn dz_vn^T    and    A = (1/m) sum_n a_n a_n^T.

That is exact where sum_v dz_vn dz_vn^T is the same for all examples, as in a linear network of any depth with a squared
error and exact columns. A bias has only B, which is its block exactly (but for `kfra`).

With T positions g_vn = sum_t dz_vnt a_nt^T, and there are two ways to take it for one product:

    expand    B = (1/m) sum_vnt dz_vnt dz_vnt^T                A = (1/(m T)) sum_nt a_nt a_nt^T
    reduce    B = (1/m) sum_vn (sum_t dz_vnt)(sum_t dz_vnt)^T  A = (1/m) sum_n (mean_t a_nt)(mean_t a_nt)^T

The first leaves out products of two positions. It is exact in a linear network whose loss is a sum over positions, as
of language models; the second where positions are pooled, as of image classifiers, so that dz_vnt is the same for all.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import require_examples, shown
from jaxnet.curvature.columns import AXIS, Columns, exact, sampled, send_back
from jaxnet.factored import Diagonal, map_leaves
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.weighting import rows_that_count

Positions: TypeAlias = Literal["expand", "reduce"]


def kronecker(
    net: Layer,
    columns: Columns,
    params: Any,
    x: PyTree[Array],
    y: Any,
    weights: Float[Array, " m"] | None = None,
    *,
    positions: Positions = "expand",
) -> PyTree[tuple[Any, ...]]:
    """Kronecker factors for any columns: B = (1/m) sum_vn dz_vn dz_vn^T, A = (1/m) sum_n a_n a_n^T.

    Args:
      net, params: the network.
      columns: what is sent back: `exact(loss)`, `sampled(loss, key)`, `empirical(loss)`, or your own `(z, y) -> S`.
      x, y: m examples.
      weights: (m,), at least 0, in place of 1/m; a zero leaves an example out, such as one that only fills up a batch,
        whatever x and y hold there. Where values are not known, under `jax.jit`, a negative one makes all NaN.
      positions: "expand" counts each position of an example as an example of its own, "reduce" takes their sum and
        mean first, for networks that pool them.

    Returns:
      The structure of the parameters, with a pair (B (o, o), A (i, i)) at a weight (o, i), so that B kron A is the
      block of the row-major vec(W), and (B,) at a bias, or any parameter that is no weight. At an embedding (rows, d)
      it is (A (rows, rows), B (d, d)), with A among the ids: a `Diagonal` of how often each is looked up, or, reduced,
      the diagonal of what unit vectors make, the mean of (share of an example's positions)^2. A convolution's are
      (B (o, o), A (k, k)) for W.reshape(o, k); those of several groups, and of a repeated layer, have a leading axis.
      At a table that is used as a head, too, as by `tied`, with F its block, they are sum_d F_vdvd, a `Diagonal`, and
      sum_v F_vdve / tr F; at any other parameter with uses that are unlike (F,).

    Raises:
      ValueError: when there is no example, or the weights are not one for each, or one of them is negative, or
        positions is neither of the two.

    Source: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, 2015;
    with positions Eschenhagen et al., Kronecker-factored approximate curvature for modern neural network
    architectures, 2023, sections 3.2 and 3.3; of convolutions Grosse and Martens, A Kronecker-factored approximate
    Fisher matrix for convolution layers, 2016.

    Example:
      >>> factors = jn.curvature.kronecker(net, jn.curvature.empirical(loss), params, x, y)
      >>> jax.tree.map(jnp.shape, factors[0])
      Dense(W=((4, 4), (3, 3)), b=((4, 4),))
    """
    return factors_by(
        of_form("curvature.kronecker", positions), "curvature.kronecker", net, columns, params, x, y, weights
    )


def kflr(
    net: Layer,
    loss: Loss,
    params: Any,
    x: PyTree[Array],
    y: Any,
    weights: Float[Array, " m"] | None = None,
    *,
    positions: Positions = "expand",
) -> PyTree[tuple[Any, ...]]:
    """Kronecker factors of the GGN by exact columns: B = (1/m) sum_vn S_vn S_vn^T at the layer's outputs.

    As BackPACK scales them: with the loss's S carrying 1/sqrt(m), the factors are sum_vn S S^T and A^T A / m.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples.
      weights, positions: as for `kronecker`.

    Returns:
      As `kronecker` returns them.

    Source: Botev et al., Practical Gauss-Newton optimisation for deep learning, 2017, where it is KFLR.

    Example:
      >>> factors = jn.curvature.kflr(net, loss, params, x, y)
      >>> jax.tree.map(jnp.shape, factors[0])
      Dense(W=((4, 4), (3, 3)), b=((4, 4),))
    """
    return factors_by(of_form("curvature.kflr", positions), "curvature.kflr", net, exact(loss), params, x, y, weights)


def kfac(
    net: Layer,
    loss: Loss,
    params: Any,
    x: PyTree[Array],
    y: Any,
    key: jax.Array,
    samples: int = 1,
    weights: Float[Array, " m"] | None = None,
    *,
    positions: Positions = "expand",
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
      weights, positions: as for `kronecker`.

    Returns:
      As `kronecker` returns them.

    Source: Martens and Grosse, 2015, sections 3 and 5.

    Example:
      >>> factors = jn.curvature.kfac(net, loss, params, x, y, key)
      >>> jax.tree.map(jnp.shape, factors[0])
      Dense(W=((4, 4), (3, 3)), b=((4, 4),))
    """
    columns = sampled(loss, key, samples)
    return factors_by(of_form("curvature.kfac", positions), "curvature.kfac", net, columns, params, x, y, weights)


def factors_by(
    read: Callable[..., tuple[Any, ...]],
    name: str,
    net: Layer,
    columns: Columns,
    params: Any,
    x: PyTree[Array],
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
    x, y = rows_that_count(name, weights, x, y)
    if weights is not None:
        weights = not_negative(name, weights)

    def read_all(dparams):
        return map_leaves(lambda form, leaf: read(form, leaf, weights), dparams, params)

    return send_back(net, columns, params, x, y, read_all)


def of_form(name: str, positions: Positions) -> Callable[..., tuple[Any, ...]]:
    """What `factors_by` reads, with positions taken in one of the two ways."""
    return partial(_factors_of, reduces(name, positions))


def reduces(name: str, positions: Positions) -> bool:
    """Whether positions are to be reduced; refuses what is neither of the two ways."""
    if positions not in ("expand", "reduce"):
        raise ValueError(f"{name}: expected positions to be 'expand' or 'reduce', got {shown(positions)}")
    return positions == "reduce"


def _factors_of(reduce, form, _, weights):
    return form.kronecker_factors(weights, AXIS, reduce)


def not_negative(name: str, weights: Float[Array, " m"]) -> Float[Array, " m"]:
    """The weights; refuses negative ones where they are known, and makes them NaN where they are not."""
    if not isinstance(weights, jax.core.Tracer) and (least := np.asarray(weights).min()) < 0:
        raise ValueError(f"{name}: expected weights of at least 0, got {least:g}")
    return jnp.where((weights < 0).any(), jnp.nan, weights)


def is_diagonal(factor: Any) -> bool:
    """Whether a Kronecker factor is kept as a diagonal."""
    return isinstance(factor, Diagonal)
