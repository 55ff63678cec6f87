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
from jaxnet.layers.pick import pick


def multi_head_attention(
    d: SupportsIndex,
    heads: SupportsIndex,
    *,
    context: SupportsIndex | None = None,
    lengths: bool = False,
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

    With a context it is cross-attention: of a tuple (x, context), keys and values are of the context, (m, s, features).
    With lengths the tuple has one part more, each example's number of positions (m,) that are no filling: of the
    context where there is one, and else of x. See `carried_residual` for blocks of such layers.

    Args:
      d: the features of x and y.
      heads: how many, a divisor of d.
      context: how many features the context has; None for none.
      lengths: whether the last part of the input is lengths.
      causal, window, kv_heads: as for `attention`. With kv_heads, Wk and Wv are (d kv_heads / heads, d).
      block, dropout: as for `attention`.
      weight_init, bias_init: as for `dense`.

    Returns:
      `chain(branches(dense, dense, dense), attention, dense)`, with parameters `((q, k, v), (), o)`, a `Dense` each. Of
      a tuple, each of the three is a `chain(pick(number), dense)`, with parameters `((), q)`; lengths come as a fourth.

    Raises:
      ValueError: when a number is not a positive integer, heads do not divide d, or kv_heads heads.

    Source: Vaswani et al., Attention Is All You Need, 2017, section 3.2.2.

    Example:
      >>> layer = jn.multi_head_attention(8, 2, causal=True)
      >>> layer
      chain(branches(dense(8, 8), dense(8, 8), dense(8, 8)), attention(2, causal=True), dense(8, 8))
      >>> params = layer.init(key)
      >>> layer(params, jnp.ones((2, 5, 8))).shape
      (2, 5, 8)
    """
    where = "multi_head_attention"
    d, heads = positive_integer(where, "d", d), positive_integer(where, "heads", heads)
    if d % heads:
        raise ValueError(f"{where}: expected heads to divide d {d}, got {heads}")
    attend = attention(heads, causal=causal, window=window, kv_heads=kv_heads, block=block, dropout=dropout)
    of_keys = d // heads * (heads if kv_heads is None else positive_integer("attention", "kv_heads", kv_heads))
    # Which part of a tuple keys are made of, and how many features it has.
    number, features = (0, d) if context is None else (1, positive_integer(where, "context", context))

    def projection(inputs, outputs):
        return dense(inputs, outputs, weight_init=weight_init, bias_init=bias_init)

    projections = [projection(d, d), projection(features, of_keys), projection(features, of_keys)]
    if lengths or context is not None:
        projections = [chain(pick(n), layer) for n, layer in zip((0, number, number), projections, strict=True)]
    if lengths:
        projections.append(pick(number + 1))
    return chain(branches(*projections), attend, projection(d, d))
