"""The mean of each window of positions; each of them gets an equal share of what comes back."""

from collections.abc import Sequence
from functools import partial
from typing import SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxnet.arrays import require_cotangent
from jaxnet.layer import Layer
from jaxnet.norms import long_type
from jaxnet.pooling import Padding, Pooling, counts, pooling, pooling_options


def _no_parameters(key):
    return ()


def avg_pool_forward(
    params: tuple[()],
    x: Float[Array, "m *t c"],
    *,
    window: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
    padding: str | tuple[tuple[int, int], ...] = "VALID",
) -> tuple[Float[Array, "m *n c"], Float[Array, "0 *t c"]]:
    """y_n = sum_t x_t / count_n over the positions of window n. The cache is x's shape."""
    x = jnp.asarray(x)
    windows = pooling("avg_pool", x, window, stride, padding)
    # 1. s_n = sum of x_t over the positions t of window n, in float32 at least
    long = x.astype(long_type(x.dtype))
    sums = _sums(long, windows.window, windows.stride, windows.padding)
    # 2. y_n = s_n / count_n
    return (sums * _shares(windows, long.dtype)).astype(x.dtype), x[:0]


def avg_pool_backward(
    params: tuple[()],
    of_x: Float[Array, "0 *t c"],
    dy: Float[Array, "m *n c"],
    *,
    window: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
    padding: str | tuple[tuple[int, int], ...] = "VALID",
) -> tuple[tuple[()], Float[Array, "m *t c"]]:
    """ds_n = dy_n / count_n, and dx_t = sum_n ds_n over the windows n that t is in."""
    windows = pooling("avg_pool", of_x, window, stride, padding)
    require_cotangent(f"avg_pool({window})", (dy.shape[0], *windows.windows, of_x.shape[-1]), dy)
    long_dy = dy.astype(long_type(dy.dtype))
    # 2. y_n = s_n / count_n
    dsums = long_dy * _shares(windows, long_dy.dtype)
    # 1. s_n = sum of x_t over the positions t of window n
    if windows.tiles:
        wide = np.ones((1, *(n for width in window for n in (1, width)), 1), dsums.dtype)
        dx = windows.untiled(windows.apart(dsums) * wide, jax.typeof(of_x).sharding)
    else:
        dx = _sums(dsums, windows.window, (1,) * len(window), _padding_back(windows), apart=windows.stride)
    return params, dx.astype(dy.dtype)


def linear(params: tuple[()], of_x: Float[Array, "0 *t c"], dy: Float[Array, "m *n c"]) -> None:
    """y is linear in x."""


def avg_pool(
    window: Sequence[SupportsIndex],
    *,
    stride: SupportsIndex | Sequence[SupportsIndex] | None = None,
    padding: Padding = "VALID",
) -> Layer:
    """The mean of each window: y_nc = mean over the positions t of window n of x_tc, for every channel c.

    Args:
      window, stride, padding: as for `max_pool`. Padding counts for nothing: a mean is of the positions that are there.

    Returns:
      A layer without parameters, x (m, *positions, c) to y (m, *windows, c), which keeps nothing. Sums are taken in
      float32 at least. Each way adds once for each position of a window; backward copies where windows tile.

    Raises:
      ValueError: as `max_pool` does.

    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998, section II.B.

    Example:
      >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
      >>> jn.avg_pool((2, 2))((), x)[0, :, :, 0]
      Array([[ 2.5,  4.5],
             [10.5, 12.5]], dtype=float32)
    """
    options = pooling_options("avg_pool", window, stride, padding)
    functions = partial(avg_pool_forward, **options), partial(avg_pool_backward, **options)
    return Layer(_no_parameters, *functions, linear)


def _shares(windows, dtype):
    return np.asarray(1 / counts(windows), dtype)


def _sums(x, window, stride, padding, apart=None):
    """The sums over windows of x (m, *positions, c), between whose positions lie zeros where it is pulled apart."""
    zero = np.zeros((), x.dtype)
    dilation = None if apart is None else (1, *apart, 1)
    pads = ((0, 0), *padding, (0, 0))
    return lax.reduce_window(x, zero, lax.add, (1, *window, 1), (1, *stride, 1), pads, base_dilation=dilation)


def _padding_back(windows: Pooling):
    """Around the windows' sums, pulled apart by the stride, so that those of each position are one window of them."""
    axes = zip(windows.windows, windows.stride, windows.window, windows.padding, windows.positions, strict=True)
    return [(width - 1 - before, size + before - (n - 1) * step - 1) for n, step, width, (before, _), size in axes]
