"""One of several inputs that come as a tuple; nothing goes back to the others."""

from functools import partial
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Shaped

from jaxnet.arguments import integers, shown
from jaxnet.layer import Layer

Part = Shaped[Array, "m ..."]


def pick_forward(number: int, params: tuple[()], x: tuple[Part, ...]) -> tuple[Part, tuple[Any, ...]]:
    """y = x[number]. The cache is the shape of each other part: an array without examples, and one without features."""
    if not isinstance(x, tuple) or len(x) <= number:
        got = f"a tuple of {len(x)}" if isinstance(x, tuple) else f"a {type(x).__name__}"
        raise ValueError(f"pick({number}): expected x to be a tuple of at least {number + 1} parts, got {got}")

    def shape_of(position, part):
        has_gradient = position != number and jnp.issubdtype(part.dtype, jnp.floating)
        return (part[:0], part[:, None][:, :0]) if has_gradient else None

    return x[number], tuple(shape_of(position, jnp.asarray(part)) for position, part in enumerate(x))


def pick_backward(
    number: int, params: tuple[()], cache: tuple[Any, ...], dy: Part | None
) -> tuple[tuple[()], tuple[Part | None, ...]]:
    """dx is dy for the part, 0 for the others, and None where they are integers."""
    parts = enumerate(cache)
    return params, tuple(dy if position == number else _zeros(shape) for position, shape in parts)


def pick_second(params: tuple[()], cache: tuple[Any, ...], dy: Part | None) -> None:
    """y is linear in x."""


def pick(number: SupportsIndex) -> Layer:
    """One part of a tuple: y = x[number].

    Such as what `carried` layers end with, or of a tuple (x, context) the one that keys are made of.

    Args:
      number: which, from 0.

    Returns:
      A layer without parameters, which keeps nothing.

    Raises:
      ValueError: when the number is no integer of at least 0; when traced, if x is no tuple or has too few parts.

    Example:
      >>> jn.pick(1)((), (jnp.ones((5, 3)), jnp.zeros((5, 2)))).shape
      (5, 2)
    """
    (known,) = integers((number,)) or (-1,)
    if known < 0:
        raise ValueError(f"pick: expected the number of a part, from 0, got {shown(number)}")
    return Layer(
        _no_parameters, partial(pick_forward, known), partial(pick_backward, known), pick_second, decoder="positionwise"
    )


def _no_parameters(key):
    return ()


def _zeros(shape):
    """0 in the shape, and over devices in the layout, of the part that it was taken of."""
    if shape is None:
        return None
    features, rows = shape
    sharding, of_rows = (jax.typeof(array).sharding for array in (features, rows))
    spec = PartitionSpec(*of_rows.spec[:1], *sharding.spec[1:])
    zeros = jnp.zeros((rows.shape[0], *features.shape[1:]), features.dtype)
    return jax.sharding.reshard(zeros, NamedSharding(sharding.mesh, spec)) if any(spec) else zeros
