"""A network that tells of a whole sequence what kind it is."""

from typing import Literal, SupportsIndex

from jaxnet.arguments import positive_integer
from jaxnet.carried import carried
from jaxnet.compose import chain
from jaxnet.layer import Layer
from jaxnet.layers.activations import gelu_tanh
from jaxnet.layers.dense import dense
from jaxnet.layers.embedding import embedding
from jaxnet.layers.global_pool import global_mean
from jaxnet.networks.pre_norm import of_tables, pre_norm_blocks


def encoder(
    vocabulary: SupportsIndex,
    classes: SupportsIndex,
    *,
    width: SupportsIndex,
    heads: SupportsIndex,
    depth: SupportsIndex,
    length: SupportsIndex,
    dropout: float = 0.0,
    positions: Literal["learnt", "rotary"] = "learnt",
    activation: Layer = gelu_tanh,
    recompute: bool = False,
    repeat: bool = True,
    lengths: bool = False,
) -> Layer:
    """An encoder with a class head: ids (m, t) to z (m, classes).

    The blocks of `transformer`, where every position looks at all; then z = H mean_t(norm(x_t)) + b.

    Args:
      vocabulary, width, heads, depth, length, dropout, positions, activation, recompute, repeat: as for `transformer`.
      classes: how many outputs there are.
      lengths: whether the input is a tuple (ids, lengths), with the number of ids (m,) that are each example's own.
        Those behind them only fill it up: any ids of the vocabulary, at which no position looks, which are in no mean,
        and whose gradient is 0. So an example's z and gradient are those that it has by itself, without them.

    Returns:
      A layer with parameters `(W, body, (), H)`, H a `Dense`. Without lengths all positions count: the sequences of a
      batch are of one length.

    Raises:
      ValueError: as `transformer` does.

    Source: Devlin et al., BERT, 2018, with the mean in place of a class token; the rest as for `transformer`.

    Example:
      >>> net = jn.encoder(65, 3, width=16, heads=2, depth=2, length=8, lengths=True)
      >>> params = jax.eval_shape(net.init, key)
      >>> jax.eval_shape(net.apply, params, (jnp.zeros((2, 8), int), jnp.array([8, 5]))).shape
      (2, 3)
    """
    v, d = positive_integer("encoder", "vocabulary", vocabulary), positive_integer("encoder", "width", width)
    o = positive_integer("encoder", "classes", classes)
    body = pre_norm_blocks(
        "encoder", False, d, heads, depth, length, dropout, positions, activation, recompute, repeat, lengths
    )
    table = embedding(v, d, weight_init=of_tables)
    return chain(carried(table) if lengths else table, body, global_mean, dense(d, o, weight_init=of_tables))
