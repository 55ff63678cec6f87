"""What training sees of an image: moved a little, cut out of a larger one, or mirrored, anew in each step.

    shift   y_ip = x_i,p+o  where the place p + o is in the image, else 0,  and dx_ip = dy_i,p-o likewise
    crop    y_ip = x_i,r(p+o), r(p) = |p|, and 2(n-1) - p beyond the end,   and dx_iq = the sum of dy_ip with r(p+o) = q
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


def random_crop_forward(
    margin: int, params: tuple[()], x: Signal, *, key: jax.Array | None = None
) -> tuple[Signal, Int[Array, "m axes"] | tuple[()]]:
    """y_ip = x_i,r(p+o) with o from -margin to margin along each axis of positions; without a key y = x."""
    where = f"random_crop({margin})"
    _check_input(where, x)
    if min(x.shape[1:-1]) <= margin:
        sizes = " x ".join(map(str, x.shape[1:-1]))
        raise ValueError(f"{where}: expected images of more than {margin} positions along each axis, got {sizes}")
    if key is None:
        return x, ()
    offsets = jax.random.randint(key, (x.shape[0], x.ndim - 2), -margin, margin + 1, out_sharding=_rows(x, 2))
    return jax.vmap(_cropped)(x, offsets), offsets


def random_crop_backward(
    params: tuple[()], offsets: Int[Array, "m axes"] | tuple[()], dy: Signal
) -> tuple[tuple[()], Signal]:
    """dx_iq = the sum of dy_ip over the places p with r(p + o) = q; without offsets dx = dy."""
    return params, dy if isinstance(offsets, tuple) else jax.vmap(_uncropped)(dy, offsets)


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

    Example:
      >>> image = jnp.arange(9.0).reshape(1, 3, 3, 1)
      >>> layer = jn.bind(jn.random_shift(1), key)
      >>> layer((), image)[0, :, :, 0]
      Array([[0., 0., 1.],
             [0., 3., 4.],
             [0., 6., 7.]], dtype=float32)
    """
    number = positive_integer("random_shift", "most", most)
    return _drawing(partial(random_shift_forward, number), random_shift_backward)


def random_crop(margin: SupportsIndex) -> Layer:
    """Pads each image, and cuts one of the old size out of it at random: x (m, *positions, c).

    y_ip = x_i,r(p+o), with offsets o of its own for every example and step, each from -margin to margin with the same
    probability. r mirrors what is outside at the image's first and last positions, so that what comes in looks like the
    image; `random_shift` has zeros there. Unbound, as after training, y = x.

    Args:
      margin: positions that are padded at each side, at least 1 and fewer than the image has.

    Returns:
      A layer without parameters, to stand first in a network. It reads x once for each axis of positions, forward, and
      three times backward, and keeps an integer for each axis and example.

    Raises:
      ValueError: when `margin` is no positive integer; when traced, if x has no axis of positions, or too few of them.

    Source: He et al., Deep residual learning for image recognition, 2016, section 4.2, who pad with zeros.

    Example:
      >>> image = jnp.arange(9.0).reshape(1, 3, 3, 1)
      >>> layer = jn.bind(jn.random_crop(1), key)
      >>> layer((), image)[0, :, :, 0]
      Array([[1., 0., 1.],
             [4., 3., 4.],
             [7., 6., 7.]], dtype=float32)
    """
    number = positive_integer("random_crop", "margin", margin)
    return _drawing(partial(random_crop_forward, number), random_crop_backward)


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
            x = _taken(x, jnp.arange(x.shape[axis]) + offsets[axis], axis)
        return x

    return jax.vmap(of_example)(x, offsets)


def _cropped(x, offsets):
    """x_r(p+o) of one example."""
    for axis in range(x.ndim - 1):
        size = x.shape[axis]
        places = jnp.abs(jnp.arange(size) + offsets[axis])
        x = jnp.take(x, jnp.minimum(places, 2 * (size - 1) - places), axis)
    return x


def _uncropped(dy, offsets):
    """The sum of dy_p with r(p + o) = q: p + o is q, or its mirror image -q or 2(n-1) - q where that is another."""
    for axis in range(dy.ndim - 1):
        last, offset = dy.shape[axis] - 1, offsets[axis]
        places = jnp.arange(last + 1)
        # The first and the last position are their own mirror images: they count once, what is outside not at all.
        mirrored = (jnp.where(places == end, -1, 2 * end - places - offset) for end in (0, last))
        dy = sum((_taken(dy, at, axis) for at in mirrored), _taken(dy, places - offset, axis))
    return dy


def _taken(x, places, axis):
    """The positions of one example at these places along an axis, 0 where there are none."""
    size = x.shape[axis]
    # No place of an array is negative: those count from its end.
    outside = (places < 0) | (places >= size)
    taken = jnp.take(x, jnp.clip(places, 0, size - 1), axis)
    return jnp.where(jnp.expand_dims(outside, [k for k in range(x.ndim) if k != axis]), jnp.zeros_like(taken), taken)


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
