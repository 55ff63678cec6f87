"""Kronecker factors by one matrix K that goes back in place of a signal for each example.

K stands for the mean over examples of the loss's curvature at a place. A layer whose dy/dx is one matrix J takes it to
J^T K J; one that works element by element, with slopes Phi' (m, f), to K * (Phi'^T Phi') / m. Where two paths meet, the
mean would need what the two have to do with each other, which K does not tell: such networks are refused.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxnet.arguments import require_examples
from jaxnet.curvature.alone import Alone, values_of
from jaxnet.factored import map_leaves
from jaxnet.layer import Layer, at_leaves
from jaxnet.losses import Loss


@partial(jax.tree_util.register_dataclass, data_fields=["K"], meta_fields=["examples"])
@dataclass(frozen=True)
class Averaged:
    """The signal of `kfra`: the mean curvature K (f, f) of so many examples."""

    K: Any
    examples: Any

    def __add__(self, other: "Averaged") -> "Averaged":
        raise ValueError("curvature.kfra: expected a network without paths that meet, as after residual; use kflr")


def kfra(net: Layer, loss: Loss, params: Any, x: Array, y: Any) -> PyTree[tuple[Array, ...]]:
    """Kronecker factors by one matrix for all examples, sent back: K from layer to layer, in place of each S_vn.

    K = (1/m) sum_n d2L_n/dz2 at the outputs; back through z = a W^T + b it becomes W^T K W, through a = g(z)
    K * (Phi'^T Phi') / m with Phi' (m, f) the slopes g'(z). At a weight B = K and A = A^T A / m.

    Args:
      net: a network without paths that meet, of dense layers and of others without parameters whose `kind` says that
        dy/dx is one matrix for all examples, or a diagonal.
      loss, params: the loss and the parameters.
      x, y: m examples, without positions.

    Returns:
      As `kronecker` returns them.

    Raises:
      ValueError: when traced, naming a layer of another kind, or x or outputs of another rank; and where paths meet.

    Source: Botev et al., Practical Gauss-Newton optimisation for deep learning, 2017, where it is KFRA.
    """
    require_examples("curvature.kfra", x)
    shape = jax.tree.map(jnp.shape, x)
    if not hasattr(x, "shape") or len(shape) != 2:
        raise ValueError(f"curvature.kfra: expected x (m, i) without positions, got shape {shape}")
    averaging = at_leaves(averaged, net)
    z, cache = averaging.forward(params, x)
    if z.ndim != 2:
        raise ValueError(f"curvature.kfra: expected outputs (m, o) without positions, got shape {z.shape}; use kflr")
    s = loss.root_hessian(z, y)
    K = jnp.einsum("vno,vnp->op", s, s) / len(x)
    factors, _ = averaging.backward(params, cache, Averaged(K, len(x)))
    return values_of(factors)


def averaged(layer: Layer) -> Layer:
    """The layer with a backward for K, which reads the factors of its parameters."""

    def forward(params, x):
        y, cache = layer.forward(params, x)
        if layer.kind != "linear":
            return y, (cache, ())
        # One matrix for all examples: that of any single one.
        _, of_one = layer.forward(params, jnp.zeros((1, *x.shape[1:]), x.dtype))
        return y, (cache, of_one)

    def backward(params, cache, signal):
        cache, of_one = cache
        if layer.kind is None:
            raise ValueError(f"curvature.kfra: expected dense layers and activations, got {layer.name}; use kflr")
        K, examples = signal.K, signal.examples
        dy = jnp.ones((examples, len(K)), K.dtype)
        dparams, slopes = layer.backward(params, cache, dy)
        factors = map_leaves(lambda leaf: _factors(layer, leaf, dy, K), dparams)
        if layer.kind == "elementwise":
            return factors, Averaged(K * (slopes.T @ slopes) / examples, examples)
        _, J = jax.vmap(lambda unit: layer.backward(params, of_one, unit[None]))(jnp.eye(len(K), dtype=K.dtype))
        return factors, Averaged(J[:, 0].T @ K @ J[:, 0], examples)

    return layer._replace(forward=forward, backward=backward)


def _factors(layer, leaf, dy, K):
    """(K, A) of a weight and (K,) of a bias, whose gradients hold dy itself: else their curvature is not K."""
    if not any(part is dy for part in (getattr(leaf, "dz", None), getattr(leaf, "g", None))):
        raise ValueError(
            f"curvature.kfra: expected the gradients of {layer.name}'s parameters to be Outer(dy, x) and Each(dy), "
            "of dy as it came; use kflr"
        )
    return Alone((K, *leaf.kronecker_factors(None)[1:]), "curvature.kfra", "kflr")
