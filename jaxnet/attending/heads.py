"""Queries, keys and values by heads, and the shapes that they must have.

Heads come before positions: of positions first `einsum` makes the products the other way round, and turns every matrix
of scores for it.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike

from jaxnet.factored.layouts import rows_of


def by_heads(heads: int, kv_heads: int, x: tuple[Array, ...]) -> tuple[Array, Array, Array]:
    """q (m, k, g, t, c), k (m, k, s, c) and v (m, k, s, f), with g heads of q for each of k's and v's."""
    q, k, v = x[:3]
    kv_heads = kv_heads or heads
    return split(q, kv_heads, heads // kv_heads), split(k, kv_heads), split(v, kv_heads)


def split(signal: Array, kv_heads: int, *grouped: int) -> Array:
    """(m, t, d) by heads, (m, *heads, t, c). Over devices each has whole heads, or else all of them."""
    sharding = jax.typeof(signal).sharding
    spread = sharding.spec[-1]
    names = spread if isinstance(spread, tuple) else (spread,) if spread else ()
    if kv_heads % math.prod(sharding.mesh.shape[name] for name in names):
        signal = jax.sharding.reshard(signal, rows_of(signal, signal.ndim))
    # Not -1, which says nothing where there are no numbers.
    heads = kv_heads, *grouped
    return jnp.moveaxis(signal.reshape(*signal.shape[:2], *heads, signal.shape[2] // math.prod(heads)), 1, -2)


def joined(signal: Array) -> Array:
    """What `split` has taken apart, (m, *heads, t, c), as (m, t, d)."""
    signal = jnp.moveaxis(signal, -2, 1)
    return signal.reshape(*signal.shape[:2], math.prod(signal.shape[2:]))


def scores(q: Array, k: Array) -> Array:
    """z = q k^T / sqrt(c), (m, k, g, t, s), in float32 at least."""
    return jnp.einsum("mkgtc,mksc->mkgts", q, k, preferred_element_type=long_type(q)) * scale(q)


def long_type(q: Array) -> DTypeLike:
    """In which scores are, and sums of them: float32 where q's is shorter."""
    return jnp.float32 if jnp.finfo(q.dtype).bits < 32 else q.dtype


def back_to_keys(signal: Array, matrix: Array) -> Array:
    """sum_t matrix_ts signal_t, (m, k, s, c): what comes back to keys and values."""
    return jnp.moveaxis(back_to_keys_turned(signal, matrix), -1, -2)


def back_to_keys_turned(signal: Array, matrix: Array, dtype: DTypeLike | None = None) -> Array:
    """The same turned round, (m, k, c, s): signal^T matrix, for which the smaller one of the two is turned."""
    return jnp.einsum("mkgtc,mkgts->mkcs", signal, matrix, preferred_element_type=dtype)


def scale(q: Array) -> float:
    """1 / sqrt(c)."""
    return 1 / math.sqrt(q.shape[-1])


def check_input(label: str, heads: int, kv_heads: int, aligned: bool, x: Any) -> None:
    """Refuses what is no (q, k, v) or (q, k, v, lengths), and shapes that do not fit the heads or one another."""
    if not isinstance(x, tuple) or len(x) not in (3, 4) or {jnp.ndim(leaf) for leaf in x[:3]} != {3}:
        got = ", ".join(str(jnp.shape(leaf)) for leaf in x) if isinstance(x, tuple) else f"a {type(x).__name__}"
        raise ValueError(f"{label}: expected a tuple of q (m, t, d), k (m, s, e) and v (m, s, f), got {got}")
    (m, t, d), k, v = (leaf.shape for leaf in x[:3])
    fits = d % heads == 0 and k == (m, k[1], d // heads * kv_heads) and v == (m, k[1], v[2]) and v[2] % kv_heads == 0
    if not fits:
        raise ValueError(
            f"{label}: expected q (m, t, {heads} c), k (m, s, {kv_heads} c) and v (m, s, {kv_heads} f), "
            f"got {(m, t, d)}, {k} and {v}"
        )
    if aligned and k[1] != t:
        raise ValueError(
            f"{label}: expected k to be as long as q, since causal and window compare positions, got {k[1]} and {t}"
        )
    if len(x) == 4 and (jnp.shape(x[3]) != (m,) or not jnp.issubdtype(jnp.result_type(x[3]), jnp.integer)):
        raise ValueError(
            f"{label}: expected lengths of whole numbers, one for each of {m} examples, "
            f"got {jnp.result_type(x[3])}{jnp.shape(x[3])}"
        )
