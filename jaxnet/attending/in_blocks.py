"""Attention without the matrix of all probabilities: block by block of queries and of keys.

A scan goes through the pairs of a block of queries and a block of keys, one after the other; pairs in which no query
sees a key, as above the diagonal of causal attention, are left out. Of the scores only those of one pair are there, so
that memory grows with the positions, and not with their square.

Forward keeps for each query t the maximum b_t so far, the sum n_t and the sum of values, of e^(z - b) as it is so far.
A further block of keys has scores z_ts, and with the maximum c_t = max(b_t, max_s z_ts):

    n_t <- e^(b_t - c_t) n_t + sum_s e^(z_ts - c_t)
    y_t <- e^(b_t - c_t) y_t + sum_s e^(z_ts - c_t) v_s         b_t <- c_t

and y_t / n_t at the end. The maximum starts at the least number, not at -inf, which would leave inf - inf of a block in
which t sees nothing. Backward has b and n of all keys, and so each block's probabilities at once: its share of dq, dk
and dv is that of `attention_backward`, and the shares add up. Sums that run are in float32 at least.

Source: Dao et al., FlashAttention, 2022, algorithms 1 and 4; Milakov and Gimelshein, Online normalizer calculation for
softmax, 2018.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxnet.attending.heads import back_to_keys_turned, long_type, scale, scores
from jaxnet.attending.sight import Sight, divisor, masked, thinned

# Of probabilities by default: those of 1,024 positions, 4 MB a head in float32.
AT_ONCE = 1024**2
# On CPUs, where some blocks see nothing of each other: those of 512, which is quicker, too (docs/benchmarks.md).
ON_CPUS = 512**2
# Positions of a block by default, 256 KB of probabilities a head.
BLOCK = 256

Signals = tuple[Float[Array, "m k g t c"], Float[Array, "m k s c"], Float[Array, "m k s f"]]


def in_blocks_or_at_once(
    block: int | None, in_blocks: Callable[..., Any], at_once: Callable[..., Any], sight: Sight, *signals: Any
) -> Any:
    """in_blocks(size, sight, *signals), or at_once(sight, *signals), of which the first signals are q, k and v.

    Both are functions of a module: where the platform decides they are compiled as such, and not anew in each call.
    """
    t, s = signals[0][0].shape[-2], signals[0][1].shape[-2]
    if t * s > AT_ONCE if block is None else max(t, s) > block and min(t, s):
        return in_blocks(block or BLOCK, sight, *signals)
    if block is None and (sight.causal or sight.window is not None) and t * s >= ON_CPUS:
        return _by_platform(in_blocks, at_once, sight, *signals)
    return at_once(sight, *signals)


@partial(jax.jit, static_argnums=(0, 1), inline=True)
def _by_platform(in_blocks, at_once, sight, *signals):
    return lax.platform_dependent(*signals, cpu=partial(in_blocks, BLOCK, sight), default=partial(at_once, sight))


def forward_in_blocks(
    block: int, sight: Sight, signals: Signals
) -> tuple[Float[Array, "m k g t f"], Float[Array, "m k g t"], Float[Array, "m k g t"]]:
    """y, and the scores' maxima and sums of exponentials."""
    t, s = signals[0].shape[-2], signals[1].shape[-2]
    blocks = Blocks(block, t, s)
    q, (k, v) = blocks.padded_queries(signals[0]), map(blocks.padded_keys, signals[1:])
    of_rows = jnp.zeros_like(q[..., 0], long_type(q))
    of_values = jnp.broadcast_to(of_rows[..., None], (*of_rows.shape, v.shape[-1]))

    def step(running, pair):
        i, j = pair
        rows, columns = blocks.rows(i), blocks.columns(j)
        b, n, y = (blocks.of_queries(part, i) for part in running)
        # 1. z = q k^T / sqrt(c)
        z = masked(sight, scores(blocks.of_queries(q, i), blocks.of_keys(k, j)), rows, columns, blocks.end)
        # 2. c = max(b, max z), n = e^(b - c) n + sum e^(z - c)
        c = lax.stop_gradient(jnp.maximum(b, z.max(-1)))
        e, before = jnp.exp(z - c[..., None]), jnp.exp(b - c)
        n = before * n + e.sum(-1)
        # 3. and 4. y = e^(b - c) y + e^(z - c) v
        e = thinned(sight, e, rows, columns).astype(v.dtype)
        more = jnp.einsum("mkgts,mksf->mkgtf", e, blocks.of_keys(v, j), preferred_element_type=y.dtype)
        news = c, n, before[..., None] * y + more
        return tuple(blocks.with_queries(old, new, i) for old, new in zip(running, news, strict=True)), None

    start = jnp.full_like(of_rows, jnp.finfo(of_rows.dtype).min), of_rows, of_values
    (b, n, y), _ = lax.scan(step, start, blocks.pairs(sight))
    n = divisor(n)
    y = (y / n[..., None]).astype(v.dtype)
    return y[..., :t, :], b[..., :t], n[..., :t]


def backward_in_blocks(
    block: int,
    sight: Sight,
    signals: Signals,
    kept: tuple[Float[Array, "m k g t f"], Float[Array, "m k g t"], Float[Array, "m k g t"]],
    dy: Float[Array, "m k g t f"],
) -> Signals:
    """dq, dk and dv, from what forward returned."""
    t, s = signals[0].shape[-2], signals[1].shape[-2]
    blocks = Blocks(block, t, s)
    y, b, n = kept
    row_sums = jnp.einsum("mkgtf,mkgtf->mkgt", dy, y, preferred_element_type=b.dtype)
    q, (k, v) = blocks.padded_queries(signals[0]), map(blocks.padded_keys, signals[1:])
    dy = blocks.padded_queries(dy)
    # Of queries that only fill up: dy = 0, and any probabilities that are numbers.
    b, n, row_sums = (blocks.padded_queries(part, value) for part, value in ((b, 0), (n, 1), (row_sums, 0)))

    def step(running, pair):
        i, j = pair
        rows, columns = blocks.rows(i), blocks.columns(j)
        q_i, dy_i = blocks.of_queries(q, i), blocks.of_queries(dy, i)
        k_j, v_j = blocks.of_keys(k, j), blocks.of_keys(v, j)
        b_i, n_i, D_i = (blocks.of_queries(part, i)[..., None] for part in (b, n, row_sums))
        p = jnp.exp(masked(sight, scores(q_i, k_j), rows, columns, blocks.end) - b_i) / n_i
        # 4. y = p v
        dv = back_to_keys_turned(dy_i, thinned(sight, p, rows, columns).astype(v.dtype), p.dtype)
        dp = thinned(sight, _sum("mkgtf,mksf->mkgts", dy_i, v_j, p), rows, columns)
        # 3. and 2. p = e^(z - b) / n
        dz = (p * (dp - D_i) * scale(q)).astype(q.dtype)
        # 1. z = q k^T / sqrt(c)
        dq, dk = _sum("mkgts,mksc->mkgtc", dz, k_j, p), back_to_keys_turned(q_i, dz, p.dtype)
        of_q, of_k, of_v = running
        of_q = blocks.with_queries(of_q, blocks.of_queries(of_q, i) + dq, i)
        return (of_q, blocks.with_more(of_k, dk, j), blocks.with_more(of_v, dv, j)), None

    # Sums for keys and values run turned round, as their products come.
    start = tuple(jnp.zeros_like(signal, b.dtype) for signal in (q, jnp.moveaxis(k, -1, -2), jnp.moveaxis(v, -1, -2)))
    (dq, dk, dv), _ = lax.scan(step, start, blocks.pairs(sight))
    dk, dv = (jnp.moveaxis(turned, -1, -2)[..., :s, :] for turned in (dk, dv))
    return dq[..., :t, :].astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype)


class Blocks(NamedTuple):
    """Blocks of so many positions, of t queries and s keys; the last are filled up, and no key is seen from s on."""

    block: int
    t: int
    s: int

    @property
    def sizes(self):
        return tuple(max(1, min(self.block, length)) for length in (self.t, self.s))

    @property
    def end(self):
        """Where keys end that are not there; None where they fill their blocks."""
        return self.s if self.s % self.sizes[1] else None

    def pairs(self, sight):
        """The blocks of queries and of keys that see each other, (2, n)."""
        rows, columns = (np.arange(0, length, size) for length, size in zip((self.t, self.s), self.sizes, strict=True))
        i, j = np.meshgrid(np.arange(len(rows)), np.arange(len(columns)), indexing="ij")
        # How far back the first key is from the last query, and the last key from the first query.
        farthest = rows[i] + self.sizes[0] - 1 - columns[j]
        nearest = rows[i] - columns[j] - self.sizes[1] + 1
        seen = np.ones_like(i, bool)
        if sight.causal:
            seen &= farthest >= 0
        if sight.window is not None:
            seen &= (nearest < sight.window) & (farthest > -sight.window)
        return jnp.asarray(i[seen], jnp.int32), jnp.asarray(j[seen], jnp.int32)

    def rows(self, i):
        return i * self.sizes[0] + jnp.arange(self.sizes[0], dtype=i.dtype)

    def columns(self, j):
        return j * self.sizes[1] + jnp.arange(self.sizes[1], dtype=j.dtype)

    def of_queries(self, array, i):
        return lax.dynamic_slice_in_dim(array, i * self.sizes[0], self.sizes[0], 3)

    def of_keys(self, array, j):
        return lax.dynamic_slice_in_dim(array, j * self.sizes[1], self.sizes[1], 2)

    def with_queries(self, array, part, i):
        return lax.dynamic_update_slice_in_dim(array, part, i * self.sizes[0], 3)

    def with_more(self, turned, part, j):
        start, size = j * self.sizes[1], self.sizes[1]
        more = lax.dynamic_slice_in_dim(turned, start, size, 3) + part
        return lax.dynamic_update_slice_in_dim(turned, more, start, 3)

    def padded_queries(self, array, value=0):
        return _padded(array, 3, self.sizes[0], value)

    def padded_keys(self, array):
        return _padded(array, 2, self.sizes[1], 0)


def _padded(array, axis, size, value):
    widths = [(0, 0, 0)] * array.ndim
    widths[axis] = (0, -array.shape[axis] % size, 0)
    return lax.pad(array, jnp.asarray(value, array.dtype), widths)


def _sum(letters, one, other, like):
    return jnp.einsum(letters, one, other, preferred_element_type=like.dtype)
