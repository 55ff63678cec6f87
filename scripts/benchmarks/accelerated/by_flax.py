"""The same networks by flax's nnx, with its own layers and starts."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.accelerated.problems import DTYPE, Images, Tokens


class Cnn(nnx.Module):
    """Convolution, ReLU and max pooling, block after block; then two dense layers."""

    def __init__(self, problem: Images) -> None:
        rngs, widths = nnx.Rngs(0), (3, *problem.channels)
        self.convs = nnx.List(nnx.Conv(i, o, (3, 3), dtype=DTYPE, rngs=rngs) for i, o in pairwise(widths))
        places = (problem.side // 2 ** len(problem.channels)) ** 2
        self.hidden = nnx.Linear(places * widths[-1], problem.hidden, dtype=DTYPE, rngs=rngs)
        self.last = nnx.Linear(problem.hidden, problem.classes, dtype=DTYPE, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """The outputs (m, classes)."""
        for conv in self.convs:
            x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), (2, 2))
        return self.last(nnx.relu(self.hidden(x.reshape(len(x), -1))))


class Block(nnx.Module):
    """Attention, then two dense layers, each behind a norm and beside a skip connection."""

    def __init__(self, problem: Tokens, rngs: nnx.Rngs) -> None:
        d, options = problem.width, {"use_bias": False, "dtype": DTYPE, "rngs": rngs}
        self.norms = nnx.List(nnx.LayerNorm(d, dtype=DTYPE, rngs=rngs) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(problem.heads, d, decode=False, **options)
        self.wide, self.narrow = nnx.Linear(d, 4 * d, **options), nnx.Linear(4 * d, d, **options)

    def __call__(self, x: Any, mask: Any) -> Any:
        """What the block makes of x (m, t, d)."""
        x = x + self.attention(self.norms[0](x), mask=mask)
        return x + self.narrow(nnx.gelu(self.wide(self.norms[1](x))))


class Transformer(nnx.Module):
    """A decoder."""

    def __init__(self, problem: Tokens) -> None:
        rngs, d = nnx.Rngs(0), problem.width
        self.table = nnx.Embed(problem.vocabulary, d, dtype=DTYPE, rngs=rngs)
        self.positions = nnx.Embed(problem.length, d, dtype=DTYPE, rngs=rngs)
        self.blocks = nnx.List(Block(problem, rngs) for _ in range(problem.depth))
        self.norm = nnx.LayerNorm(d, dtype=DTYPE, rngs=rngs)
        self.head = nnx.Linear(d, problem.vocabulary, use_bias=False, dtype=DTYPE, rngs=rngs)

    def __call__(self, ids: Any) -> Any:
        """The outputs (m, t, vocabulary)."""
        x, mask = self.table(ids) + self.positions(jnp.arange(ids.shape[1]))[None], nnx.make_causal_mask(ids)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))


def gradient(problem: Images | Tokens, x: jax.Array, y: jax.Array) -> Callable[[], Any]:
    """() -> the mean loss and its gradient, not waited for."""
    model = Cnn(problem) if isinstance(problem, Images) else Transformer(problem)
    graphdef, state = nnx.split(model)

    @jax.jit
    def of_batch(state, x, y):
        def mean_loss(state):
            z = nnx.merge(graphdef, state)(x).astype(jnp.float32)
            of_each = optax.softmax_cross_entropy_with_integer_labels(z, y)
            return of_each.sum(tuple(range(1, y.ndim))).mean()

        return jax.value_and_grad(mean_loss)(state)

    return lambda: of_batch(state, x, y)
