"""Attention with projections: queries, keys and values are linear in x, and the output in what the heads take."""

from collections.abc import Callable
from typing import SupportsIndex

from jaxtyping import Array

from jaxnet import initializers
from jaxnet.arguments import positive_integer
from jaxnet.branches import branches
from jaxnet.compose import chain
from jaxnet.layer import Layer
from jaxnet.layers.attention import attention
from jaxnet.layers.dense import dense


def multi_head_attention(
    d: SupportsIndex,
    heads: SupportsIndex,
    *,
    causal: bool = False,
    window: SupportsIndex | None = None,
    kv_heads: SupportsIndex | None = None,
    block: SupportsIndex | None = None,
    dropout: float = 0.0,
    weight_init: Callable[..., Array] = initializers.glorot,
    bias_init: Callable[..., Array] = initializers.zeros,
) -> Layer:
    """Self-attention: y = attention(x Wq^T + bq, x Wk^T + bk, x Wv^T + bv) Wo^T + bo, for x (m, t, d).

    Three layers make queries, keys and values, so that each weight starts, and has curvature, by itself; `repeat` keeps
    the x that all three need once. The gradient of bk is 0, since a softmax does not change with it.

    Args:
      d: the features of x and y.
      heads: how many, a divisor of d.
      causal, window, kv_heads: as for `attention`. With kv_heads, Wk and Wv are (d kv_heads / heads, d).
      block, dropout: as for `attention`.
      weight_init, bias_init: as for `dense`.

    Returns:
      `chain(branches(dense, dense, dense), attention, dense)`, with parameters `((q, k, v), (), o)`, a `Dense` each.

    Raises:
      ValueError: when a number is not a positive integer, heads do not divide d, or kv_heads heads.

    Source: Vaswani et al., Attention Is All You Need, 2017, section 3.2.2.
    """
    where = "multi_head_attention"
    d, heads = positive_integer(where, "d", d), positive_integer(where, "heads", heads)
    if d % heads:
        raise ValueError(f"{where}: expected heads to divide d {d}, got {heads}")
    attend = attention(heads, causal=causal, window=window, kv_heads=kv_heads, block=block, dropout=dropout)
    of_keys = d // heads * (heads if kv_heads is None else positive_integer("attention", "kv_heads", kv_heads))

    def projection(outputs):
        return dense(d, outputs, weight_init=weight_init, bias_init=bias_init)

    return chain(branches(projection(d), projection(of_keys), projection(of_keys)), attend, projection(d))
