"""Diagonals of curvature matrices, and blocks of them: of the structure of the parameters."""

from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import require_examples
from jaxnet.curvature.columns import AXIS, Columns, averaged, empirical, exact, sampled, send_back
from jaxnet.factored import map_leaves
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.weighting import rows_that_count


def diagonal(
    net: Layer, columns: Columns, params: Any, x: PyTree[Array], y: Any, weights: Float[Array, " m"] | None = None
) -> PyTree[Array]:
    """(1/m) sum_n sum_v g_vn^2 for any columns; for a weight (sum_v dz_v^2)^T (a^2) / m: one product for all columns.

    Args:
      net, params: the network.
      columns: what is sent back: `exact(loss)`, `sampled(loss, key)`, `empirical(loss)`, or your own `(z, y) -> S`.
      x, y: m examples.
      weights: (m,), in place of 1/m for each example, as for `value_and_grad`: of either sign, and a zero leaves the
        example out, whatever x and y hold there.

    Returns:
      The structure and shapes of the parameters, not negative where no weight is.

    Raises:
      ValueError: when there is no example, or the weights are not one for each.

    Example:
      >>> columns = jn.curvature.empirical(loss)
      >>> diagonal = jn.curvature.diagonal(net, columns, params, x, y)
      >>> bool(jnp.allclose(diagonal[0].W, jn.curvature.fisher_diagonal(net, loss, params, x, y)[0].W))
      True
    """
    return _diagonal("curvature.diagonal", net, columns, params, x, y, weights)


def ggn_diagonal(
    net: Layer, loss: Loss, params: Any, x: PyTree[Array], y: Any, weights: Float[Array, " m"] | None = None
) -> PyTree[Array]:
    """The diagonal of the generalised Gauss-Newton matrix, exactly: (1/m) sum_n sum_v (J_n^T S_vn)^2.

    For a weight: (1/m) sum_v,n S_vn^2 (a_n^2)^T with S sent back to the layer's outputs; the loss's 1/m is in it once.
    Cost: a batched backward pass of as many columns as outputs, and one product for each weight.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples.
      weights: as for `diagonal`.

    Returns:
      The structure and shapes of the parameters, not negative.

    Source: DiagGGNExact in Dangel et al., BackPACK: Packing more into backprop, 2020.

    Example:
      >>> jax.tree.map(jnp.shape, jn.curvature.ggn_diagonal(net, loss, params, x, y)[0])
      Dense(W=(4, 3), b=(4,))
    """
    return _diagonal("curvature.ggn_diagonal", net, exact(loss), params, x, y, weights)


def ggn_diagonal_sampled(
    net: Layer,
    loss: Loss,
    params: Any,
    x: PyTree[Array],
    y: Any,
    key: jax.Array,
    samples: int = 1,
    weights: Float[Array, " m"] | None = None,
) -> PyTree[Array]:
    """An unbiased estimate of the Fisher matrix's diagonal, from labels drawn from the model.

    It is that of the GGN for losses that include their sigmoid or softmax, with targets that sum to 1, and for squared
    errors. Cost: `samples` backward passes in place of one for each output.

    Args:
      net, loss, params: the network and its loss.
      x: m examples.
      y: their labels, of which only the shape counts.
      key: of the draws.
      samples: draws for each example.
      weights: as for `diagonal`.

    Returns:
      The structure and shapes of the parameters, not negative.

    Source: DiagGGNMC in Dangel et al., BackPACK, 2020.

    Example:
      >>> diagonal = jn.curvature.ggn_diagonal_sampled(net, loss, params, x, y, key, samples=2)
      >>> jax.tree.map(jnp.shape, diagonal[0])
      Dense(W=(4, 3), b=(4,))
    """
    return _diagonal("curvature.ggn_diagonal_sampled", net, sampled(loss, key, samples), params, x, y, weights)


def fisher_diagonal(
    net: Layer, loss: Loss, params: Any, x: PyTree[Array], y: Any, weights: Float[Array, " m"] | None = None
) -> PyTree[Array]:
    """The diagonal of the empirical Fisher matrix: (1/m) sum_n g_n^2, `per_example.second_moment` of the gradient.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples and their labels; with labels drawn by `loss.sample`, it estimates the Fisher matrix.
      weights: as for `diagonal`.

    Returns:
      The structure and shapes of the parameters, not negative.

    Example:
      >>> jax.tree.map(jnp.shape, jn.curvature.fisher_diagonal(net, loss, params, x, y)[0])
      Dense(W=(4, 3), b=(4,))
    """
    return _diagonal("curvature.fisher_diagonal", net, empirical(loss), params, x, y, weights)


def ggn_diagonal_per_example(net: Layer, loss: Loss, params: Any, x: PyTree[Array], y: Any) -> PyTree[Array]:
    """Each example's own share of the GGN diagonal: sum_v (J_n^T S_vn)^2; their mean is `ggn_diagonal`.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples.

    Returns:
      The structure of the parameters; a leaf has their shape behind a leading axis of m examples, and that is its cost
      in memory.

    Source: BatchDiagGGNExact in BackPACK.

    Example:
      >>> jax.tree.map(jnp.shape, jn.curvature.ggn_diagonal_per_example(net, loss, params, x, y)[0])
      Dense(W=(6, 4, 3), b=(6, 4))
    """
    require_examples("curvature.ggn_diagonal_per_example", x)
    return send_back(
        net, exact(loss), params, x, y, lambda dparams: map_leaves(lambda leaf: leaf.squares(AXIS), dparams)
    )


def ggn_blocks(
    net: Layer, loss: Loss, params: Any, x: PyTree[Array], y: Any, weights: Float[Array, " m"] | None = None
) -> PyTree[Array]:
    """The GGN's diagonal blocks, formed, for small networks: (1/m) sum_n sum_v vec(g_vn) vec(g_vn)^T.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples.
      weights: as for `diagonal`.

    Returns:
      The structure of the parameters; at a parameter of p numbers the matrix (p, p) among them, in row-major order.
      Cost in memory: v m p + v p^2 numbers.

    Example:
      >>> blocks = jn.curvature.ggn_blocks(net, loss, params, x, y)
      >>> jax.tree.map(jnp.shape, blocks[0])
      Dense(W=(12, 12), b=(4, 4))
      >>> diagonal = jn.curvature.ggn_diagonal(net, loss, params, x, y)
      >>> bool(jnp.allclose(jnp.diagonal(blocks[0].W), diagonal[0].W.ravel()))
      True
    """
    read = partial(_block_of, weights)
    return _read("curvature.ggn_blocks", read, net, exact(loss), params, x, y, weights)


def _diagonal(name, net, columns, params, x, y, weights):
    return _read(name, partial(_diagonal_of, weights), net, columns, params, x, y, weights)


def _read(name, read, net, columns, params, x, y, weights):
    require_examples(name, x)
    x, y = rows_that_count(name, weights, x, y)
    return send_back(net, columns, params, x, y, partial(map_leaves, read))


def _diagonal_of(weights, leaf):
    return averaged(leaf, weights, leaf.square_total(weights, AXIS))


def _block_of(weights, leaf):
    return averaged(leaf, weights, leaf.block(AXIS, weights))
