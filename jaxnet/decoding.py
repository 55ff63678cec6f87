"""Sequences that grow: a network goes on from what it has seen, and does not see it all again.

A layer over positions keeps a state of those that it has seen: attention their keys and values, a recurrence its last
state, positions how many there were. With s_0 of none,

    (y_t, s_t) = step(params, s_t-1, x_t)

gives at each position what the network gives there for all of x_1, ..., x_t at once. How it does so each layer says
itself, as its `decoder`. Layers that see each position by itself have no state.

The state goes in beside each layer's parameters, and comes out where their gradients would: so it takes the way that
these take through any combinator, and `repeat` stacks it.

Source: Shazeer, Fast transformer decoding: one write-head is all you need, 2019, section 2.4.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp

from jaxnet.arguments import instance_of, positive_integer
from jaxnet.description import named_as
from jaxnet.layer import Decoder, Layer, at_leaves
from jaxnet.parameters import structure_by_layer


def decoder(net: Layer, length: SupportsIndex) -> Decoder:
    """The network position by position: what it gives for the next ones, and the state to go on from.

    Args:
      net: made by any combinators of layers that have a `decoder`, such as `attention(causal=True)`, positions, `gru`,
        `lstm`, `rnn`, and of layers that see each position by itself: `transformer(...)`.
      length: how many positions there is room for: attention keeps keys and values of so many. What is beyond is not
        refused, and wrong. Recurrences go on for ever.

    Returns:
      A `Decoder`, whose functions are pure, and compiled by who calls them: `jax.jit(decoder(net, 64).step)`.

    Raises:
      ValueError: when length is no positive integer; when a layer sees other positions and does not say how it goes
        on, or is bound to a key; when traced, if such a layer is used at several places, or has lengths beside x.

    Example:
      >>> from jaxnet.decoding import decoder
      >>> net = jn.gru(3, 4)
      >>> params, x = net.init(key), jax.random.normal(key, (2, 6, 3))
      >>> goes_on = decoder(net, 6)
      >>> state = goes_on.start(params, x)
      >>> first, state = goes_on.step(params, state, x[:, :4])
      >>> then, state = goes_on.step(params, state, x[:, 4:])
      >>> bool(jnp.allclose(jnp.concatenate([first, then], 1), net(params, x), atol=1e-6))
      True
    """
    instance_of(Layer, "decoder", "net to be a Layer", net, "jaxnet.transformer(...)")
    length = positive_integer("decoder", "length", length)
    rooms = []

    def noted(layer):
        rule = _rule(layer, length)
        rooms.extend([] if rule is None or rule.room is None else [rule.room])
        return layer

    # What cannot go on is refused here.
    at_leaves(noted, net)
    start, step = (at_leaves(partial(change, length), net) for change in (_starting, _stepping))
    return Decoder(partial(_start, start), partial(_step, step), min(rooms, default=None))


@partial(jax.tree_util.register_dataclass, data_fields=["state"], meta_fields=["name"])
@dataclass(frozen=True)
class _After:
    """The state of a layer that has one, where its parameters' gradients would be: of one use of these."""

    state: Any
    name: str

    def add(self, other: Any) -> Any:
        raise ValueError(
            f"decoder: expected layers that keep what they have seen to be used once each, got {self.name} "
            "with one set of parameters at several places"
        )


def _start(net, params, x):
    return _walked(net, params, x)[1]


def _step(net, params, state, x):
    structure = structure_by_layer(net)
    pairs = zip(*(structure.flatten_up_to(tree) for tree in (params, state)), strict=True)
    return _walked(net, structure.unflatten(pairs), x)


def _walked(net, params, x):
    """y, and what the leaves have beside it, in the structure of the parameters."""
    y, cache = net.forward(params, x)
    # No signal: the way back only brings the states.
    after, _ = net.backward(params, cache, y)
    return y, jax.tree.map(_state_of, after, is_leaf=_is_after)


def _starting(length, layer):
    """The layer with its state before any position; of its output there is only the shape."""
    rule = _rule(layer, length)

    def started(params, x):
        state = () if rule is None else rule.start(params, x)
        y = jax.eval_shape(*((layer.apply, params, x) if rule is None else (rule.step, params, state, x)))
        y = y if rule is None else y[0]
        return jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), y), state

    return _with_state(layer, rule, started)


def _stepping(length, layer):
    """The layer with parameters (params, state)."""
    rule = _rule(layer, length)

    def stepped(beside, x):
        params, state = beside
        return (layer.apply(params, x), ()) if rule is None else rule.step(params, state, x)

    return _with_state(layer, rule, stepped)


def _with_state(layer, rule, function):
    """The layer by a function `(params, x) -> (y, state)`, whose state comes back in the gradients' place."""

    def forward(params, x):
        y, state = function(params, x)
        return y, (() if rule is None else _After(state, layer.name), jax.tree.map(_no_signal, x))

    def backward(params, cache, dy):
        return cache

    return layer._replace(forward=named_as(layer.forward, partial(forward)), backward=backward)


def _rule(layer, length):
    """How a layer goes on; None where it sees each position by itself."""
    if callable(layer.decoder):
        return layer.decoder(length)
    if layer.decoder is None and layer.kind is None:
        raise ValueError(f"decoder: expected layers that can go on from what they have seen, got {layer.name}")
    return None


def _no_signal(x):
    return jnp.zeros_like(x) if jnp.issubdtype(x.dtype, jnp.floating) else None


def _is_after(part):
    return isinstance(part, _After)


def _state_of(part):
    return part.state if _is_after(part) else part
