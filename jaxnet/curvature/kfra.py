"""Kronecker factors by one matrix K that goes back in place of a signal for each example.

K stands for the mean over examples of the loss's curvature at a place, of all its features and positions with one
another. A layer with dy/dx = J_n takes it to (1/m) sum_n J_n^T K J_n: what the examples' own curvature has to do with
their J_n is left out. Where J is one matrix for all that is J^T K J, and where a layer works element by element, with
slopes Phi' (m, f), K * (Phi'^T Phi') / m. Elsewhere the columns of a root of K go back through each example. Where two
paths meet, the mean would need what the two have to do with each other, which K does not tell: such networks are
refused.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import require_examples
from jaxnet.curvature.alone import Alone, values_of
from jaxnet.curvature.columns import AXIS
from jaxnet.curvature.kronecker import Positions, not_negative, reduces
from jaxnet.description import named_as
from jaxnet.factored import Each, Factored, Outer, map_leaves
from jaxnet.factored.layouts import nowhere, rows_of
from jaxnet.layer import Layer, at_leaves
from jaxnet.losses import Loss
from jaxnet.weighting import rows_that_count


@partial(jax.tree_util.register_dataclass, data_fields=["K", "weights"], meta_fields=["shape", "reduce"])
@dataclass(frozen=True)
class Averaged:
    """The signal of `kfra`.

    Attributes:
      K: the mean curvature (f, f) at a place with f numbers for each example.
      weights: (m,), which stand in place of 1/m.
      shape: of those numbers.
      reduce: as for `Factored.kronecker_factors`.
    """

    K: Any
    weights: Any
    shape: tuple[int, ...]
    reduce: bool
    asked_by: ClassVar[str] = "curvature.kfra"
    instead: ClassVar[str] = "kflr"

    def __add__(self, other: "Averaged") -> "Averaged":
        raise ValueError("curvature.kfra: expected a network without paths that meet, as after residual; use kflr")


def kfra(
    net: Layer,
    loss: Loss,
    params: Any,
    x: PyTree[Array],
    y: Any,
    weights: Float[Array, " m"] | None = None,
    *,
    positions: Positions = "expand",
) -> PyTree[tuple[Any, ...]]:
    """Kronecker factors by one matrix for all examples, sent back: K from layer to layer, in place of each S_vn.

    K = (1/m) sum_n d2L_n/dz2 at the outputs; back through z = a W^T + b it becomes W^T K W, through a = g(z)
    K * (Phi'^T Phi') / m with Phi' (m, f) the slopes g'(z), and through any other layer (1/m) sum_n J_n^T K J_n. At a
    weight B = K and A = A^T A / m. With positions K is a matrix among all of a place's positions and features, and B
    what `kflr` would make of a root of it as columns.

    Args:
      net: a network without paths that meet, of layers that take and give one array.
      loss, params: the loss and the parameters.
      x, y: m examples.
      weights, positions: as for `kronecker`.

    Returns:
      As `kronecker` returns them. Cost: of f numbers at a place, positions included, a matrix (f, f), its eigenvectors
      O(f^3), and f columns sent back through one layer; without positions, through dense layers and activations,
      products of matrices alone.

    Raises:
      ValueError: where paths meet; when traced, naming a layer that takes or gives a tuple; and as `kronecker`.

    Source: Botev et al., Practical Gauss-Newton optimisation for deep learning, 2017, where it is KFRA.

    Example:
      >>> factors = jn.curvature.kfra(net, loss, params, x, y)
      >>> jax.tree.map(jnp.shape, factors[0])
      Dense(W=((4, 4), (3, 3)), b=((4, 4),))
    """
    require_examples("curvature.kfra", x)
    reduce = reduces("curvature.kfra", positions)
    x, y = rows_that_count("curvature.kfra", weights, x, y)
    averaging = at_leaves(averaged, net)
    z, cache = averaging.forward(params, x)
    if not hasattr(z, "shape"):
        raise ValueError(f"curvature.kfra: expected outputs to be one array, got a {type(z).__name__}; use kflr")
    # As the losses lie on a mesh.
    ones = jnp.ones_like(loss.forward(z, y))
    weights = ones / len(z) if weights is None else not_negative("curvature.kfra", weights)
    K = _mean_of(weights, loss.root_hessian(z, y))
    factors, _ = averaging.backward(params, cache, Averaged(K, weights, z.shape[1:], reduce))
    return values_of(factors)


def averaged_forward(layer: Layer, params: Any, x: PyTree[Array]) -> tuple[PyTree[Array], Any]:
    """The layer's forward; the cache is its own, and, of one matrix for all examples, that of any single one."""
    y, cache = layer.forward(params, x)
    if not (hasattr(x, "shape") and hasattr(y, "shape")):
        raise ValueError(f"curvature.kfra: expected layers of one array, got {layer.name}; use kflr")
    if layer.kind != "linear":
        return y, (cache, ())
    _, of_one = layer.forward(params, jnp.zeros((1, *x.shape[1:]), x.dtype))
    return y, (cache, of_one)


def averaged_backward(layer: Layer, params: Any, caches: Any, signal: Averaged) -> tuple[Any, Averaged | None]:
    """The factors of the layer's parameters, and K before it."""
    cache, of_one = caches
    if layer.kind is not None and len(signal.shape) == 1:
        dy = _for_each(signal, jnp.ones((1, len(signal.K)), signal.K.dtype))
        dparams, slopes = layer.backward(params, cache, dy)
        if all(_holds(leaf, dy) for leaf in jax.tree.leaves(dparams, is_leaf=_is_form)):
            factors = map_leaves(lambda leaf: _factors(leaf, signal), dparams)
            return factors, _onward(signal, _known(layer, params, of_one, slopes, signal), slopes)
    return _by_columns(layer, params, cache, signal)


def averaged(layer: Layer) -> Layer:
    """The layer with a backward for K, which reads the factors of its parameters."""
    forward = named_as(layer.forward, partial(averaged_forward, layer))
    return layer._replace(forward=forward, backward=partial(averaged_backward, layer))


def _known(layer, params, of_one, slopes, signal):
    """K before a layer of a known kind, without an example's signal."""
    K, shares = signal.K, signal.weights / signal.weights.sum()
    if layer.kind == "elementwise":
        return K * jnp.matmul((shares[:, None] * slopes).T, slopes, out_sharding=nowhere(slopes))
    _, J = jax.vmap(lambda unit: layer.backward(params, of_one, unit[None]))(jnp.eye(len(K), dtype=K.dtype))
    return J[:, 0].T @ K @ J[:, 0]


def _by_columns(layer, params, cache, signal):
    """The factors and K before any layer: a root of K sent back, one and the same for all examples."""
    values, vectors = jnp.linalg.eigh(signal.K)
    root = (vectors * jnp.sqrt(jnp.maximum(values, 0))[None]).T.reshape(-1, 1, *signal.shape)
    columns = _for_each(signal, root)

    def send(column):
        dparams, dx = layer.backward(params, cache, column)
        read = partial(_alone_of, signal)
        return map_leaves(read, dparams), dx

    factors, back = jax.vmap(send, axis_name=AXIS, out_axes=(None, 0))(columns)
    if back is None:
        return factors, None
    return factors, _onward(signal, _mean_of(signal.weights, back), back[0])


def _for_each(signal, of_one):
    """The same (..., 1, *shape) for all examples, spread over devices as they are."""
    axis = of_one.ndim - 1 - len(signal.shape)
    others = tuple(k for k in range(of_one.ndim) if k != axis)
    return of_one * jnp.expand_dims(jnp.ones_like(signal.weights, of_one.dtype), others)


def _mean_of(weights, columns):
    """sum_n w_n sum_v S_vn S_vn^T / sum_n w_n, of columns (v, m, *shape)."""
    rows = rows_of(columns[0], 2)
    layout = NamedSharding(rows.mesh, PartitionSpec(None, *rows.spec))
    flat = jnp.reshape(columns, (*columns.shape[:2], math.prod(columns.shape[2:])), out_sharding=layout)
    shares = (weights / weights.sum()).astype(flat.dtype)
    return jnp.einsum("vno,vnp->op", shares[None, :, None] * flat, flat, out_sharding=nowhere(flat))


def _onward(signal, K, dx):
    return Averaged(K, signal.weights, dx.shape[1:], signal.reduce)


def _alone_of(signal, leaf):
    return Alone(leaf.kronecker_factors(signal.weights, AXIS, signal.reduce), "curvature.kfra", "kflr")


def _factors(leaf, signal):
    """(K, A) of a weight and (K,) of a bias, whose gradients hold dy itself: else their curvature is not K."""
    B = signal.K * signal.weights.sum()
    return Alone((B, *leaf.kronecker_factors(signal.weights)[1:]), "curvature.kfra", "kflr")


def _is_form(leaf):
    return isinstance(leaf, Factored)


def _holds(leaf, dy):
    return (leaf.dz if isinstance(leaf, Outer) else leaf.g if isinstance(leaf, Each) else None) is dy
