"""What norm layers share: numbers along some axes moved to mean 0 and scaled to mean square 1, and the way back.

With j and k among the d numbers along the axes, and means over them:

    c_j = x_j - mean x          r = (mean c^2 + epsilon)^(-1/2)          n_j = c_j r

and back, with dr = sum_k dn_k c_k and dr/dc_j = -r^3 c_j / d, and since every c_k holds -x_j / d:

    dc_j = r dn_j - (r^3 c_j / d) sum_k dn_k c_k = r (dn_j - n_j mean(dn n))          dx_j = dc_j - mean dc

where mean dc = r mean dn, since the mean of n is 0. With u_j = dn_j - mean dn and q = mean(dn n) the second derivative
of sum_k dn_k n_k by x is

    -r^2 ((u n^T + n u^T) / d + q (I - 1 1^T / d) - (3 q / d) n n^T),

and without step 1, of x r, the same with u = dn and I.

All is computed in float32 at least. The numbers are shifted by their least, so that equal numbers have variance 0
exactly. Before they are squared they are divided by their mean above it; or, where no mean is subtracted, by their
largest: no square overflows or vanishes. Neither changes n.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from jaxnet.bend import Bend, at_each, beside, diagonal
from jaxnet.factored import Each
from jaxnet.factored.layouts import rows_of
from jaxnet.norms import long_type, scale_of

# Added to variances by default, in their units.
EPSILON = 1e-5


def standardised(
    x: Float[Array, "..."], axes: tuple[int, ...], epsilon: float
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """(c, r) of which n = c r is of mean 0 and mean square 1; in float32 at least."""
    x = x.astype(long_type(x.dtype))
    # 1. c = x - mean x
    above = x - lax.stop_gradient(_read(jnp.min, x, axes))
    mean = _read(jnp.mean, above, axes)
    centred = above - mean
    # 2. r, whose unit is the mean of what is at least 0: c is from -1 to d - 1 of it, its root mean square at least
    # 1 / sqrt(d).
    size = scale_of(jnp.maximum(mean, epsilon**0.5))
    _, of_unit = _in_units(centred, size, axes, epsilon)
    return centred, of_unit / size


def from_standardised(
    normed: Float[Array, "..."],
    scale: Float[Array, "..."],
    dnormed: Float[Array, "..."],
    axes: tuple[int, ...],
) -> Float[Array, "..."]:
    """The cotangent of x, from n and r of `standardised` and the cotangent of n."""
    # 2. n = c r
    along = (dnormed * normed).mean(axes, keepdims=True)
    # 1. c = x - mean x
    return scale * (dnormed - normed * along - dnormed.mean(axes, keepdims=True))


def rescaled(
    x: Float[Array, "..."], axes: tuple[int, ...], epsilon: float
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """(n, r) with n = x r and r = (mean x^2 + epsilon)^(-1/2), which is of mean square 1; in float32 at least."""
    x = x.astype(long_type(x.dtype))
    # r is at most epsilon^(-1/2): below that a number's square counts for nothing beside epsilon.
    largest = scale_of(jnp.maximum(jnp.abs(x).max(axes, keepdims=True), epsilon**0.5))
    unit, of_unit = _in_units(x, largest, axes, epsilon)
    return unit * of_unit, of_unit / largest


def from_rescaled(
    normed: Float[Array, "..."], scale: Float[Array, "..."], dnormed: Float[Array, "..."], axes: tuple[int, ...]
) -> Float[Array, "..."]:
    """The cotangent of x, from n and r of `rescaled` and the cotangent of n."""
    return scale * (dnormed - normed * (dnormed * normed).mean(axes, keepdims=True))


def _in_units(x, size, axes, epsilon):
    """x / size, and the inverse of the root of its mean square, epsilon included."""
    unit = x * (1 / size)
    return unit, lax.rsqrt(_read(jnp.mean, unit**2, axes) + (epsilon**0.5 / size) ** 2)


def _read(reduce, x, axes):
    """The least or the mean along the axes, which stay with length 1; of groups first that of each channel.

    XLA's CPU compiler takes several times as long over positions and a group's channels at once.
    """
    *positions, last = axes
    if not positions:
        return reduce(x, axes, keepdims=True)
    *before, groups, channels = x.shape
    of_channels = reduce(x.reshape(*before, groups * channels), tuple(positions), keepdims=True)
    return reduce(of_channels.reshape(*of_channels.shape[:-1], groups, channels), (last,), keepdims=True)


def bend_of_standardised(
    normed: Float[Array, "m ..."], scale: Float[Array, "m ..."], dnormed: Float[Array, "m ..."], axes: tuple[int, ...]
) -> Bend:
    """How `from_standardised` changes with x."""
    around = dnormed - dnormed.mean(axes, keepdims=True)
    bend = bend_of_rescaled(normed, scale, around, axes)
    # Of I - 1 1^T / d the columns are its own; the others have mean 0 already.
    columns = tuple(axis + 1 for axis in axes if axis >= 0) or (-1,)
    return bend._replace(S=bend.S - bend.S.mean(columns, keepdims=True))


def bend_of_rescaled(
    normed: Float[Array, "m ..."], scale: Float[Array, "m ..."], dnormed: Float[Array, "m ..."], axes: tuple[int, ...]
) -> Bend:
    """How `from_rescaled` changes with x."""
    numbers = normed.size // max(scale.size, 1)
    q, share = (dnormed * normed).mean(axes, keepdims=True), scale**2 / numbers
    # a = dn / k is as large as n, so that a + n and a - n keep the digits of both.
    k = jnp.sqrt((dnormed**2).mean(axes, keepdims=True))
    a = dnormed / jnp.where(k == 0, jnp.ones_like(k), k)
    places, of_pair = at_each(-k * share / 2)
    _, of_n = at_each(3 * q * share)
    S = (places * column[None] for column in (a + normed, a - normed, normed))
    bends = (Bend(column, weights) for column, weights in zip(S, (of_pair, -of_pair, of_n), strict=True))
    return beside(diagonal(-q * scale**2 * jnp.ones_like(normed)), *bends)


def of_features(parameter: Any, g: Float[Array, "m *t d"]) -> Each:
    """The gradients of a gain or a bias (d,), summed over positions, in its type and laid out as it is."""
    dtype = None if g.dtype == parameter.dtype else jnp.dtype(parameter.dtype)
    g = g.sum(tuple(range(1, g.ndim - 1)))
    rows, of_parameter = rows_of(g, 2), jax.typeof(parameter).sharding.spec
    return Each(laid_out(g, NamedSharding(rows.mesh, PartitionSpec(*rows.spec[:1], *of_parameter))), 1, dtype)


def laid_out(values: Array, sharding: Any) -> Array:
    """The same values in a layout, where a mesh has explicit axes and they are in another."""
    if sharding.mesh.empty or jax.typeof(values).sharding.spec == sharding.spec:
        return values
    return jax.sharding.reshard(values, sharding)
