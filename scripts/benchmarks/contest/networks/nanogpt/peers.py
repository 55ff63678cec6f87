"""How the other packages build the decoder."""

from typing import Any

import numpy as np

from benchmarks.contest.networks import drawn
from benchmarks.contest.networks.nanogpt.ours import blocks_of


def by_haiku(problem: Any) -> Any:
    """MultiHeadAttention under a mask, as in its example of a transformer."""
    import haiku as hk
    import jax
    import jax.numpy as jnp

    ids, width, heads, _, length = problem.net.sizes
    given, causal = hk.initializers.Constant, np.tril(np.ones((1, 1, length, length), bool))
    (W,), (E,), *_ = problem.params

    def dense(W):
        return hk.Linear(len(W), with_bias=False, w_init=given(W.T))

    def normed(x):
        return hk.LayerNorm(-1, create_scale=True, create_offset=True)(x)

    def attended(x, *weights):
        # It starts those of queries, keys, values and outputs in this order.
        starts = iter(weights)
        attend = hk.MultiHeadAttention(
            heads,
            width // heads,
            with_bias=False,
            w_init=lambda shape, dtype: jnp.asarray(next(starts).T, dtype).reshape(shape),
        )
        return attend(x, x, x, mask=causal)

    def forward(x):
        table = hk.Embed(ids, width, w_init=given(W))
        x = table(x) + hk.get_parameter("positions", E.shape, init=given(E))
        for _, q, k, v, out, _, up, down in blocks_of(problem):
            x = x + attended(normed(x), q, k, v, out)
            x = x + dense(down)(jax.nn.gelu(dense(up)(normed(x)), approximate=False))
        return normed(x) @ table.embeddings.T

    return forward


def by_flax(problem: Any) -> Any:
    """`nnx.MultiHeadAttention` under a mask, as in its tutorial of a small GPT."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    ids, width, heads, _, length = problem.net.sizes
    given, rngs = jax.nn.initializers.constant, nnx.Rngs(0)

    def dense(W):
        return nnx.Linear(*W.T.shape, use_bias=False, kernel_init=given(W.T), rngs=rngs)

    def norm():
        return nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)

    class Block(nnx.Module):
        def __init__(self, q, k, v, out, up, down):
            self.norm1, self.norm2, self.up, self.down = norm(), norm(), dense(up), dense(down)
            self.attend = nnx.MultiHeadAttention(heads, width, use_bias=False, decode=False, rngs=rngs)
            layers = self.attend.query, self.attend.key, self.attend.value, self.attend.out
            for layer, W in zip(layers, (q, k, v, out), strict=True):
                layer.kernel[...] = jnp.asarray(W.T).reshape(layer.kernel.shape)

        def __call__(self, x, mask):
            x = x + self.attend(self.norm1(x), mask=mask)
            return x + self.down(nnx.gelu(self.up(self.norm2(x)), approximate=False))

    class Decoder(nnx.Module):
        def __init__(self):
            (W,), (E,), *_ = problem.params
            self.table = nnx.Embed(ids, width, embedding_init=given(W), rngs=rngs)
            self.positions = nnx.Embed(length, width, embedding_init=given(E), rngs=rngs)
            self.blocks = nnx.List(Block(q, k, v, out, up, down) for _, q, k, v, out, _, up, down in blocks_of(problem))
            self.norm = norm()

        def __call__(self, x):
            mask = nnx.make_causal_mask(x)
            x = self.table(x) + self.positions(jnp.arange(length))
            for block in self.blocks:
                x = block(x, mask)
            return self.table.attend(self.norm(x))

    return Decoder()


def by_equinox(problem: Any) -> Any:
    """`eqx.nn.MultiheadAttention` under a mask, for one example, as in its example of BERT."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from benchmarks.contest.by_equinox import filled

    ids, width, heads, blocks, length = problem.net.sizes
    key = jax.random.key(0)

    class Block(eqx.Module):
        norm1: Any
        attend: Any
        norm2: Any
        up: Any
        down: Any

        def __init__(self):
            self.norm1, self.norm2 = eqx.nn.LayerNorm(width), eqx.nn.LayerNorm(width)
            self.attend = eqx.nn.MultiheadAttention(heads, width, key=key)
            self.up = eqx.nn.Linear(width, 4 * width, use_bias=False, key=key)
            self.down = eqx.nn.Linear(4 * width, width, use_bias=False, key=key)

        def __call__(self, x, mask):
            a = jax.vmap(self.norm1)(x)
            x = x + self.attend(a, a, a, mask)
            return x + jax.vmap(self._changed)(x)

        def _changed(self, x):
            return self.down(jax.nn.gelu(self.up(self.norm2(x)), approximate=False))

    class Decoder(eqx.Module):
        table: Any
        positions: Any
        blocks: list[Any]
        norm: Any

        def __init__(self):
            self.table = eqx.nn.Embedding(ids, width, key=key)
            self.positions = eqx.nn.Embedding(length, width, key=key)
            self.blocks = [Block() for _ in range(blocks)]
            self.norm = eqx.nn.LayerNorm(width)

        def __call__(self, x):
            mask = jnp.tril(jnp.ones((length, length), bool))
            x = jax.vmap(self.table)(x) + jax.vmap(self.positions)(jnp.arange(length))
            for block in self.blocks:
                x = block(x, mask)
            return jax.vmap(self.norm)(x) @ self.table.weight.T

    return filled(Decoder(), drawn.arrays(problem.params)), problem.x


def by_torch(problem: Any) -> Any:
    """`scaled_dot_product_attention`, and queries, keys and values in one product, as in nanoGPT."""
    import torch
    from torch import nn
    from torch.nn import functional

    from benchmarks.contest.by_torch import filled

    ids, width, heads, blocks, length = problem.net.sizes

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width, bias=False)
            self.out, self.norm2 = nn.Linear(width, width, bias=False), nn.LayerNorm(width)
            self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

        def forward(self, x):
            m, t, _ = x.shape
            parts = self.qkv(self.norm1(x)).split(width, dim=2)
            q, k, v = (part.view(m, t, heads, -1).transpose(1, 2) for part in parts)
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(x.shape))
            return x + self.down(functional.gelu(self.up(self.norm2(x))))

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.positions = nn.Embedding(ids, width), nn.Embedding(length, width)
            self.blocks, self.norm = nn.ModuleList([Block() for _ in range(blocks)]), nn.LayerNorm(width)

        def forward(self, x):
            x = self.table(x) + self.positions(torch.arange(length))
            for block in self.blocks:
                x = block(x)
            return functional.linear(self.norm(x), self.table.weight)

    (W,), (E,), *_, last = problem.params
    joined = [
        [*norm, np.concatenate([q, k, v]), out, *other_norm, up, down]
        for norm, q, k, v, out, other_norm, up, down in blocks_of(problem)
    ]
    return filled(Decoder(), [W, E, *(array for block in joined for array in block), *last]), problem.x
