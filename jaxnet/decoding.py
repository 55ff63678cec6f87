"""Sequences that grow: a network goes on from what it has seen, and does not see it all again.

A layer over positions keeps a state of those that it has seen: attention their keys and values, a recurrence its last
state, positions how many there were. With s_0 empty,

    (y_t, s_t) = step(params, s_t-1, x_t)

gives at each position what the network gives there for all of x_1, ..., x_t at once. Layers that see each position by
itself have no state.

The state goes in beside each layer's parameters, and comes out where their gradients would: so it takes the way that
these take through any combinator, and `repeat` stacks it.

Source: Shazeer, Fast transformer decoding: one write-head is all you need, 2019, section 2.4.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from jaxnet.arguments import instance_of, positive_integer
from jaxnet.attending.heads import by_heads, scores, split
from jaxnet.attending.sight import Sight, masked
from jaxnet.layer import Layer, at_leaves
from jaxnet.layers.attention import attention_forward
from jaxnet.layers.dense import dense_forward
from jaxnet.layers.dropout import drop_path_forward, dropout_forward
from jaxnet.layers.embedding import embedding_forward, unembedding_forward
from jaxnet.layers.gru import gru_forward
from jaxnet.layers.layer_norm import layer_norm_forward
from jaxnet.layers.lstm import lstm_forward
from jaxnet.layers.position_table import position_table_forward
from jaxnet.layers.position_waves import rotary_forward, sinusoidal_forward
from jaxnet.layers.rms_norm import rms_norm_forward
from jaxnet.layers.rnn import rnn_forward
from jaxnet.parameters import structure_by_layer


class Decoder(NamedTuple):
    """A network that goes on.

    Attributes:
      start: `(params, x) -> state`, before any position; of x (m, t) its shapes count, with any t.
      step: `(params, state, x) -> (y, state)`, for the t positions of x (m, t) that come next.
      room: for how many positions in all; None where they may go on for ever.
    """

    start: Callable[[Any, Any], Any]
    step: Callable[[Any, Any, Any], tuple[Any, Any]]
    room: int | None


def decoder(net: Layer, length: SupportsIndex) -> Decoder:
    """The network position by position: what it gives for the next ones, and the state to go on from.

    Args:
      net: made of `embedding`, `attention(causal=True)`, positions, `gru`, `lstm`, `rnn` and layers that see each
        position by itself, by any combinators: `transformer(...)`.
      length: how many positions there is room for: attention keeps keys and values of so many. What is beyond is not
        refused, and wrong. Recurrences go on for ever.

    Returns:
      A `Decoder`, whose functions are pure, and compiled by who calls them: `jax.jit(decoder(net, 64).step)`.

    Raises:
      ValueError: when length is no positive integer, or there is a layer that sees other positions and is not named
        above.
    """
    instance_of(Layer, "decoder", "net to be a Layer", net, "jaxnet.transformer(...)")
    length = positive_integer("decoder", "length", length)
    rules = []

    def noted(layer):
        rules.append(_rule(layer))
        return layer

    # What cannot go on is refused here.
    at_leaves(noted, net)
    walked = at_leaves(partial(_going_on, length), net)
    return Decoder(partial(_start, walked), partial(_step, walked), length if {attend, look_up} & {*rules} else None)


def _start(net, params, x):
    structure = structure_by_layer(net)
    nothing = structure.unflatten([None] * structure.num_leaves)
    blank = jax.eval_shape(partial(_step, net), params, nothing, x)[1]
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), blank)


def _step(net, params, state, x):
    structure = structure_by_layer(net)
    pairs = list(zip(*(structure.flatten_up_to(tree) for tree in (params, state)), strict=True))
    beside = structure.unflatten(pairs)
    y, cache = net.forward(beside, x)
    # No signal: the way back only brings the states.
    after, _ = net.backward(beside, cache, y)
    return y, after


def _going_on(length, layer):
    """The layer with parameters (params, state), whose new state comes back in the place of their gradients."""
    rule = _rule(layer)

    def forward(beside, x):
        params, state = beside
        if rule is None:
            y, after = layer.forward(params, x)[0], ()
        else:
            y, after = rule(layer, length, params, state, x)
        return y, (after, jax.tree.map(_no_signal, x))

    def backward(beside, cache, dy):
        return cache

    forward.__name__ = f"{layer.name}_forward"
    return layer._replace(forward=forward, backward=backward)


def _no_signal(x):
    return jnp.zeros_like(x) if jnp.issubdtype(x.dtype, jnp.floating) else None


def _rule(layer):
    """How a layer goes on; None where it sees each position by itself."""
    function = getattr(layer.forward, "func", layer.forward)
    rule = GOING_ON.get(function)
    if rule is attend and not layer.forward.keywords.get("causal"):
        raise ValueError("decoder: expected attention to be causal; what follows is not known yet")
    if rule is None and function not in ALONE and layer.kind != "elementwise":
        raise ValueError(f"decoder: expected layers that can go on from what they have seen, got {layer.name}")
    return rule


def attend(layer: Layer, length: int, params: Any, state: Any, x: tuple[Array, ...]) -> tuple[Array, Any]:
    """y_t = sum_s p_ts v_s over all s up to t. The state: keys and values (m, length, features), and how many."""
    options, (heads,) = layer.forward.keywords, layer.forward.args  # type: ignore[attr-defined]
    q, k, v = x[:3]
    if state is None:
        state = *(jnp.zeros((one.shape[0], length, one.shape[2]), one.dtype) for one in (k, v)), _none_yet()
    keys, values, seen = state
    keys, values = (lax.dynamic_update_slice_in_dim(old, new, seen, 1) for old, new in ((keys, k), (values, v)))
    kv_heads = options.get("kv_heads", 0) or heads
    q, _, _ = by_heads(heads, kv_heads, (q, k, v))
    rows, columns = seen + jnp.arange(q.shape[1], dtype=seen.dtype), jnp.arange(length, dtype=seen.dtype)
    sight = Sight(True, options.get("window"), None, 0.0, None)
    p = jax.nn.softmax(masked(sight, scores(q, split(keys, kv_heads)), rows, columns)).astype(values.dtype)
    y = jnp.einsum("mkgts,mskf->mtkgf", p, split(values, kv_heads))
    return y.reshape(*y.shape[:2], -1), (keys, values, seen + q.shape[1])


def look_up(layer: Layer, length: int, params: Any, state: Any, x: Array) -> tuple[Array, Any]:
    """y_t = x_t + E_t."""
    seen = _none_yet() if state is None else state
    return x + lax.dynamic_slice_in_dim(params.E, seen, x.shape[1])[None], seen + x.shape[1]


def turn(layer: Layer, length: int, params: Any, state: Any, x: Array) -> tuple[Array, Any]:
    """The layer's own y at positions from the number of those before on."""
    seen = _none_yet() if state is None else state
    y, _ = layer.forward(params, x, first=seen)  # type: ignore[call-arg]
    return y, seen + x.shape[1]


def remember(layer: Layer, length: int, params: Any, state: Any, x: Array) -> tuple[Array, Any]:
    """h_t from the last state on."""
    y, cache = layer.forward(params, x, start=state)  # type: ignore[call-arg]
    return y, cache.states[-1]


def remember_both(layer: Layer, length: int, params: Any, state: Any, x: Array) -> tuple[Array, Any]:
    """h_t and c_t of an LSTM, whose cache has c before its gates."""
    y, cache = layer.forward(params, x, start=state)  # type: ignore[call-arg]
    return y, (cache.states[-1], cache.kept[0][-1])


def _none_yet():
    return jnp.zeros((), jnp.int32)


GOING_ON: dict[Any, Callable[[Layer, int, Any, Any, PyTree[Array]], tuple[PyTree[Array], Any]]] = {
    attention_forward: attend,
    position_table_forward: look_up,
    sinusoidal_forward: turn,
    rotary_forward: turn,
    gru_forward: remember,
    lstm_forward: remember_both,
    rnn_forward: remember,
}
ALONE = {
    dense_forward,
    dropout_forward,
    drop_path_forward,
    embedding_forward,
    layer_norm_forward,
    rms_norm_forward,
    unembedding_forward,
}
