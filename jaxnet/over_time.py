"""What layers over time share: a scan along the positions, states that are held where an example has ended.

A state s_t comes of the one before it, s_t = f(s_t-1, x_t), from s_0 on. Where an example has only n positions it is
held from there on, s_t = s_t-1 for t > n, so that the last one is that of its length. Back, with ds_t what comes to s_t
from y_t and from s_t+1, f's backward takes ds_t where t <= n and 0 elsewhere, and ds_t-1 has the rest beside it.

What a scan takes and gives has the time first.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnet.factored import Each
from jaxnet.factored.layouts import nowhere, rows_of
from jaxnet.standardised import laid_out

Lengths: TypeAlias = Int[Array, " m"]
Sequences: TypeAlias = Float[Array, "m t i"] | tuple[Float[Array, "m t i"], Lengths]
Alive: TypeAlias = Bool[Array, "t m"] | None


def apart(x: Any) -> tuple[Any, Any]:
    """(x, lengths) of such a tuple, and (x, None) of anything else."""
    if isinstance(x, tuple) and len(x) == 2 and jnp.ndim(x[1]) == 1 and jnp.issubdtype(x[1].dtype, jnp.integer):
        return x
    return x, None


def alive_in(x: Array, lengths: Any) -> Any:
    """Whether an example goes on at each time, (t, m); None where all do, as they have no lengths."""
    if lengths is None:
        return None
    lengths = laid_out(jnp.asarray(lengths, jnp.int32), rows_of(x, 1))
    return jnp.arange(x.shape[1], dtype=jnp.int32)[:, None] < lengths[None]


def where_alive(alive: Any, values: PyTree[Array]) -> PyTree[Array]:
    """The values where an example goes on, and 0 elsewhere; alive and they are of one time, or of all."""
    if alive is None:
        return values
    return jax.tree.map(lambda leaf: jnp.where(_along(alive, leaf), leaf, jnp.zeros_like(leaf)), values)


def ahead(
    step: Callable[[Any, Any], tuple[Any, Any]],
    start: PyTree[Array],
    inputs: PyTree[Array],
    alive: Any,
    shown: Callable[[Any], Any] = lambda state: state,
) -> tuple[Any, Any, Any]:
    """(s_T, what is shown of all s_t, what each step keeps) for `step(s_t-1, inputs_t) -> (s_t, kept)`, s_0 = start."""

    def held(state, at_t):
        inputs, alive = at_t
        new, kept = step(state, inputs)
        if alive is not None:
            new = jax.tree.map(lambda new, old: jnp.where(_along(alive, new), new, old), new, state)
        return new, (shown(new), kept)

    end, (states, kept) = lax.scan(held, start, (inputs, alive))
    return end, states, kept


def back(
    step: Callable[[Any, Any], tuple[Any, Any]], dend: PyTree[Array], dstates: Any, kept: PyTree[Array], alive: Any
) -> tuple[Any, Any]:
    """(ds_0, all that steps give) for `step(ds_t, kept_t) -> (ds_t-1, given)`, last to first.

    Args:
      step: the backward of one step.
      dend: what comes to the last state from behind it.
      dstates: what comes to each state besides; None for nothing, as a whole or in part.
      kept: what each step takes.
      alive: as `alive_in` tells it.
    """

    def held(dstate, at_t):
        more, kept, alive = at_t
        if more is not None:
            dstate = jax.tree.map(lambda d, also: d if also is None else d + also, dstate, more)
        dbefore, given = step(where_alive(alive, dstate), kept)
        if alive is not None:
            rest = where_alive(~alive, dstate)
            dbefore = jax.tree.map(jnp.add, dbefore, rest)
        return dbefore, given

    return lax.scan(held, dend, (dstates, kept, alive), reverse=True)


def before(states: Float[Array, "t m h"], alive: Any) -> Float[Array, "t m h"]:
    """The state that each step starts with: 0 and all but the last; 0 where an example has ended."""
    shifted = jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])
    return where_alive(alive, shifted)


def time_first(signal: PyTree[Array]) -> PyTree[Array]:
    """(t, m, ...) of (m, t, ...), and (m, t, ...) of (t, m, ...)."""
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), signal)


def nothing_yet(x: Float[Array, "m t i"], size: int) -> Float[Array, "m h"]:
    """The state that a layer starts with: 0, spread over devices as the examples are."""
    return jnp.zeros((x.shape[0], size), x.dtype, out_sharding=rows_of(x, 2))


def everywhere(parameter: Array, x: Array) -> Array:
    """A parameter that every step needs: on a mesh with explicit axes all of it on every device."""
    return laid_out(parameter, nowhere(x, parameter.ndim))


def projected(x: Float[Array, "m t i"], W: Float[Array, "g i"], b: Any) -> Float[Array, "t m g"]:
    """x_t W^T + b, in one product for all times; the time first."""
    a = jnp.matmul(x, W.T, out_sharding=rows_of(x, 3))
    return time_first(a if b is None else a + everywhere(b, x)[None, None])


def of_bias(b: Any, dz: Float[Array, "m t g"]) -> Each | None:
    """The gradients of a bias, laid out over devices as it is."""
    if b is None:
        return None
    rows, of_bias = rows_of(dz, 2), jax.typeof(b).sharding.spec
    return Each(laid_out(dz, NamedSharding(rows.mesh, PartitionSpec(*rows.spec, *of_bias))))


def through(dz: Float[Array, "m t g"], W: Float[Array, "g i"], x: Float[Array, "m t i"]) -> Float[Array, "m t i"]:
    """dx_t = dz_t W, in one product for all times, laid out as x is."""
    return jnp.matmul(dz, W, out_sharding=jax.typeof(x).sharding)


def parts(z: Float[Array, "*m g"], count: int) -> list[Float[Array, "*m h"]]:
    """What belongs to each gate, of so many beside one another."""
    # Not jnp.split: XLA's CPU compiler gets vmapped reverse scans wrong there (jax 0.10.2).
    size = z.shape[-1] // count
    return [z[..., k * size : (k + 1) * size] for k in range(count)]


def _along(alive, leaf):
    return jnp.expand_dims(alive, range(alive.ndim, leaf.ndim))
