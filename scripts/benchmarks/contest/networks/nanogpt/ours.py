"""What is drawn for the decoder, what it costs, and how jaxnet and plain JAX build it."""

import math
from typing import Any

import numpy as np

from benchmarks.contest.networks import drawn

OF_TABLES = 0.02
# Of a block: norm, queries, keys, values, out, norm, up, down.
LAYERS = 8
# How often an id is the one that follows the one before it, rather than any.
RULED = 0.75


def draw(net: Any, rng: Any) -> Any:
    """As `jn.transformer` starts, in its order; ids that often follow from the one before."""
    ids, width, _, blocks, length = net.sizes
    last = math.sqrt(2 * blocks)

    def norm():
        return drawn.ones(width), drawn.zeros(width)

    def block():
        into, out = [(drawn.lecun(rng, (width, width)),) for _ in range(3)], drawn.lecun(rng, (width, width), last)
        up, down = drawn.lecun(rng, (4 * width, width)), drawn.lecun(rng, (width, 4 * width), last)
        return norm(), *into, (out,), norm(), (up,), (down,)

    tables = [(drawn.normal(rng, (rows, width), OF_TABLES),) for rows in (ids, length)]
    params = *tables, *(layer for _ in range(blocks) for layer in block()), norm()
    following, text = rng.permutation(ids), rng.integers(ids, size=(length + 1, net.batches, net.batch), dtype=np.int32)
    ruled = rng.random(text.shape) < RULED
    for t in range(length):
        text[t + 1] = np.where(ruled[t], following[text[t]], text[t + 1])
    text = np.ascontiguousarray(np.moveaxis(text, 0, -1))
    return tuple(params), text[..., :-1], text[..., 1:]


def products(net: Any) -> list[int]:
    """2 m t i o for each, and 2 m t t d for the scores and for what is taken of the values; none of the ids."""
    ids, width, _, blocks, length = net.sizes
    block = [3 * width**2, length * width, length * width, width**2, 4 * width**2, 4 * width**2]
    return [0, *(2 * net.batch * length * n for n in (*block * blocks, ids * width))]


def by_jaxnet(problem: Any) -> Any:
    """`jn.transformer`, whose blocks are one scan, with their parameters stacked."""
    import jaxnet as jn

    ids, width, heads, depth, length = problem.net.sizes
    network = jn.transformer(ids, width=width, heads=heads, depth=depth, length=length, tied=True, activation=jn.gelu)
    (W,), (E,), *layers, last = problem.params
    blocks = [layers[k : k + LAYERS] for k in range(0, len(layers), LAYERS)]
    return network, [W, E, *drawn.stacked(blocks), *last]


def by_jax(problem: Any) -> Any:
    """`jax.nn.dot_product_attention`, `jax.nn.standardize` and `jax.nn.gelu`; q, k and v in one product."""
    import jax
    import jax.numpy as jnp

    heads = problem.net.sizes[2]

    def normed(x, gain, bias):
        return jax.nn.standardize(x, epsilon=1e-5) * gain + bias

    def apply(params, ids):
        W, E, blocks, last = params
        x = W[ids] + E[: ids.shape[1]]
        for norm, qkv, out, other_norm, up, down in blocks:
            parts = jnp.split(normed(x, *norm) @ qkv, 3, axis=-1)
            q, k, v = (part.reshape(*ids.shape, heads, -1) for part in parts)
            x = x + jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape) @ out
            x = x + jax.nn.gelu(normed(x, *other_norm) @ up, approximate=False) @ down
        return normed(x, *last) @ W.T

    (W,), (E,), *_, last = problem.params
    blocks = [
        (norm, np.concatenate([q.T, k.T, v.T], axis=1), out.T.copy(), other_norm, up.T.copy(), down.T.copy())
        for norm, q, k, v, out, other_norm, up, down in blocks_of(problem)
    ]
    return apply, (W, E, blocks, last)


def blocks_of(problem: Any) -> list[Any]:
    """Of each block the norm's parameters, W of q, of k, of v and out, the other norm's, W up and down."""
    layers = problem.params[2:-1]
    blocks = [layers[k : k + LAYERS] for k in range(0, len(layers), LAYERS)]
    return [[layer if len(layer) > 1 else layer[0] for layer in block] for block in blocks]
