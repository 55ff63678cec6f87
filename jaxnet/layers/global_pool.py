"""One number for each channel, over all positions: their mean, or the largest of them."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxnet.arrays import require_cotangent, require_floating
from jaxnet.factored.layouts import rows_of
from jaxnet.layer import Layer
from jaxnet.norms import long_type
from jaxnet.over_time import alive_in, apart
from jaxnet.standardised import laid_out


def _no_parameters(key):
    return ()


class PositionsCache(NamedTuple):
    """x's shape, as an array without examples, and how many positions each example has; None where it has all."""

    of_x: Array
    lengths: Array | None


def global_mean_forward(
    params: tuple[()], x: Float[Array, "m *t c"] | tuple[Float[Array, "m t c"], Int[Array, " m"]]
) -> tuple[Float[Array, "m c"], PositionsCache]:
    """y_c = sum_t x_tc / T, over T positions; of a tuple (x, lengths) over an example's own ones."""
    x, lengths = apart(x)
    x = jnp.asarray(x)
    _require_positions("global_mean", x, lengths)
    of_x, x = x[:0], x.astype(long_type(x.dtype))
    if lengths is None:
        return x.mean(_positions(x)).astype(of_x.dtype), PositionsCache(of_x, None)
    total = jnp.where(_alive(x, lengths), x, jnp.zeros_like(x)).sum(1)
    return (total / _at_least_one(total, lengths)).astype(of_x.dtype), PositionsCache(of_x, lengths)


def global_mean_backward(
    params: tuple[()], cache: PositionsCache, dy: Float[Array, "m c"]
) -> tuple[tuple[()], Float[Array, "m *t c"] | tuple[Float[Array, "m t c"], None]]:
    """dx_tc = dy_c / T; 0 behind an example's own positions."""
    of_x, lengths = cache
    require_cotangent("global_mean", (dy.shape[0], of_x.shape[-1]), dy)
    if lengths is None:
        return params, _at_all(dy / math.prod(of_x.shape[1:-1]), of_x)
    dx = _at_all(dy / _at_least_one(dy, lengths), of_x)
    return params, (jnp.where(_alive(dx, lengths), dx, jnp.zeros_like(dx)), None)


def global_max_forward(
    params: tuple[()], x: Float[Array, "m *t c"]
) -> tuple[Float[Array, "m c"], tuple[Int[Array, "m c"], Float[Array, "0 *t c"]]]:
    """y_c = max_t x_tc. The cache is that position, the first at ties, and x's shape."""
    x = jnp.asarray(x)
    _require_positions("global_max", x)
    # 1. order = the positions' numbers, row-major
    order = _order(x)
    # 2. place = the first position that is largest; NaN is larger than any number
    largest = lax.stop_gradient(x.max(_positions(x), keepdims=True))
    is_largest = ~(x < largest)
    place = jnp.where(is_largest, order, math.prod(x.shape[1:-1])).min(_positions(x), keepdims=True)
    # 3. y = x at place
    y = jnp.where(order == place, x, jnp.zeros_like(x)).sum(_positions(x))
    return y, (place.squeeze(_positions(x)), x[:0])


def global_max_backward(
    params: tuple[()], cache: tuple[Int[Array, "m c"], Float[Array, "0 *t c"]], dy: Float[Array, "m c"]
) -> tuple[tuple[()], Float[Array, "m *t c"]]:
    """dx_tc = dy_c at the position that was largest, and 0 elsewhere."""
    place, of_x = cache
    require_cotangent("global_max", place.shape, dy)
    wide = _at_all(dy, of_x)
    # 3. y = x at place
    return params, jnp.where(_order(wide) == _apart(place, of_x), wide, jnp.zeros_like(wide))


def linear_in_pieces(params: tuple[()], cache: object, dy: Float[Array, "m c"]) -> None:
    """y is linear in x, or in pieces of it."""


global_mean = Layer(_no_parameters, global_mean_forward, global_mean_backward, linear_in_pieces)
"""y (m, c), the mean over all T positions of x (m, *positions, c), in float32 at least; dx_tc = dy_c / T.

Of a tuple (x, lengths), x (m, t, c) and a whole number for each example, the mean is over its first positions alone:
what fills it up does not count, whatever it is. Without any position y is 0.
Source: Lin, Chen and Yan, Network in network, 2014, section 3.2."""

global_max = Layer(_no_parameters, global_max_forward, global_max_backward, linear_in_pieces)
"""y (m, c), the largest over all positions of x (m, *positions, c). What comes back goes to the first of the largest,
in row-major order, as by XLA's select-and-scatter. That position's number is kept."""


def _alive(x, lengths):
    """Which positions an example has, (m, t, 1)."""
    return alive_in(x, lengths).T[..., None]


def _at_least_one(of_channels, lengths):
    """The number of an example's positions, (m, 1), by which its sum is divided; 1 where there are none."""
    lengths = laid_out(lengths, rows_of(of_channels, 1))
    return jnp.maximum(lengths, 1).astype(of_channels.dtype)[:, None]


def _positions(x):
    return tuple(range(1, x.ndim - 1))


def _order(x):
    """The number of each position, (1, *positions, 1)."""
    positions = x.shape[1:-1]
    return jnp.arange(math.prod(positions), dtype=jnp.int32).reshape(1, *positions, 1)


def _apart(of_channels, of_x):
    """(m, 1, ..., c): axes for the positions."""
    return jnp.expand_dims(of_channels, _positions(of_x))


def _at_all(of_channels, of_x):
    """(m, *positions, c) of (m, c), laid out as x is."""
    shape = (of_channels.shape[0], *of_x.shape[1:])
    return jnp.broadcast_to(_apart(of_channels, of_x), shape, out_sharding=jax.typeof(of_x).sharding)


def _require_positions(where, x, lengths=None):
    require_floating(where, x)
    if lengths is not None and (x.ndim != 3 or lengths.shape != x.shape[:1]):
        raise ValueError(f"{where}: expected x (m, t, channels) beside lengths (m,), got {x.shape} and {lengths.shape}")
    if x.ndim < 3 or 0 in x.shape[1:-1]:
        raise ValueError(f"{where}: expected x (m, positions, channels) with at least one position, got {x.shape}")
