"""A residual network with norms of groups: `jn.resnet` with two blocks in each of three stages, as for CIFAR's images.

Sizes: the side of an image, its channels, those of each stage, outputs.
"""

from benchmarks.contest.networks.resnet.ours import by_jax, by_jaxnet, draw, products
from benchmarks.contest.networks.resnet.peers import by_equinox, by_flax, by_haiku, by_torch

__all__ = ["by_equinox", "by_flax", "by_haiku", "by_jax", "by_jaxnet", "by_torch", "draw", "products"]
