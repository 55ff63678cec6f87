"""Diagonals of curvature matrices, and blocks of them: of the structure of the parameters."""

from typing import Any

import jax
from jaxtyping import Array, PyTree

from jaxnet.arguments import require_examples
from jaxnet.curvature.columns import AXIS, Columns, empirical, exact, sampled, send_back
from jaxnet.factored import map_leaves
from jaxnet.layer import Layer
from jaxnet.losses import Loss


def diagonal(net: Layer, columns: Columns, params: Any, x: PyTree[Array], y: Any) -> PyTree[Array]:
    """(1/m) sum_n sum_v g_vn^2 for any columns; for a weight (sum_v dz_v^2)^T (a^2) / m: one product for all columns.

    Args:
      net, params: the network.
      columns: what is sent back: `exact(loss)`, `sampled(loss, key)`, `empirical(loss)`, or your own `(z, y) -> S`.
      x, y: m examples.

    Returns:
      The structure and shapes of the parameters, not negative.
    """
    require_examples("curvature.diagonal", x)
    return send_back(
        net, columns, params, x, y, lambda d: map_leaves(lambda leaf: leaf.square_total(None, AXIS) / leaf.examples, d)
    )


def ggn_diagonal(net: Layer, loss: Loss, params: Any, x: PyTree[Array], y: Any) -> PyTree[Array]:
    """The diagonal of the generalised Gauss-Newton matrix, exactly: (1/m) sum_n sum_v (J_n^T S_vn)^2.

    For a weight: (1/m) sum_v,n S_vn^2 (a_n^2)^T with S sent back to the layer's outputs; the loss's 1/m is in it once.
    Cost: a batched backward pass of as many columns as outputs, and one product for each weight.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples.

    Returns:
      The structure and shapes of the parameters, not negative.

    Source: DiagGGNExact in Dangel et al., BackPACK: Packing more into backprop, 2020.
    """
    require_examples("curvature.ggn_diagonal", x)
    return diagonal(net, exact(loss), params, x, y)


def ggn_diagonal_sampled(
    net: Layer, loss: Loss, params: Any, x: PyTree[Array], y: Any, key: jax.Array, samples: int = 1
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

    Returns:
      The structure and shapes of the parameters, not negative.

    Source: DiagGGNMC in Dangel et al., BackPACK, 2020.
    """
    require_examples("curvature.ggn_diagonal_sampled", x)
    return diagonal(net, sampled(loss, key, samples), params, x, y)


def fisher_diagonal(net: Layer, loss: Loss, params: Any, x: PyTree[Array], y: Any) -> PyTree[Array]:
    """The diagonal of the empirical Fisher matrix: (1/m) sum_n g_n^2, `per_example.second_moment` of the gradient.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples and their labels; with labels drawn by `loss.sample`, it estimates the Fisher matrix.

    Returns:
      The structure and shapes of the parameters, not negative.
    """
    require_examples("curvature.fisher_diagonal", x)
    return diagonal(net, empirical(loss), params, x, y)


def ggn_diagonal_per_example(net: Layer, loss: Loss, params: Any, x: PyTree[Array], y: Any) -> PyTree[Array]:
    """Each example's own share of the GGN diagonal: sum_v (J_n^T S_vn)^2; their mean is `ggn_diagonal`.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples.

    Returns:
      The structure of the parameters; a leaf has their shape behind a leading axis of m examples, and that is its cost
      in memory.

    Source: BatchDiagGGNExact in BackPACK.
    """
    require_examples("curvature.ggn_diagonal_per_example", x)
    return send_back(
        net, exact(loss), params, x, y, lambda dparams: map_leaves(lambda leaf: leaf.squares(AXIS), dparams)
    )


def ggn_blocks(net: Layer, loss: Loss, params: Any, x: PyTree[Array], y: Any) -> PyTree[Array]:
    """The GGN's diagonal blocks, formed, for small networks: (1/m) sum_n sum_v vec(g_vn) vec(g_vn)^T.

    Args:
      net, loss, params: the network and its loss.
      x, y: m examples.

    Returns:
      The structure of the parameters; at a parameter of p numbers the matrix (p, p) among them, in row-major order.
      Cost in memory: v m p + v p^2 numbers.
    """
    require_examples("curvature.ggn_blocks", x)
    return send_back(
        net, exact(loss), params, x, y, lambda d: map_leaves(lambda leaf: leaf.block(AXIS) / leaf.examples, d)
    )
