"""What training sees of an image: moved a little, or mirrored, anew in each step.

    shift   y_ip = x_i,p+o  where the place p + o is in the image, else 0,  and dx_ip = dy_i,p-o likewise
    flip    y_ip = x_i,n-1-p or x_ip, by a coin for each example,           and dx of dy the same way

The offsets o and the coins are drawn by a key that `bind` gives; without one y = x, as after training. They are the
same on every mesh of devices, and are the cache: a few numbers for each example.
"""

from functools import partial
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from jaxnet.arguments import positive_integer
from jaxnet.layer import Layer

Signal = Float[Array, "m *n c"]


def random_shift_forward(
    most: int, params: tuple[()], x: Signal, *, key: jax.Array | None = None
) -> tuple[Signal, Int[Array, "m axes"] | tuple[()]]:
    """y_ip = x_i,p+o with o from -most to most along each axis of positions; without a key y = x."""
    _check_input(f"random_shift({most})", x)
    if key is None:
        return x, ()
    offsets = jax.random.randint(key, (x.shape[0], x.ndim - 2), -most, most + 1, out_sharding=_rows(x, 2))
    return _shifted(x, offsets), offsets


def random_shift_backward(
    params: tuple[()], offsets: Int[Array, "m axes"] | tuple[()], dy: Signal
) -> tuple[tuple[()], Signal]:
    """dx_ip = dy_i,p-o; without offsets dx = dy."""
    return params, dy if isinstance(offsets, tuple) else _shifted(dy, -offsets)


def random_flip_forward(
    params: tuple[()], x: Signal, *, key: jax.Array | None = None
) -> tuple[Signal, Bool[Array, "m ..."] | tuple[()]]:
    """y_i is x_i, or mirrored along the last axis of positions, each with probability 1/2; without a key y = x."""
    _check_input("random_flip", x)
    if key is None:
        return x, ()
    mirrored = jax.random.bernoulli(key, 0.5, (x.shape[0], *(1,) * (x.ndim - 1)), out_sharding=_rows(x, x.ndim))
    return _flipped(x, mirrored), mirrored


def random_flip_backward(
    params: tuple[()], mirrored: Bool[Array, "m ..."] | tuple[()], dy: Signal
) -> tuple[tuple[()], Signal]:
    """dx_i is dy_i, or mirrored as x_i was; a flip undoes itself."""
    return params, dy if isinstance(mirrored, tuple) else _flipped(dy, mirrored)


def nowhere_curved(params: tuple[()], cache: Any, dy: Signal) -> None:
    """y is linear in x."""


def random_shift(most: SupportsIndex) -> Layer:
    """Moves each image by a few positions along each axis, with zeros where nothing was: x (m, *positions, c).

    y_ip = x_i,p+o, with offsets o of its own for every example and step, each from -most to most with the same
    probability. Unbound, as after training, y = x. `make_step`, `make_epoch` and `make_steps` bind what they train.

    Args:
      most: positions, at least 1.

    Returns:
      A layer without parameters, to stand first in a network. It reads x once for each axis of positions, forward and
      backward, and keeps an integer for each axis and example.

    Raises:
      ValueError: when `most` is no positive integer; when traced, if x has no axis of positions.

    Source: Simard et al., Best practices for convolutional neural networks applied to visual document analysis, 2003.
    """
    number = positive_integer("random_shift", "most", most)
    return _drawing(partial(random_shift_forward, number), random_shift_backward)


def _drawing(forward, backward, **bound):
    keyed = None if bound else partial(_keyed, forward, backward)
    return Layer(_no_parameters, partial(forward, **bound), backward, nowhere_curved, keyed=keyed)


def _keyed(forward, backward, key):
    return _drawing(forward, backward, key=key)


def _no_parameters(key):
    return ()


random_flip = _drawing(random_flip_forward, random_flip_backward)
"""Mirrors each image along its last axis of positions with probability 1/2, in training; x (m, *positions, c).

Source: Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012.
"""


def _shifted(x, offsets):
    """x_i,p+o for each example, 0 where that is outside."""

    def of_example(x, offsets):
        for axis in range(x.ndim - 1):
            size = x.shape[axis]
            places = jnp.arange(size) + offsets[axis]
            # No place of an array is negative: those count from its end.
            outside = (places < 0) | (places >= size)
            moved = jnp.take(x, jnp.clip(places, 0, size - 1), axis)
            kept = jnp.expand_dims(~outside, [k for k in range(x.ndim) if k != axis])
            x = jnp.where(kept, moved, jnp.zeros_like(moved))
        return x

    return jax.vmap(of_example)(x, offsets)


def _flipped(x, mirrored):
    return jnp.where(mirrored, jnp.flip(x, -2), x)


def _rows(x, ndim):
    """Of what has one entry, or a few, for each example."""
    sharding = jax.typeof(x).sharding
    return NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:1], *(None,) * (ndim - 1)))


def _check_input(where, x):
    if getattr(x, "ndim", 0) < 3:
        got = f"shape {x.shape}" if hasattr(x, "shape") else f"a {type(x).__name__}"
        raise ValueError(f"{where}: expected x (m, *positions, channels) with axes of positions, got {got}")
