"""What a network of text does with a few windows: its loss and gradients position by position, and where it looks."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import per_example
from jaxnet.layer import Layer
from jaxnet.layers.attention import AttentionCache
from jaxnet.losses import cross_entropy, softmax_cross_entropy_with_integer_labels
from jaxnet.notes import in_order, with_notes

# Positions whose own gradients are read: each is a way back through the whole network.
MOST_PLACES = 32


class Readings(NamedTuple):
    """Of m windows of t tokens.

    Attributes:
      losses: (m, t), what each position adds to the loss, in nats.
      places: (p,), positions, evenly spread, of which the next is told.
      by_position: (m, p), the norm of the gradient of each of these positions' loss alone.
      by_example: (m,), the norm of the gradient of the mean over the positions.
    """

    losses: np.ndarray
    places: np.ndarray
    by_position: np.ndarray
    by_example: np.ndarray


def read(net: Layer, params: Any, x: np.ndarray, y: np.ndarray) -> Readings:
    """The readings of windows x (m, t), followed by y (m, t).

    The gradient of a position is that which comes back where its own signal is sent and no other: of one forward pass
    there are as many ways back as positions that are asked.
    """
    places = np.unique(np.linspace(0, x.shape[1] - 1, MOST_PLACES).astype(int))
    of_token, of_window = softmax_cross_entropy_with_integer_labels, cross_entropy(over_positions="mean")

    @jax.jit
    def readings(params, x, y):
        z, cache = net.forward(params, x)
        m, t, tokens = z.shape
        losses = of_token.forward(z.reshape(m * t, tokens), y.reshape(m * t)).reshape(m, t)
        dz = of_token.backward(z, y)

        def norms_at(position):
            alone = jnp.where((jnp.arange(t) == position)[None, :, None], dz, 0)
            return per_example.norms(net.backward(params, cache, alone)[0])

        by_position = jax.lax.map(norms_at, jnp.asarray(places))
        by_example = per_example.norms(net.backward(params, cache, of_window.backward(z, y))[0])
        return losses, by_position.T, by_example

    losses, by_position, by_example = map(np.asarray, jax.device_get(readings(params, x, y)))
    return Readings(losses, places, by_position, by_example)


def attention_maps(net: Layer, params: Any, ids: np.ndarray) -> list[np.ndarray]:
    """Where each position of one window (t,) looks: p (heads, t, t) of each attention, in the order of the layers."""

    def probabilities(layer, params, cache, dy):
        return _probabilities(layer, cache) if isinstance(cache, AttentionCache) else ()

    noting = with_notes(net, back=probabilities)

    @jax.jit
    def notes(params, x):
        z, cache = noting.forward(params, x)
        note, _ = noting.backward(params, cache, jnp.zeros_like(z))
        return [noted.back for noted in in_order(net, note, params) if hasattr(noted.back, "shape")]

    return [np.asarray(one) for one in jax.device_get(notes(params, ids[None]))]


def _probabilities(layer, cache):
    """p (heads, t, t), as what attention makes of values that are the unit vectors of the positions."""
    (heads,), t = layer.forward.args, cache.q.shape[1]
    of_heads = layer.forward.keywords.get("kv_heads") or heads
    units = jnp.tile(jnp.eye(t, dtype=cache.v.dtype), (1, of_heads))[None]
    y, _ = layer.forward((), (cache.q[:1], cache.k[:1], units))
    return y.reshape(t, heads, t).swapaxes(0, 1)
