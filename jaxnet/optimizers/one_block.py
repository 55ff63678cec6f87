"""A weight and its bias as one block, in homogeneous coordinates: z = W a + b is [W b] [a; 1].

The gradient of [W b] is dz [a; 1]^T, so that its factors are those of a weight with one more input, which is always 1.
Where the two are blocks of their own, what they have to do with one another is left out.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from jaxnet.factored import Each, Factored, Outer, Stacked, Windows
from jaxnet.factored.layouts import automatic
from jaxnet.factored.pytrees import registered, remade
from jaxnet.layer import Layer


@registered(arrays=())
@dataclass(frozen=True)
class BesideWeight(Factored):
    """In the place of a bias's gradient: the weight before it has it, as that of its last input."""

    @property
    def examples(self) -> Any:
        raise NotImplementedError("BesideWeight: the weight before it tells the examples")

    def total(self, weights: Array | None) -> Array:
        raise NotImplementedError("BesideWeight: the weight before it has its gradient")

    def each(self) -> Array:
        raise NotImplementedError("BesideWeight: the weight before it has its gradient")

    def merged(self, other: Factored) -> "BesideWeight | None":
        return self if isinstance(other, BesideWeight) else None


def joint(layer: Layer) -> Layer:
    """A layer whose backward gives a weight's bias to the weight; any other layer as it is. For `at_leaves`."""
    return layer._replace(backward=partial(_joint_backward, layer))


def _joint_backward(layer, params, cache, dy):
    dparams, dx = layer.backward(params, cache, dy)
    structure: Any
    forms, structure = jax.tree.flatten(dparams, is_leaf=lambda leaf: isinstance(leaf, Factored))
    leaves = jax.tree.leaves(params)
    if len(forms) == 2 and leaves[1].shape == leaves[0].shape[:1] and isinstance(forms[1], Each):
        weight = _with_one_more_input(forms[0])
        if weight is not None:
            dparams = structure.unflatten([weight, BesideWeight()])
    return dparams, dx


def _with_one_more_input(form):
    """The form of [W b] from that of W, where W is a weight."""
    if isinstance(form, Windows) and not form.spreads:
        form = form.of_patches()
    if isinstance(form, Stacked):
        return Stacked(_with_one_more_input(form.layers))
    if not isinstance(form, Outer):
        return None
    layout = jax.typeof(form.a).sharding
    whole_rows = NamedSharding(layout.mesh, PartitionSpec(*layout.spec[:-1], None))
    return remade(form, a=automatic(_ending_in_1, form.a, out_sharding=whole_rows))


def _ending_in_1(a):
    return jnp.concatenate([a, jnp.ones_like(a[..., :1])], axis=-1)
