"""The largest number of each window of positions; what comes back goes to the place where it was.

Of numbers that tie the first is taken, in row-major order, as by XLA's select-and-scatter, which is what autodiff
makes of a pool. Forward keeps which place of its window each output came from, a byte for each; backward compares.
"""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from jaxnet.arrays import require_cotangent
from jaxnet.layer import Layer
from jaxnet.norms import long_type
from jaxnet.pooling import Padding, pooling, pooling_options

Places = UInt8[Array, "m *n c"] | Int[Array, "m *n c"]


def _no_parameters(key):
    return ()


def max_pool_forward(
    params: tuple[()],
    x: Float[Array, "m *t c"],
    *,
    window: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
    padding: str | tuple[tuple[int, int], ...] = "VALID",
) -> tuple[Float[Array, "m *n c"], tuple[Places, Float[Array, "0 *t c"]]]:
    """y_n = max_w x at place w of window n. The cache is that place, the first at ties, and x's shape."""
    x = jnp.asarray(x)
    windows = pooling("max_pool", x, window, stride, padding)
    # 1. members_w = x at place w of every window
    y, *others = windows.members(windows.padded(x, -math.inf))
    # 2. y = members_place, the first that is largest; NaN is larger than any number
    place = jnp.zeros_like(y, _dtype(window))
    for w, member in enumerate(others, start=1):
        larger = ~((member <= y) | jnp.isnan(y))
        y, place = jnp.where(larger, member, y), jnp.where(larger, jnp.asarray(w, place.dtype), place)
    return y, (place, x[:0])


def max_pool_backward(
    params: tuple[()],
    cache: tuple[Places, Float[Array, "0 *t c"]],
    dy: Float[Array, "m *n c"],
    *,
    window: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
    padding: str | tuple[tuple[int, int], ...] = "VALID",
) -> tuple[tuple[()], Float[Array, "m *t c"]]:
    """dmember_w = dy where place = w, and 0 elsewhere; dx adds them up where they lie."""
    place, of_x = cache
    windows = pooling("max_pool", of_x, window, stride, padding)
    require_cotangent(f"max_pool({window})", place.shape, dy)
    if windows.tiles:
        # 2. and 1. at once: each position is in one window
        order = np.arange(math.prod(window), dtype=place.dtype).reshape(window)[None, ..., None]
        chosen = windows.apart(place) == jnp.expand_dims(order, range(1, 2 * len(window), 2))
        tiles = jnp.where(chosen, windows.apart(dy), jnp.zeros((), dy.dtype))
        return params, windows.untiled(tiles, jax.typeof(of_x).sharding)
    # A position is in several windows, and its sum is taken in float32 at least.
    long_dy = dy.astype(long_type(dy.dtype))
    dx = jnp.zeros((), long_dy.dtype)
    for w, at in enumerate(itertools.product(*map(range, window))):
        # 2. y = members_place
        dmember = jnp.where(place == jnp.asarray(w, place.dtype), long_dy, jnp.zeros_like(long_dy))
        # 1. members_w = x at place w of every window
        dx += windows.back_from(dmember, at)
    return params, dx.astype(dy.dtype)


def nowhere_curved(params: tuple[()], cache: Any, dy: Float[Array, "m *n c"]) -> None:
    """y is linear in pieces."""


def max_pool(
    window: Sequence[SupportsIndex],
    *,
    stride: SupportsIndex | Sequence[SupportsIndex] | None = None,
    padding: Padding = "VALID",
) -> Layer:
    """The largest number of each window: y_nc = max over the positions t of window n of x_tc, for every channel c.

    Args:
      window: its length along each axis of positions: (2, 2) for images x (m, h, w, c).
      stride: how far apart neighbours begin, one number or one for each axis; None for the window, so that they tile.
      padding: "VALID" for none, which leaves out positions that fill no window; "SAME" for as much as gives
        size / stride windows, rounded up; or pairs (before, after), each less than the window. Padding is never the
        largest.

    Returns:
      A layer without parameters, x (m, *positions, c) to y (m, *windows, c). At ties what comes back goes to the first
      of the largest, in row-major order, as with XLA's select-and-scatter. It keeps a byte for each number of y (four
      for windows of more than 256 positions). Forward compares once for each position of a window; so does backward,
      in one pass where windows tile. Both programs grow with the window: `global_max` takes all positions.

    Raises:
      ValueError: when window, stride or padding is of another kind; and, when the layer is traced, if x has other axes
        of positions or fewer positions than a window, or is not floating.

    Source: Zhou and Chellappa, Computation of optical flow using a neural network, 1988.

    Example:
      >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
      >>> jn.max_pool((2, 2))((), x)[0, :, :, 0]
      Array([[ 5.,  7.],
             [13., 15.]], dtype=float32)
    """
    options = pooling_options("max_pool", window, stride, padding)
    functions = partial(max_pool_forward, **options), partial(max_pool_backward, **options)
    return Layer(_no_parameters, *functions, nowhere_curved)


def _dtype(window):
    return jnp.uint8 if math.prod(window) <= 2**8 else jnp.int32
