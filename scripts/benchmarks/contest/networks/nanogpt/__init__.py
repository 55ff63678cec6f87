"""A small decoder of characters, in the sizes that nanoGPT's README gives for a CPU: `jn.transformer` with tied ends.

Sizes: ids, width, heads, blocks, positions. The dense layers have no bias, the activation is the exact gelu, and tables
and weights decay, as nanoGPT has them. The norms have biases, as `jn.transformer` has them. Ids are drawn.

Source: Karpathy, nanoGPT, README and config/train_shakespeare_char.py.
"""

from benchmarks.contest.networks.nanogpt.ours import by_jax, by_jaxnet, draw, products
from benchmarks.contest.networks.nanogpt.peers import by_equinox, by_flax, by_haiku, by_torch

__all__ = ["by_equinox", "by_flax", "by_haiku", "by_jax", "by_jaxnet", "by_torch", "draw", "products"]
