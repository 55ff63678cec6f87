"""Attention of the positions that come next to all so far, whose keys and values are kept.

The state is keys (m, length, e) and values (m, length, f), with 0 where no position is yet, and how many there are.

Source: Shazeer, Fast transformer decoding: one write-head is all you need, 2019, section 2.4.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxnet.attending.heads import by_heads, joined, scores, split
from jaxnet.attending.sight import Sight, masked

Kept = tuple[Float[Array, "m n e"], Float[Array, "m n f"], Int[Array, ""]]


def nothing_kept(length: int, x: tuple[Array, ...]) -> Kept:
    """Room for so many keys and values such as those of x, which is (q, k, v)."""
    keys, values = (jnp.zeros((one.shape[0], length, one.shape[2]), one.dtype) for one in x[1:])
    return keys, values, jnp.zeros((), jnp.int32)


def forward_in_cache(
    heads: int, kv_heads: int, window: int | None, kept: Kept, x: tuple[Array, ...]
) -> tuple[Float[Array, "m t g"], Any]:
    """y_t = sum_s p_ts v_s over all s up to t, and what is kept then."""
    q, k, v = x
    keys, values, seen = kept
    keys, values = (lax.dynamic_update_slice_in_dim(old, new, seen, 1) for old, new in ((keys, k), (values, v)))
    q, _, _ = by_heads(heads, kv_heads, (q, k, v))
    rows, columns = (part + jnp.arange(n, dtype=seen.dtype) for part, n in ((seen, q.shape[-2]), (0, keys.shape[1])))
    sight = Sight(True, window, None, 0.0, None)
    p = jax.nn.softmax(masked(sight, scores(q, split(keys, kv_heads)), rows, columns)).astype(values.dtype)
    y = jnp.einsum("mkgts,mksf->mkgtf", p, split(values, kv_heads))
    return joined(y), (keys, values, seen + q.shape[-2])
