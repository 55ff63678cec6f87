"""Lengths of vectors whose squares would overflow or vanish, in float32 at least."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, DTypeLike, Float


def long_type(dtype: DTypeLike) -> DTypeLike:
    """The type in which sums are taken of numbers of this one: itself, and float32 for those of 16 bits."""
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def scale_of(largest: Float[Array, "..."]) -> Float[Array, "..."]:
    """The largest magnitude, but with an inverse that is a normal number too: it is not 0 for 0.

    A constant to whoever differentiates. Multiply by the inverse: the compiler makes a division by one number that.
    """
    tiny = float(jnp.finfo(largest.dtype).tiny)
    return lax.stop_gradient(jnp.clip(largest, tiny, 1 / tiny))


def scaled(values: Float[Array, "..."], axes: tuple[int, ...]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """(values / s, s) with s their scale along the axes, which are kept with length 1."""
    scale = scale_of(jnp.abs(values).max(axes, keepdims=True, initial=0))
    return values * (1 / scale), scale


def norm(values: Float[Array, "..."], axes: tuple[int, ...]) -> Float[Array, "..."]:
    """sqrt(sum values^2) along the axes, wherever that itself is a number of the type."""
    unit, scale = scaled(values, axes)
    return root((unit**2).sum(axes)) * scale.squeeze(axes)


def joined(of_parts: list[Float[Array, "*m"]]) -> Float[Array, "*m"]:
    """The norms of vectors, in the longest type there is, from those of their parts."""
    dtype = max((of_part.dtype for of_part in of_parts), key=lambda dtype: jnp.finfo(dtype).bits)
    return norm(jnp.stack([of_part.astype(dtype) for of_part in of_parts]), (0,))


def root(squares: Float[Array, "..."]) -> Float[Array, "..."]:
    """sqrt of what is not negative, with derivative 0 where that is 0."""
    positive = squares != 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, jnp.ones_like(squares))), jnp.zeros_like(squares))


def with_margin(squares: Float[Array, " m"], margin: float, terms: Float[Array, " m"]) -> Float[Array, " m"]:
    """At least n + margin terms from n^2, which rounding may have made negative, for lengths n of at most `terms`."""
    # (n + margin t)^2 = n^2 + 2 margin n t + margin^2 t^2
    return root(jnp.maximum(squares, 0) + margin * (2 + margin) * terms**2)


def toward_zero(values: Float[Array, "..."], dtype: DTypeLike) -> Float[Array, "..."]:
    """Rounded to a shorter type, no number to a larger magnitude."""
    rounded = values.astype(dtype)
    if rounded.dtype == values.dtype:
        return values
    constant = lax.stop_gradient(rounded)
    too_large = (jnp.abs(constant.astype(values.dtype)) > jnp.abs(values)) & jnp.isfinite(constant)
    nothing = jnp.zeros_like(constant)
    return rounded - jnp.where(too_large, constant - jnp.nextafter(constant, nothing), nothing)
