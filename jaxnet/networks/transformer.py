"""A network that tells at every position of a sequence what follows."""

from typing import Literal, SupportsIndex

from jaxnet.arguments import positive_integer
from jaxnet.compose import chain
from jaxnet.layer import Layer
from jaxnet.layers.activations import gelu_tanh
from jaxnet.layers.embedding import embedding, unembedding
from jaxnet.networks.pre_norm import of_tables, pre_norm_blocks
from jaxnet.tied import tied as tied_ends


def transformer(
    vocabulary: SupportsIndex,
    *,
    width: SupportsIndex,
    heads: SupportsIndex,
    depth: SupportsIndex,
    length: SupportsIndex,
    dropout: float = 0.0,
    tied: bool = False,
    positions: Literal["learnt", "rotary"] = "learnt",
    activation: Layer = gelu_tanh,
    recompute: bool = False,
    repeat: bool = True,
) -> Layer:
    """A decoder: ids (m, t) to z (m, t, vocabulary), what follows each position after all up to it.

    x = W[id] + E; depth times x = x + attention(norm(x)) and x = x + g(norm(x) V^T) U^T; z = norm(x) H^T.
    `losses.softmax_cross_entropy_with_integer_labels` with the ids that follow, (m, t), sums over the positions of an
    example. Tables and head start with standard deviation 0.02, weights with 1 / sqrt(inputs), the last ones of the
    2 depth branches smaller by sqrt(2 depth).

    Args:
      vocabulary: how many ids there are.
      width: d, the features of a position.
      heads: of attention, a divisor of d.
      depth: how many blocks, of 12 d^2 weights each.
      length: of the longest sequence, in positions.
      dropout: its rate behind the embedding and at the end of each branch, in [0, 1).
      tied: whether the head H is the embedding W, of (vocabulary, d).
      positions: "learnt", with a table E that is added; or "rotary", with queries and keys that are turned, and no E.
      activation: g, element by element.
      recompute: whether a block keeps its input alone, for one more forward pass, see `jaxnet.recompute`.
      repeat: whether the blocks are one scan, `jaxnet.repeat`, with stacked parameters, compiled once whatever the
        depth; else they are a chain, whose blocks can be looked at and changed one by one.

    Returns:
      A layer with parameters `(W, body, H)`, or `(W, body)` where they are tied. It takes 24 d^2 + 4 t d operations for
      a position and block, 2 vocabulary d for the head, and backward twice that.

    Raises:
      ValueError: when a number is out of its range, or heads do not divide the width; when traced, if x is longer.

    Source: Radford et al., Language models are unsupervised multitask learners, 2019 (GPT-2); norms: Xiong et al., On
    layer normalization in the transformer architecture, 2020; rotary: Su et al., RoFormer, 2021; tied: Press and Wolf,
    Using the output embedding to improve language models, 2017.

    Example:
      >>> net = jn.transformer(65, width=16, heads=2, depth=2, length=8)
      >>> params = jax.eval_shape(net.init, key)
      >>> jax.eval_shape(net.apply, params, jnp.zeros((2, 8), int)).shape
      (2, 8, 65)
    """
    v, d = positive_integer("transformer", "vocabulary", vocabulary), positive_integer("transformer", "width", width)
    body = pre_norm_blocks(
        "transformer", True, d, heads, depth, length, dropout, positions, activation, recompute, repeat
    )
    ends = embedding(v, d, weight_init=of_tables), unembedding(v, d, weight_init=of_tables)
    return tied_ends(ends[0], body, ends[1]) if tied else chain(ends[0], body, ends[1])
