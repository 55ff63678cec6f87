"""Parameters of which each device along "data" holds a part: a layer gathers its own where it uses them (ZeRO-3, FSDP).

    forward:   W = all_gather(W_d);              y, cache = f(W, x_d)
    backward:  W = all_gather(W_d), once more;   dW_d = reduce_scatter(dW),  dx_d

Between the two no device holds more of W than its part. As everywhere here, arrays are told where they are wanted, and
JAX's partitioner sends. Where a parameter is wanted travels with it, so that one of a repeated layer, cut from a stack
inside a scan, is gathered there, one round at a time.

Source: Rajbhandari et al., ZeRO: memory optimizations toward training trillion parameter models, 2020, section 5.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree

from jaxnet.layer import Layer, at_leaves


class Wanted(NamedTuple):
    """Where a parameter is wanted while it is used; axes: how many it has."""

    place: NamedSharding
    axes: int


@partial(jax.tree_util.register_dataclass, data_fields=["array"], meta_fields=["wanted"])
class Part:
    """A parameter, and where it is wanted; a pytree that holds one array."""

    def __init__(self, array: Any, wanted: Wanted) -> None:
        self.array, self.wanted = array, wanted


def gathering(net: Layer) -> Layer:
    """The network, whose layers gather what of their parameters is a part; other parameters they take as they are."""
    return at_leaves(_gathered, net)


def placed(
    value_and_grad: Callable[[Layer, Any], Callable[..., Any]],
    used: PyTree[NamedSharding],
    between: PyTree[NamedSharding],
    net: Layer,
    loss: Any,
) -> Callable[..., Any]:
    """`(params, x, y, weights=None) -> (J, grads)` of a network that gathers, whose gradients lie where parameters do.

    Args:
      value_and_grad: from (net, loss), as `make_steps` takes it.
      used, between: where parameters are wanted while they are used, and where they lie between steps.
      net: made by `gathering`.
      loss: of an example.
    """
    value_and_grad_of = value_and_grad(net, loss)

    def of_batch(params, x, y, weights=None):
        parts = jax.tree.map(lambda array, place: Part(array, Wanted(place, jnp.ndim(array))), params, used)
        value, grads = value_and_grad_of(parts, x, y, weights)
        # Those by jax.grad have the structure of what it was given.
        grads = jax.tree.map(lambda leaf: leaf.array if _is_part(leaf) else leaf, grads, is_leaf=_is_part)
        return value, lax.with_sharding_constraint(grads, between)

    return of_batch


def _is_part(leaf):
    return isinstance(leaf, Part)


def _gathered(layer):
    def forward(params, x):
        return layer.forward(_whole(params), x)

    def backward(params, cache, dy):
        # Not before dy is there: the compiler would keep what forward gathered.
        params, dy = lax.optimization_barrier((params, dy))
        return layer.backward(_whole(params), cache, dy)

    forward.__name__ = f"{layer.name}_forward"
    return layer._replace(forward=forward, backward=backward)


def _whole(params):
    return jax.tree.map(lambda leaf: _gather(leaf) if _is_part(leaf) else leaf, params, is_leaf=_is_part)


def _gather(part):
    place, axes = part.wanted
    spec = (*place.spec, *[None] * (axes - len(place.spec)))
    # A scan over the leading axis has taken that away.
    here = PartitionSpec(*spec[axes - part.array.ndim :])
    return lax.with_sharding_constraint(part.array, NamedSharding(place.mesh, here))
