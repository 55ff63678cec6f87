"""JAX's convolution, as XLA's CPU compiler is quick at it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

# Until 0.11 jaxlib's library for convolutions on CPUs has one processor work, however many there are.
ON_ONE_PROCESSOR = jaxlib.version.__version_info__ < (0, 11)
# Beside so many places another one is worth the other processors; of one channel it is not, on two of them.
SHARE = 7


def convolved(
    x: Float[Array, "m *q c"],
    W: Float[Array, "*k g o"],
    stride: Sequence[int],
    padding: Sequence[Sequence[int]],
    **options: Any,
) -> Float[Array, "m *p o"]:
    """Of c channels, g in a group, in the one order of axes that XLA's CPU compiler is quick at; options as JAX's.

    Of others it has slow ones where they are in a loop: in a scan over the steps of an epoch they took twenty times as
    long, and as long as these outside of it (two cores of an Intel Xeon, jax 0.10.2).
    """
    options |= {"window_strides": tuple(stride), "padding": tuple(tuple(pair) for pair in padding)}
    further = _further_places(x.shape, W.shape, x.dtype, **options) if ON_ONE_PROCESSOR else 0
    return _of_more(further, tuple(options.items()), x, W) if further else _of_order(x, W, **options)


def _of_order(x, W, **options):
    places = tuple(range(1, x.ndim - 1))
    signal, weight = (0, x.ndim - 1, *places), (x.ndim - 1, x.ndim - 2, *(place - 1 for place in places))
    return lax.conv_general_dilated(x, W, dimension_numbers=lax.ConvDimensionNumbers(signal, weight, signal), **options)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _of_more(further, options, x, W):
    """The same, where on CPUs the window goes further along the first axis, and what it finds there is left out.

    Of windows with no more places than there are positions, jaxlib 0.10 has one processor work: with as many places and
    one more it has all of them, see docs/benchmarks.md. The way back that JAX makes of that is slow: it is told that
    the convolution is linear in x and in W.
    """
    plain = dict(options)
    ((before, after), *rest), (step, *_) = plain["padding"], plain["window_strides"]
    more = plain | {"padding": ((before, after + further * step), *rest)}

    def on_cpus(x, W):
        z = _of_order(x, W, **more)
        return lax.slice_in_dim(z, 0, z.shape[1] - further, axis=1)

    return lax.platform_dependent(x, W, cpu=on_cpus, default=partial(_of_order, **plain))


@partial(_of_more.defjvp, symbolic_zeros=True)
def _of_more_jvp(further, options, primals, tangents):
    (x, W), (dx, dW) = primals, tangents

    def plain(x, W):
        return _of_order(x, W, **dict(options))

    terms = []
    if not isinstance(dx, SymbolicZero):
        terms.append(plain(dx, W))
    if not isinstance(dW, SymbolicZero):
        terms.append(plain(x, dW))
    return _of_more(further, options, x, W), sum(terms[1:], start=terms[0])


def _further_places(of_x, of_W, dtype, *, window_strides, padding, lhs_dilation=None, rhs_dilation=None, **_):
    """How many more places along the first axis are more than there are positions; 0 where that is not worth it."""
    (_, *positions, channels), (*size, of_group, outputs) = of_x, of_W
    known = all(isinstance(length, int) for length in (*of_x[1:], *of_W))
    if not known or len(size) != 2 or (lhs_dilation is not None and max(lhs_dilation) > 1):
        return 0
    # What has few channels, or numbers of another type, goes to all processors anyway.
    if of_group == 1 or max(channels, outputs) <= 16 or dtype == jnp.float64:
        return 0
    ways = zip(positions, size, window_strides, padding, rhs_dilation or (1, 1), strict=True)
    places = [(n + sum(borders) - (k - 1) * dilation - 1) // step + 1 for n, k, step, borders, dilation in ways]
    further = positions[0] - places[0] + 1
    return further if further > 0 and places[1] <= positions[1] and SHARE * further <= places[0] else 0
