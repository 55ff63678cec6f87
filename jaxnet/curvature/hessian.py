"""The Hessian's diagonal, by hand: what the GGN leaves out arises where an activation is curved.

With z = f(x) and the Hessian H_z of the loss with respect to z, H_x = J^T H_z J + sum_k dz_k d2z_k/dx2. The first part
is columns sent back, as for the GGN: H_z = sum_v w_v S_v S_v^T becomes sum_v w_v (J^T S_v)(J^T S_v)^T. The second is
diagonal for an activation a = g(z): da * g''(z), whose j-th entry is a further column, the unit vector e_j, with
weight da_j g''(z_j) of either sign. So the list of weighted columns grows on its way back, at each curved activation
by its width; a dense layer is linear in x and in W and adds none. At each weight the diagonal is
(1/m) sum_n sum_v w_vn (S_vn^2) (a_n^2)^T.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import require_examples
from jaxnet.compose import inner_of, layers_of, named_in_errors
from jaxnet.curvature.columns import AXIS
from jaxnet.factored import map_leaves
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.recompute import recomputed_of
from jaxnet.repeat import repeated_of, stacked, taken_apart


class _Weighted(NamedTuple):
    """Columns whose sum_v w_v S_v S_v^T is each example's Hessian at some place of the network."""

    S: Float[Array, "v m *f"]
    w: Float[Array, "v m"]

    def and_more(self, other):
        return _Weighted(jnp.concatenate([self.S, other.S]), jnp.concatenate([self.w, other.w]))


def hessian_diagonal(net: Layer, loss: Loss, params: Any, x: Array, y: Any) -> PyTree[Array]:
    """The diagonal of the Hessian of the mean loss, exactly.

    Args:
      net: chains, residual, repeated and recomputed layers of layers that have `second`, which all of this library's
        other layers do.
      loss, params: the loss and the parameters.
      x, y: m examples.

    Returns:
      The structure and shapes of the parameters, of either sign. Cost: a batched backward pass of as many columns as
      the outputs and all curved activations behind the place have elements; for networks without any (ReLU) it is
      `ggn_diagonal`.

    Raises:
      ValueError: when traced, naming a layer that does not tell its second derivative.

    Source: DiagHessian in Dangel et al., BackPACK: Packing more into backprop, 2020; the recursion of whole matrices is
    Botev et al., Practical Gauss-Newton optimisation for deep learning, 2017, equation 8.
    """
    require_examples("curvature.hessian_diagonal", x)
    z, cache = net.forward(params, x)
    roots = loss.root_hessian(z, y)
    ones = jnp.ones_like(loss.forward(z, y))
    columns = _Weighted(roots, jnp.ones((len(roots), 1), ones.dtype) * ones[None])
    diagonal, _, _ = _backward(net, params, cache, loss.backward(z, y), columns)
    return diagonal


def _backward(layer, params, cache, dy, columns):
    """(the diagonal for the layer's parameters, dx, the columns at x)."""
    layers, inner, recomputed, repeated = layers_of(layer), inner_of(layer), recomputed_of(layer), repeated_of(layer)
    if layers is not None:
        diagonals = []
        for position in reversed(range(len(layers))):
            with named_in_errors(position, layers[position]):
                diagonal, dy, columns = _backward(layers[position], params[position], cache[position], dy, columns)
            diagonals.append(diagonal)
        return tuple(reversed(diagonals)), dy, columns
    if inner is not None:
        diagonal, dx, inner_columns = _backward(inner, params, cache, dy, columns)
        # The columns of y also go past f; those that arose inside it do not.
        past = jnp.zeros_like(inner_columns.S).at[: len(columns.S)].set(columns.S)
        return diagonal, dy + dx, inner_columns._replace(S=inner_columns.S + past)
    if recomputed is not None:
        _, cache = recomputed.forward(*cache)
        return _backward(recomputed, params, cache, dy, columns)
    if repeated is not None:
        # One by one: the columns grow from each to the next.
        layer, n = repeated
        diagonals = []
        for its_params, its_cache in reversed(taken_apart(params, cache, n)):
            diagonal, dy, columns = _backward(layer, its_params, its_cache, dy, columns)
            diagonals.append(diagonal)
        return stacked(diagonals[::-1]), dy, columns
    return _layer_backward(layer, params, cache, dy, columns)


def _layer_backward(layer, params, cache, dy, columns):
    if layer.second is None:
        raise ValueError(
            f"curvature.hessian_diagonal: {layer.name} does not tell its second derivative; "
            "give it one with Layer(init, forward, backward, second), or use ggn_diagonal"
        )

    def send(column, weights):
        dparams, dx = layer.backward(params, cache, column)
        diagonal = map_leaves(lambda leaf: leaf.square_total(weights, AXIS) / leaf.examples, dparams)
        return diagonal, dx

    diagonal, S = jax.vmap(send, axis_name=AXIS, out_axes=(None, 0))(*columns)
    _, dx = layer.backward(params, cache, dy)
    columns = columns._replace(S=S)
    bend = layer.second(params, cache, dy)
    if bend is None:
        return diagonal, dx, columns
    units = jnp.eye(math.prod(bend.shape[1:]), dtype=bend.dtype).reshape(-1, 1, *bend.shape[1:])
    # The weights as a sum over x's elements, which works where those are spread over devices, and v is not.
    weights = (units * bend[None]).sum(axis=tuple(range(2, units.ndim)))
    return diagonal, dx, columns.and_more(_Weighted(units * jnp.ones_like(bend)[None], weights))
