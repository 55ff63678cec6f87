"""The same networks with JAX alone, for `jax.grad`, with the parameters that jaxnet's have."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")


def cnn(params: Any, x: jax.Array) -> jax.Array:
    """Convolution, ReLU and max pooling, block after block; then two dense layers."""
    *blocks, _, hidden, _, last = params
    for layer in blocks[::3]:
        W = layer.W.transpose(1, 2, 3, 0)
        z = lax.conv_general_dilated(x, W, (1, 1), "SAME", dimension_numbers=CHANNELS_LAST) + layer.b
        x = lax.reduce_window(jax.nn.relu(z), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return _linear(last, jax.nn.relu(_linear(hidden, x.reshape(len(x), -1))))


def transformer(heads: int) -> Callable[[Any, jax.Array], jax.Array]:
    """`(params, ids) -> z` with so many heads."""
    return partial(_transformer, heads)


def _transformer(heads, params, ids):
    table, (positions, blocks, norm), head = params
    x = table.W[ids] + positions.E[: ids.shape[1]]
    for (before, of_qkv, _, last), (between, wide, _, narrow) in blocks:
        x = x + _linear(last, _attention(heads, of_qkv, _norm(before, x)))
        x = x + _linear(narrow, jax.nn.gelu(_linear(wide, _norm(between, x))))
    return _norm(norm, x) @ head.W.T


def _attention(heads, of_qkv, x):
    q, k, v = (_linear(params, x).reshape(*x.shape[:2], heads, -1) for params in of_qkv)
    z = jnp.einsum("mthc,mshc->mhts", q, k, preferred_element_type=jnp.float32) / math.sqrt(q.shape[-1])
    p = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones(z.shape[2:], bool)), z, -jnp.inf)).astype(v.dtype)
    return jnp.einsum("mhts,mshc->mthc", p, v).reshape(x.shape)


def _norm(params, x):
    long = x.astype(jnp.float32)
    centred = long - long.mean(-1, keepdims=True)
    normed = centred * lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return normed.astype(x.dtype) * params.gain + params.bias


def _linear(params, x):
    z = x @ params.W.T
    return z if params.b is None else z + params.b
