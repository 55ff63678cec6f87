"""Attention: each position takes the values of others, by how much its query meets their keys.

For each example and head of c features, with queries q_t, keys k_s and values v_s at positions t and s:

    1. z_ts = <q_t, k_s> / sqrt(c), where t may look at s       3. p_ts = e^(z_ts - b_t) / n_t
    2. b_t = max_s z_ts and n_t = sum_s e^(z_ts - b_t)           4. y_t = sum_s p_ts v_s

Backward, in reverse, from the cotangent dy_t; p does not change with b:

    4. dv_s = sum_t p_ts dy_t and dp_ts = <dy_t, v_s>
    3. and 2.: dz_ts = p_ts (dp_ts - D_t), with D_t = sum_s p_ts dp_ts = <dy_t, y_t>
    1. dq_t = sum_s dz_ts k_s / sqrt(c) and dk_s = sum_t dz_ts q_t / sqrt(c)

Dropout, in training, puts p_ts m_ts / keep in the place of p_ts in step 4, with a mask m; backward then has its dv with
that, and its dp_ts times m_ts / keep. D_t = <dy_t, y_t> stays. With many positions the same is done block by block:
`jaxnet/attending/in_blocks.py`.

The cache is q, k, v, y, b and n: two numbers for each head and position, and not the probabilities, which are computed
once more, as the mask is drawn once more. In one number, l = b + log n, the digits of log n would be lost where b is
large, and the sum of p with them.
Scores and their sums are in float32 where the input is shorter.

Source: Dao et al., FlashAttention, 2022, appendix B.
"""

from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxnet.arguments import positive_integer, shown
from jaxnet.attending.heads import back_to_keys, by_heads, check_input, joined, scale, scores, split
from jaxnet.attending.in_blocks import Signals, backward_in_blocks, forward_in_blocks, in_blocks_or_at_once
from jaxnet.attending.in_cache import forward_in_cache, nothing_kept
from jaxnet.attending.sight import Sight, divisor, masked, thinned
from jaxnet.layer import Decoder, Layer

Triple = tuple[Float[Array, "m t d"], Float[Array, "m s e"], Float[Array, "m s f"]]
WithLengths = tuple[Float[Array, "m t d"], Float[Array, "m s e"], Float[Array, "m s f"], Int[Array, " m"]]
BesideLengths = tuple[Float[Array, "m t d"], Float[Array, "m s e"], Float[Array, "m s f"], None]


class AttentionCache(NamedTuple):
    """The input, the output, and the scores' maxima and sums of exponentials (m, kv_heads, heads / kv_heads, t)."""

    q: Array
    k: Array
    v: Array
    y: Array
    largest: Array
    total: Array
    lengths: Array | None = None


def attention_forward(
    heads: int,
    params: tuple[()],
    x: Triple | WithLengths,
    *,
    causal: bool = False,
    window: int | None = None,
    kv_heads: int = 0,
    block: int | None = None,
    dropout: float = 0.0,
    key: jax.Array | None = None,
) -> tuple[Float[Array, "m t g"], AttentionCache]:
    """y_t = sum_s p_ts v_s with p = softmax(q k^T / sqrt(c)), in each head."""
    check_input(_label(heads, kv_heads), heads, kv_heads or heads, causal or window is not None, x)
    lengths = x[3] if len(x) == 4 else None
    sight = Sight(causal, window, lengths, dropout, key)
    signals = by_heads(heads, kv_heads, x)
    y, largest, total = in_blocks_or_at_once(block, forward_in_blocks, forward_at_once, sight, signals)
    y = joined(y)
    return y, AttentionCache(*x[:3], y, largest, total, lengths)


def attention_backward(
    heads: int,
    params: tuple[()],
    cache: AttentionCache,
    dy: Float[Array, "m t g"],
    *,
    causal: bool = False,
    window: int | None = None,
    kv_heads: int = 0,
    block: int | None = None,
    dropout: float = 0.0,
    key: jax.Array | None = None,
) -> tuple[tuple[()], Triple | BesideLengths]:
    """dz = p (dp - D) with D_t = <dy_t, y_t>; dq = dz k / sqrt(c), dk = dz^T q / sqrt(c), dv = p^T dy."""
    signals = by_heads(heads, kv_heads, cache[:3])
    dy, y = (split(signal, *signals[0].shape[1:3]) for signal in (dy, cache.y))
    sight = Sight(causal, window, cache.lengths, dropout, key)
    kept = y, cache.largest, cache.total
    gradients = in_blocks_or_at_once(block, backward_in_blocks, backward_at_once, sight, signals, kept, dy)
    of_q, of_k, of_v = map(joined, gradients)
    return params, (of_q, of_k, of_v) if cache.lengths is None else (of_q, of_k, of_v, None)


def forward_at_once(
    sight: Sight, signals: Signals
) -> tuple[Float[Array, "m k g t f"], Float[Array, "m k g t"], Float[Array, "m k g t"]]:
    """y, and the scores' maxima and sums of exponentials."""
    q, k, v = signals
    positions = jnp.arange(q.shape[-2]), jnp.arange(k.shape[-2])
    # 1. z = q k^T / sqrt(c)
    z = masked(sight, scores(q, k), *positions)
    # 2. b = max z, n = sum e^(z - b)
    largest = lax.stop_gradient(z.max(-1, initial=jnp.finfo(z.dtype).min))
    e = jnp.exp(z - largest[..., None])
    total = e.sum(-1) if sight.lengths is None else divisor(e.sum(-1))
    # 3. p = e^(z - b) / n
    p = thinned(sight, e / total[..., None], *positions).astype(v.dtype)
    # 4. y = p v
    return jnp.einsum("mkgts,mksf->mkgtf", p, v), largest, total


def backward_at_once(
    sight: Sight,
    signals: Signals,
    kept: tuple[Float[Array, "m k g t f"], Float[Array, "m k g t"], Float[Array, "m k g t"]],
    dy: Float[Array, "m k g t f"],
) -> Signals:
    """dq, dk and dv, from what forward returned."""
    q, k, v = signals
    y, largest, total = kept
    positions = jnp.arange(q.shape[-2]), jnp.arange(k.shape[-2])
    p = jnp.exp(masked(sight, scores(q, k), *positions) - largest[..., None]) / total[..., None]
    # 4. y = p v
    dv = back_to_keys(dy, thinned(sight, p, *positions).astype(v.dtype))
    dp = jnp.einsum("mkgtf,mksf->mkgts", dy, v, preferred_element_type=p.dtype)
    dp = thinned(sight, dp, *positions)
    # 3. and 2. p = e^(z - b) / n
    row_sums = jnp.einsum("mkgtf,mkgtf->mkgt", dy, y, preferred_element_type=p.dtype)
    dz = (p * (dp - row_sums[..., None]) * scale(q)).astype(q.dtype)
    # 1. z = q k^T / sqrt(c)
    return jnp.einsum("mkgts,mksc->mkgtc", dz, k), back_to_keys(q, dz), dv


def attention_decoder(
    heads: int, length: int, *, causal: bool = False, window: int | None = None, kv_heads: int = 0, **other: Any
) -> Decoder:
    """y_t = sum_s p_ts v_s over all s up to t, whose keys and values are kept: as many as there is room for."""
    if not causal:
        raise ValueError("decoder: expected attention to be causal; what follows is not known yet")
    if "key" in other:
        raise ValueError("decoder: expected a network that is not bound, got attention with a key; it goes without")

    def start(params, x):
        check_input(_label(heads, kv_heads), heads, kv_heads or heads, True, x)
        if len(x) == 4:
            raise ValueError("decoder: expected x without lengths, since it goes on, got lengths at attention")
        return nothing_kept(length, x)

    def step(params, kept, x):
        return forward_in_cache(heads, kv_heads or heads, window, kept, x)

    return Decoder(start, step, length)


def attention(
    heads: SupportsIndex,
    *,
    causal: bool = False,
    window: SupportsIndex | None = None,
    kv_heads: SupportsIndex | None = None,
    block: SupportsIndex | None = None,
    dropout: float = 0.0,
) -> Layer:
    """Attention of queries q to keys k and values v, a tuple: y = softmax(q k^T / sqrt(c)) v, in each head by itself.

    Head h has the features from h c on, c = d / heads of them. It takes O(t s d) operations for an example, and keeps
    O(t d + s d) numbers. There are no parameters: `multi_head_attention` has projections.

    The input is (q, k, v), or (q, k, v, lengths) for examples of several lengths, filled up: keys and values from an
    example's length on are as if they were not there, whatever finite numbers they are. The output for queries from
    there on is to be left out of the loss. A query that sees no key has the output 0.

    Args:
      heads: how many, a divisor of d; q is (m, t, d), and y (m, t, d) where v is as wide as k.
      causal: whether a position looks only at itself and at those before it; then k is as long as q.
      window: how many positions back one looks at most, itself included, and without causal as far ahead; None for all.
      kv_heads: heads of keys and values, a divisor of heads; each serves heads / kv_heads of q's. By default as many as
        heads. k is (m, s, kv_heads c), and v (m, s, kv_heads f) with any f.
      block: how many positions are taken at once. More go in blocks: the memory then grows with t + s, not with t s,
        and blocks that see nothing of each other take no time. By default blocks of 256 where t s is more than 1024^2,
        and on CPUs from 512^2 on with causal or a window.
      dropout: the probability, in [0, 1), of a probability p_ts to be left out; the others are larger by as much. It is
        drawn as `bind` says, on the way back once more: a mask of t s numbers is not kept.

    Returns:
      A layer from (q, k, v) or (q, k, v, lengths) to y (m, t, heads f). The derivative by lengths is None.

    Raises:
      ValueError: when a number is not a positive integer, dropout not in [0, 1), or kv_heads does not divide heads;
        when traced, if the shapes are others, or with causal or a window k is not as long as q.

    Source: Vaswani et al., Attention Is All You Need, 2017; Ainslie et al., GQA, 2023; Beltagy et al., Longformer,
    2020; Dao et al., FlashAttention, 2022, for blocks.

    Example:
      >>> q, k, v = jax.random.normal(key, (3, 2, 5, 8))
      >>> y = jn.attention(2, causal=True)((), (q, k, v))
      >>> y.shape, bool(jnp.allclose(y[:, 0], v[:, 0]))  # the first position sees itself alone
      ((2, 5, 8), True)
    """
    heads = positive_integer("attention", "heads", heads)
    # Those that are given, which are then what is printed.
    options: dict[str, Any] = {"causal": True} if causal else {}
    for name, given in (("window", window), ("kv_heads", kv_heads), ("block", block)):
        if given is not None:
            options[name] = positive_integer("attention", name, given)
    if heads % options.get("kv_heads", 1):
        raise ValueError(f"attention: expected kv_heads to divide heads {heads}, got {kv_heads}")
    if not (hasattr(dropout, "__float__") and 0 <= dropout < 1):
        raise ValueError(f"attention: expected dropout in [0, 1), got {shown(dropout)}")
    return _layer(heads, options | ({"dropout": float(dropout)} if dropout else {}))


def _layer(heads, options):
    forward, backward = (partial(f, heads, **options) for f in (attention_forward, attention_backward))
    keyed = partial(_keyed, heads, options) if "dropout" in options else None
    return Layer(_no_parameters, forward, backward, keyed=keyed, decoder=partial(attention_decoder, heads, **options))


def _keyed(heads, options, key):
    return _layer(heads, options | {"key": key})


def _no_parameters(key):
    return ()


def _label(heads, kv_heads):
    return f"attention({heads}, kv_heads={kv_heads})" if kv_heads else f"attention({heads})"
