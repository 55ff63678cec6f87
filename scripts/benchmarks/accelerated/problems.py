"""What is measured: a network of convolutions, and a transformer, in bfloat16 with parameters in float32."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from benchmarks.accelerated import plain
from benchmarks.work import uses_of
from jaxnet.layer import Layer
from jaxnet.networks import cnn, transformer

DTYPE = "bfloat16"


class Images(NamedTuple):
    """A network of convolutions over images (side, side, 3), of which each block halves the sides.

    Attributes:
      batch: images.
      channels: of each block.
      hidden: neurons between blocks and classes.
    """

    batch: int = 1024
    side: int = 32
    channels: tuple[int, ...] = (128, 256, 512)
    hidden: int = 1024
    classes: int = 10

    def net(self) -> Layer:
        """By hand."""
        return cnn((self.side, self.side, 3), self.classes, channels=self.channels, hidden=(self.hidden,))

    def plain(self) -> Callable[..., Any]:
        """With JAX alone, `(params, x) -> z`."""
        return plain.cnn

    def batch_of(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images and their classes."""
        x = jax.random.normal(key, (self.batch, self.side, self.side, 3))
        return x, jax.random.randint(key, (self.batch,), 0, self.classes)

    def units(self) -> int:
        """Images in a batch."""
        return self.batch


class Tokens(NamedTuple):
    """A transformer over sequences of tokens, `length` of them in each of `batch`."""

    batch: int = 16
    vocabulary: int = 32000
    width: int = 1024
    heads: int = 16
    depth: int = 12
    length: int = 1024

    def net(self) -> Layer:
        """By hand; the blocks one by one, as the others have them."""
        sizes: dict[str, Any] = {"width": self.width, "heads": self.heads, "depth": self.depth, "length": self.length}
        return transformer(self.vocabulary, **sizes, repeat=False)

    def plain(self) -> Callable[..., Any]:
        """With JAX alone, `(params, x) -> z`."""
        return plain.transformer(self.heads)

    def batch_of(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Tokens and those that follow."""
        tokens = jax.random.randint(key, (self.batch, self.length + 1), 0, self.vocabulary)
        return tokens[:, :-1], tokens[:, 1:]

    def units(self) -> int:
        """Tokens in a batch."""
        return self.batch * self.length


PROBLEMS: dict[str, Images | Tokens] = {"images": Images(), "tokens": Tokens()}


def operations(problem: Images | Tokens) -> int:
    """Of the products that a gradient takes, by shapes."""
    x, _ = jax.eval_shape(problem.batch_of, jax.random.key(0))
    return sum(use.times * use.products for use in uses_of(problem.net(), x))
