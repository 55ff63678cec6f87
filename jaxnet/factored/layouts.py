"""How what is read is laid out over the devices of an explicit mesh, and how it is summed over vmapped columns."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array


def over_columns(values: Array, columns: str | None) -> Array:
    """The sum over the members of a `jax.vmap` axis of that name; None for no such axis."""
    # What lax.psum says, in two steps: with explicit mesh axes, psum over a vmap axis fails in JAX 0.10.
    return values if columns is None else lax.all_gather(values, columns).sum(axis=0)


def nowhere(signal: Array, ndim: int = 2) -> NamedSharding:
    """The layout of a matrix, or of an array of so many axes, that every device has."""
    return NamedSharding(jax.typeof(signal).sharding.mesh, PartitionSpec(*(None,) * ndim))


def rows_of(signal: Array, ndim: int) -> NamedSharding:
    """The layout, with so many axes, in which only the examples are spread, as those of the signal are."""
    sharding = jax.typeof(signal).sharding
    rows = (*sharding.spec, None)[0]
    return NamedSharding(sharding.mesh, PartitionSpec(rows, *(None,) * (ndim - 1)))


def parts_along(signal: Array, axis: int) -> int:
    """Into how many parts a mesh's explicit axes cut that axis of the signal."""
    sharding = jax.typeof(signal).sharding
    names = sharding.spec[axis]
    names = names if isinstance(names, tuple) else () if names is None else (names,)
    return math.prod(sharding.mesh.shape[name] for name in names)


def laid_out(function: Callable[..., Array], sharding: Sharding) -> Callable[..., Array]:
    """The function, such as one that looks up rows, where explicit axes say of its outcome alone how it lies."""
    explicit = isinstance(sharding, NamedSharding) and AxisType.Explicit in sharding.mesh.axis_types
    return jax.sharding.auto_axes(function, out_sharding=sharding) if explicit else function


def rows_and(signal: Array, sharding: Any) -> NamedSharding | None:
    """The layout of a parameter's gradient for each example, spread as those of the signal are; None for none."""
    if not isinstance(sharding, NamedSharding):
        return None
    rows, *_ = rows_of(signal, 1).spec
    return NamedSharding(sharding.mesh, PartitionSpec(rows, *sharding.spec))


def automatic(read: Callable[..., Any], *arrays: Array, out_sharding: Any) -> Any:
    """What is read of the arrays, laid out so at the end; on a mesh with explicit axes JAX lays out what is between.

    There, convolutions and slices of what is spread over devices would each need a layout of their own.
    """
    if out_sharding is None:
        return read(*arrays)
    return jax.sharding.auto_axes(read, out_sharding=out_sharding)(*arrays)
