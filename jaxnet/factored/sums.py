"""Sums over examples and positions, each in the order that XLA's CPU compiler is quick at."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from jaxnet.norms import long_type
from jaxnet.weighting import weighted

# From so many numbers on a product with a row of weights is the quicker: with 12 to 128 gradients of 128 x 512 and
# 512 x 512 tens to hundreds of times as quick, since XLA's CPU compiler copies for such sums what it adds (jax 0.10.2).
WIDE = 2**13


def sum_over_first(signal: Float[Array, "m ..."], weights: Float[Array, " m"] | None = None) -> Float[Array, "..."]:
    """sum_i weights_i signal_i, added in the long type and rounded to the signal's; None stands for ones.

    What has weight 0 is to be finite. Of a narrow signal each product is rounded to its type, too.
    """
    numbers = math.prod(signal.shape[1:])
    # A program that is exported for any number of examples does not know.
    if not isinstance(numbers, int) or numbers < WIDE:
        return (signal if weights is None else weighted(weights, signal)).sum(0)
    long = signal.astype(long_type(signal.dtype))
    row = jnp.ones_like(long, shape=long.shape[:1]) if weights is None else weights.astype(long.dtype)
    of_signal = jax.typeof(long).sharding
    layout = NamedSharding(of_signal.mesh, PartitionSpec(*of_signal.spec[1:]))
    # A sum rounds no number that is added, where products on GPUs and TPUs do unless told not to.
    product = lax.dot_general(row, long, (((0,), (0,)), ((), ())), precision="highest", out_sharding=layout)
    return product.astype(signal.dtype)


def sum_of_outer_products(
    left: Float[Array, "*mt o"], right: Float[Array, "*mt i"], **layout: Any
) -> Float[Array, "o i"]:
    """left^T right over all axes but the last; the layout as `jax.lax.dot_general` takes it."""
    # Of two axes before the last, XLA's CPU compiler copies in an order that takes twice the product's time.
    if not any(_spread_behind_the_first(signal) for signal in (left, right)):
        left, right = (signal.reshape(math.prod(signal.shape[:-1]), signal.shape[-1]) for signal in (left, right))
    summed = tuple(range(left.ndim - 1))
    return lax.dot_general(left, right, ((summed, summed), ((), ())), **layout)


def _spread_behind_the_first(signal):
    """Whether explicit axes of a mesh are on positions, or on examples where those come second: they stay there."""
    return any(name is not None for name in jax.typeof(signal).sharding.spec[1:-1])
