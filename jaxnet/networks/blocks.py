"""What networks of many blocks have in common: how blocks follow one another, and how small they start."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
from jaxtyping import Array, DTypeLike

from jaxnet.compose import chain
from jaxnet.layer import Layer
from jaxnet.layers.dropout import dropout
from jaxnet.recompute import recompute
from jaxnet.repeat import repeat


def stacked(block: Layer, n: int, *, recomputed: bool, repeated: bool) -> Layer:
    """The block n times over, with parameters of its own each time: as one scan, or as a chain."""
    block = recompute(block) if recomputed else block
    return repeat(block, n) if repeated else chain(*[block] * n)


def dropped(rate: float) -> tuple[Layer, ...]:
    """A layer of dropout; none where nothing is dropped."""
    layer = dropout(rate)
    return (layer,) if rate else ()


def of_branches(init: Callable[..., Array], n: int) -> Callable[..., Array]:
    """How the last weights of n branches start: all n together then add the variance that one by `init` adds."""
    return partial(_smaller, init, n)


# Functions of a module, so that a layer that holds them can be pickled.
def normal(deviation: float, key: jax.Array, shape: Sequence[int], dtype: DTypeLike = float) -> Array:
    """W ~ N(0, deviation^2)."""
    return jax.nn.initializers.normal(deviation)(key, shape, dtype)


def _smaller(init, n, key, shape, dtype=float):
    return init(key, shape, dtype) / math.sqrt(n)
