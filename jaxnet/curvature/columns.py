"""What to send back in place of the gradient: columns S with sum_v S_v S_v^T in the place of the loss's curvature.

Every matrix here has the form G = (1/m) sum_n sum_v g_vn g_vn^T, where g_vn = J_n^T S_vn is what arrives at the
parameters when S_vn (v columns, for each example n) is sent back in place of dz. The choice of S is the choice of G:

  exact      S S^T = d2L/dz2, a column for each output     the generalised Gauss-Newton matrix (GGN)
  sampled    S = dL/dz at labels drawn from the model      the Fisher matrix, in expectation; it is the GGN for losses
                                                           that include their sigmoid or softmax (targets that sum to
                                                           1), and for squared errors
  empirical  S = dL/dz at the given labels, one column     the empirical Fisher matrix

All columns go back at once, through one batched backward pass.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import instance_of
from jaxnet.factored import Factored
from jaxnet.layer import Layer
from jaxnet.losses import Loss

Columns: TypeAlias = Callable[[Array, Any], Float[Array, "v m *f"]]

AXIS = "columns"


def exact(loss: Loss) -> Columns:
    """`(z, y) -> S`: the root of each example's loss Hessian, v = the number of outputs.

    Source: Schraudolph, Fast curvature matrix-vector products for second-order gradient descent, 2002.

    Example:
      >>> z = net(params, x)
      >>> jn.curvature.exact(loss)(z, y).shape
      (2, 6, 2)
    """
    _check(loss)
    return loss.root_hessian


def sampled(loss: Loss, key: jax.Array, samples: int = 1) -> Columns:
    """`(z, y) -> S`: signals of labels drawn from the model, v = samples, scaled by their root.

    Args:
      loss: whose `sample` draws, whatever the given labels y are; which positions count is as y has it.
      key: of the draws.
      samples: draws for each example, at least 1; the error falls with their root.

    Raises:
      ValueError: when samples is not positive; when traced, if y is not such as the loss draws, or the loss is no
        log-likelihood and draws none.

    Source: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, 2015,
    section 5.

    Example:
      >>> z = net(params, x)
      >>> jn.curvature.sampled(loss, key, samples=5)(z, y).shape
      (5, 6, 2)
    """
    if samples < 1:
        raise ValueError(f"curvature.sampled: expected at least 1 sample, got {samples}")
    _check(loss)

    def columns(z, y):
        drawn = jax.vmap(loss.sample, (0, None))(jax.random.split(key, samples), z)
        expected, got = jax.tree.map(lambda leaf: leaf.shape[1:], drawn), jax.tree.map(jnp.shape, y)
        if expected != got:
            raise ValueError(f"curvature.sampled: expected y of shape {expected}, got {got}")
        if loss.given is not None:
            drawn = jax.vmap(loss.given, (0, None))(drawn, y)
        signals = jax.vmap(loss.backward, (None, 0))(z, drawn)
        return signals / samples**0.5

    return columns


def empirical(loss: Loss) -> Columns:
    """`(z, y) -> S`: the gradient's own signal, v = 1.

    Source: Kunstner et al., Limitations of the empirical Fisher approximation, 2019: it is not the Fisher matrix.

    Example:
      >>> z = net(params, x)
      >>> jn.curvature.empirical(loss)(z, y).shape
      (1, 6, 2)
    """
    _check(loss)
    return lambda z, y: loss.backward(z, y)[None]


def send_back(
    net: Layer,
    columns: Columns,
    params: Any,
    x: PyTree[Array],
    y: Any,
    read: Callable[[Any], Any],
    out_axes: Any = None,
) -> Any:
    """Sends all columns back at once and reads what arrives.

    Args:
      net, params, x, y: the network and the batch.
      columns: what to send.
      read: from one column's dparams to what is wanted. `Factored`'s methods sum over the columns when they are given
        `AXIS`, the name of their axis: before a product that all columns share.
      out_axes: None for what is summed over the columns; otherwise where they are in the outcome.

    Example:
      >>> norms = jn.curvature.send_back(net, jn.curvature.exact(loss), params, x, y, jn.per_example.norms, out_axes=0)
      >>> norms.shape  # of each column, those of each example
      (2, 6)
    """
    z, cache = net.forward(params, x)

    def of_one_column(column):
        dparams, _ = net.backward(params, cache, column)
        return read(dparams)

    return jax.vmap(of_one_column, axis_name=AXIS, out_axes=out_axes)(columns(z, y))


def averaged(leaf: Factored, weights: Float[Array, " m"] | None, total: Array) -> Array:
    """A sum over examples as their mean: divided by m where no weights, in place of 1/m, are in it."""
    return total / leaf.examples if weights is None else total


def _check(loss):
    instance_of(Loss, "curvature", "loss to be a Loss", loss, "jaxnet.losses.half_squared_error")
