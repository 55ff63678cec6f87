"""Attention: each position takes the values of others, by how much its query meets their keys.

For each example and head of c features, with queries q_t, keys k_s and values v_s at positions t and s:

    1. z_ts = <q_t, k_s> / sqrt(c), where t may look at s       3. p_ts = e^(z_ts - b_t) / n_t
    2. b_t = max_s z_ts and n_t = sum_s e^(z_ts - b_t)           4. y_t = sum_s p_ts v_s

Backward, in reverse, from the cotangent dy_t; p does not change with b:

    4. dv_s = sum_t p_ts dy_t and dp_ts = <dy_t, v_s>
    3. and 2.: dz_ts = p_ts (dp_ts - D_t), with D_t = sum_s p_ts dp_ts = <dy_t, y_t>
    1. dq_t = sum_s dz_ts k_s / sqrt(c) and dk_s = sum_t dz_ts q_t / sqrt(c)

The cache is q, k, v, y, b and n: two numbers for each head and position, and not the probabilities, which are computed
once more. In one number, l = b + log n, the digits of log n would be lost where b is large, and the sum of p with them.
Scores and their sums are in float32 where the input is shorter.

Source: Dao et al., FlashAttention, 2022, appendix B.
"""

import math
from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxnet.arguments import positive_integer
from jaxnet.factored.layouts import rows_of
from jaxnet.layer import Layer

Triple = tuple[Float[Array, "m t d"], Float[Array, "m s e"], Float[Array, "m s f"]]


class AttentionCache(NamedTuple):
    """The input, the output, and the scores' maxima and sums of exponentials (m, kv_heads, heads / kv_heads, t)."""

    q: Array
    k: Array
    v: Array
    y: Array
    largest: Array
    total: Array


def attention_forward(
    heads: int, params: tuple[()], x: Triple, *, causal: bool = False, window: int | None = None, kv_heads: int = 0
) -> tuple[Float[Array, "m t g"], AttentionCache]:
    """y_t = sum_s p_ts v_s with p = softmax(q k^T / sqrt(c)), in each head."""
    _check_input(_label(heads, kv_heads), heads, kv_heads or heads, causal or window is not None, x)
    q, k, v = _by_heads(heads, kv_heads, x)
    # 1. z = q k^T / sqrt(c)
    z = _scores(q, k, causal, window)
    # 2. b = max z, n = sum e^(z - b)
    largest = lax.stop_gradient(z.max(-1))
    e = jnp.exp(z - largest[..., None])
    total = e.sum(-1)
    # 3. p = e^(z - b) / n
    p = (e / total[..., None]).astype(v.dtype)
    # 4. y = p v
    y = jnp.einsum("mkgts,mskf->mtkgf", p, v).reshape(*x[0].shape[:2], -1)
    return y, AttentionCache(*x, y, largest, total)


def attention_backward(
    heads: int,
    params: tuple[()],
    cache: AttentionCache,
    dy: Float[Array, "m t g"],
    *,
    causal: bool = False,
    window: int | None = None,
    kv_heads: int = 0,
) -> tuple[tuple[()], Triple]:
    """dz = p (dp - D) with D_t = <dy_t, y_t>; dq = dz k / sqrt(c), dk = dz^T q / sqrt(c), dv = p^T dy."""
    x = cache[:3]
    q, k, v = _by_heads(heads, kv_heads, x)
    dy, y = (_split(signal, *q.shape[2:4]) for signal in (dy, cache.y))
    p = jnp.exp(_scores(q, k, causal, window) - cache.largest[..., None]) / cache.total[..., None]
    # 4. y = p v
    dv = jnp.einsum("mkgts,mtkgf->mskf", p.astype(v.dtype), dy)
    dp = jnp.einsum("mtkgf,mskf->mkgts", dy, v, preferred_element_type=p.dtype)
    # 3. and 2. p = e^(z - b) / n
    row_sums = jnp.einsum("mtkgf,mtkgf->mkgt", dy, y, preferred_element_type=p.dtype)
    dz = (p * (dp - row_sums[..., None]) * _scale(q)).astype(q.dtype)
    # 1. z = q k^T / sqrt(c)
    dq = jnp.einsum("mkgts,mskc->mtkgc", dz, k)
    dk = jnp.einsum("mkgts,mtkgc->mskc", dz, q)
    of_q, of_k, of_v = (d.reshape(signal.shape) for d, signal in zip((dq, dk, dv), x, strict=True))
    return params, (of_q, of_k, of_v)


def attention(
    heads: SupportsIndex,
    *,
    causal: bool = False,
    window: SupportsIndex | None = None,
    kv_heads: SupportsIndex | None = None,
) -> Layer:
    """Attention of queries q to keys k and values v, a tuple: y = softmax(q k^T / sqrt(c)) v, in each head by itself.

    Head h has the features from h c on, c = d / heads of them. It takes O(t s d) operations for an example, and keeps
    O(t d + s d) numbers. There are no parameters: `multi_head_attention` has projections.

    Args:
      heads: how many, a divisor of d; q is (m, t, d), and y (m, t, d) where v is as wide as k.
      causal: whether a position looks only at itself and at those before it; then k is as long as q.
      window: how many positions back one looks at most, itself included, and without causal as far ahead; None for all.
      kv_heads: heads of keys and values, a divisor of heads; each serves heads / kv_heads of q's. By default as many as
        heads. k is (m, s, kv_heads c), and v (m, s, kv_heads f) with any f.

    Returns:
      A layer from (q, k, v) to y (m, t, heads f).

    Raises:
      ValueError: when a number is not a positive integer, or kv_heads does not divide heads; when traced, if the shapes
        are others, or with causal or a window k is not as long as q.

    Source: Vaswani et al., Attention Is All You Need, 2017; Ainslie et al., GQA, 2023; Beltagy et al., Longformer,
    2020.
    """
    heads = positive_integer("attention", "heads", heads)
    # Those that are given, which are then what is printed.
    options: dict[str, Any] = {"causal": True} if causal else {}
    if window is not None:
        options["window"] = positive_integer("attention", "window", window)
    if kv_heads is not None:
        options["kv_heads"] = positive_integer("attention", "kv_heads", kv_heads)
        if heads % options["kv_heads"]:
            raise ValueError(f"attention: expected kv_heads to divide heads {heads}, got {kv_heads}")
    forward, backward = (partial(f, heads, **options) for f in (attention_forward, attention_backward))
    return Layer(_no_parameters, forward, backward)


def _scores(q, k, causal, window):
    long = jnp.float32 if jnp.finfo(q.dtype).bits < 32 else q.dtype
    z = jnp.einsum("mtkgc,mskc->mkgts", q, k, preferred_element_type=long) * _scale(q)
    # How far back s is from t; each position looks at itself at least.
    back = jnp.arange(q.shape[1])[:, None] - jnp.arange(k.shape[1])[None]
    seen = back >= 0 if causal else jnp.ones_like(back, bool)
    if window is not None:
        seen &= jnp.abs(back) < window
    return jnp.where(seen[None, None, None], z, -jnp.inf) if causal or window else z


def _scale(q):
    return 1 / math.sqrt(q.shape[-1])


def _by_heads(heads, kv_heads, x):
    """q (m, t, k, g, c), k (m, s, k, c) and v (m, s, k, f), with g heads of q for each of k's and v's."""
    q, k, v = x
    kv_heads = kv_heads or heads
    return _split(q, kv_heads, heads // kv_heads), _split(k, kv_heads), _split(v, kv_heads)


def _split(signal, kv_heads, *grouped):
    """The features by heads. Over devices each has whole heads, or else all of them."""
    sharding = jax.typeof(signal).sharding
    spread = sharding.spec[-1]
    names = spread if isinstance(spread, tuple) else (spread,) if spread else ()
    if kv_heads % math.prod(sharding.mesh.shape[name] for name in names):
        signal = jax.sharding.reshard(signal, rows_of(signal, signal.ndim))
    return signal.reshape(*signal.shape[:2], kv_heads, *grouped, -1)


def _no_parameters(key):
    return ()


def _label(heads, kv_heads):
    return f"attention({heads}, kv_heads={kv_heads})" if kv_heads else f"attention({heads})"


def _check_input(label, heads, kv_heads, aligned, x):
    """Refuses what is no (q, k, v), and shapes that do not fit the heads or one another."""
    if not isinstance(x, tuple) or len(x) != 3 or {jnp.ndim(leaf) for leaf in x} != {3}:
        got = ", ".join(str(jnp.shape(leaf)) for leaf in x) if isinstance(x, tuple) else f"a {type(x).__name__}"
        raise ValueError(f"{label}: expected a tuple of q (m, t, d), k (m, s, e) and v (m, s, f), got {got}")
    (m, t, d), k, v = (leaf.shape for leaf in x)
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
