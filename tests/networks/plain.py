"""The same networks as one writes them with JAX alone, for parameters as jaxnet's networks have them, unrepeated."""

import math

import jax
import jax.numpy as jnp
from jax import lax

CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")


def linear(params, x):
    z = x @ params.W.T
    return z if params.b is None else z + params.b


def normalised(x, axes):
    centred = x - x.mean(axes, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(axes, keepdims=True) + 1e-5)


def layer_norm(params, x):
    return normalised(x, -1) * params.gain + params.bias


def group_norm(groups, params, x):
    *positions, channels = x.shape
    apart = x.reshape(*positions, groups, channels // groups)
    return normalised(apart, (1, 2, 4)).reshape(x.shape) * params.gain + params.bias


def conv(params, x, stride=1):
    W = params.W.transpose(1, 2, 3, 0)
    z = lax.conv_general_dilated(x, W, (stride, stride), "SAME", dimension_numbers=CHANNELS_LAST)
    return z if params.b is None else z + params.b


def max_pool(x):
    """By select-and-scatter on the way back."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def cnn(params, x, groups=None):
    *layers, hidden, _, last = params
    layers.pop()
    while layers:
        x = conv(layers.pop(0), x)
        x = x if groups is None else group_norm(groups, layers.pop(0), x)
        x = max_pool(jax.nn.relu(x))
        del layers[:2]
    return linear(last, jax.nn.relu(linear(hidden, x.reshape(x.shape[0], -1))))


def resnet(params, x, groups):
    def activated(norm, x):
        return jax.nn.relu(group_norm(groups, norm, x))

    first, *layers, norm, _, _, last = params
    x = conv(first, x)
    while layers:
        for before, _, inner, between, _, outer in layers.pop(0):
            x = x + conv(outer, activated(between, conv(inner, activated(before, x))))
        if layers:
            x = conv(layers[2], activated(layers[0], x), stride=2)
            del layers[:3]
    return linear(last, activated(norm, x).mean((1, 2)))


def attention(heads, causal, params, x):
    of_qkv, _, last = params
    q, k, v = (linear(p, x).reshape(*x.shape[:2], heads, -1) for p in of_qkv)
    z = jnp.einsum("mthc,mshc->mhts", q, k) / math.sqrt(q.shape[-1])
    p = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones(z.shape[2:], bool)), z, -jnp.inf) if causal else z)
    return linear(last, jnp.einsum("mhts,mshc->mthc", p, v).reshape(x.shape))


def pre_norm_blocks(heads, causal, params, x):
    positions, blocks, norm = params
    x = x + positions.E[: x.shape[1]]
    for (before, *of_attention), (between, wide, _, narrow) in blocks:
        x = x + attention(heads, causal, of_attention, layer_norm(before, x))
        x = x + linear(narrow, jax.nn.gelu(linear(wide, layer_norm(between, x))))
    return layer_norm(norm, x)


def transformer(params, ids, heads):
    table, body, *head = params
    return pre_norm_blocks(heads, True, body, table.W[ids]) @ (head[0] if head else table).W.T


def encoder(params, ids, heads):
    table, body, _, head = params
    return linear(head, pre_norm_blocks(heads, False, body, table.W[ids]).mean(1))


def over_time(params, ids):
    """An embedding, a GRU or an LSTM, and a head."""
    table, of_layer, head = params
    u = jnp.swapaxes(linear(of_layer, table.W[ids]), 0, 1)
    nothing = jnp.zeros((ids.shape[0], of_layer.U.shape[1]))
    step, start = (gru_step, nothing) if hasattr(of_layer, "b_n") else (lstm_step, (nothing, nothing))
    states = lax.scan(lambda state, u_t: step(of_layer, state, u_t), start, u)[1]
    return linear(head, jnp.swapaxes(states, 0, 1))


def gru_step(params, h, u):
    (u_r, u_z, u_n), (v_r, v_z, v_n) = (jnp.split(z, 3, axis=-1) for z in (u, h @ params.U.T))
    r, z = jax.nn.sigmoid(u_r + v_r), jax.nn.sigmoid(u_z + v_z)
    h = (1 - z) * jnp.tanh(u_n + r * (v_n + params.b_n)) + z * h
    return h, h


def lstm_step(params, state, u):
    h, c = state
    i, f, g, o = jnp.split(u + h @ params.U.T, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h
