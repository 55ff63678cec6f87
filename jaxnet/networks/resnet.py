"""A deep network of convolutions with skip connections."""

from collections.abc import Sequence
from typing import SupportsIndex

from jaxnet.arguments import instance_of, positive_integer
from jaxnet.compose import chain, residual
from jaxnet.layer import Layer
from jaxnet.layers.activations import relu
from jaxnet.layers.conv import conv
from jaxnet.layers.dense import dense
from jaxnet.layers.global_pool import global_mean
from jaxnet.layers.group_norm import group_norm
from jaxnet.networks.blocks import of_branches, stacked
from jaxnet.networks.images import groups_of, numbers_of, shape_of_example
from jaxnet.networks.mlp import suited_to


def resnet(
    shape: Sequence[SupportsIndex],
    outputs: SupportsIndex,
    *,
    channels: Sequence[SupportsIndex] = (16, 32, 64),
    depth: SupportsIndex = 2,
    groups: SupportsIndex = 8,
    activation: Layer = relu,
    recompute: bool = False,
    repeat: bool = True,
) -> Layer:
    """A residual network: x (m, *positions, c) to z (m, outputs).

    After a first convolution, for each number of channels `depth` blocks x = x + conv(g(norm(conv(g(norm(x)))))), with
    windows of three positions along each axis. Between numbers of channels x = conv(g(norm(x))) with stride 2. At the
    end z = W mean(g(norm(x))) + b, with the mean over all positions.

    The norms are of groups of channels and one example: batch norm mixes examples, so that an example's gradient does
    not exist. The last weights of the n blocks start smaller by sqrt(n), so that what they add together has the
    variance of one.

    Args:
      shape: of an example, (*positions, c) with one, two or three axes of positions: (32, 32, 3).
      outputs: the number of outputs, such as classes.
      channels: of each stage.
      depth: the blocks of each stage.
      groups: of channels, each normalised by itself, see `group_norm`; a divisor of all channels.
      activation: g, element by element. Weights start as `mlp`'s do before it.
      recompute: whether a block keeps its input alone, for one more forward pass, see `jaxnet.recompute`.
      repeat: whether the blocks of a stage are one scan, `jaxnet.repeat`, with stacked parameters; else a chain.

    Returns:
      `chain(conv, blocks, group_norm, activation, conv, blocks, ..., group_norm, activation, global_mean, dense)`. A
      block takes 4 window o^2 operations for each position, window = 3^axes, and backward twice that.

    Raises:
      ValueError: when an argument is out of its range.

    Source: He et al., Identity mappings in deep residual networks, 2016, figure 4e; norms: Wu and He, Group
    normalization, 2018; convolutions between stages, outside of skip connections: Liu et al., A ConvNet for the 2020s,
    2022, section 2.6.

    Example:
      >>> net = jn.resnet((8, 8, 3), 10, channels=(8, 16), depth=1)
      >>> params = jax.eval_shape(net.init, key)
      >>> jax.eval_shape(net.apply, params, jnp.ones((2, 8, 8, 3))).shape
      (2, 10)
    """
    *positions, inputs = shape_of_example("resnet", shape)
    widths, depth = numbers_of("resnet", "channels", channels, 1), positive_integer("resnet", "depth", depth)
    groups, outputs = groups_of("resnet", groups, widths), positive_integer("resnet", "outputs", outputs)
    instance_of(Layer, "resnet", "activation to be a Layer", activation, "jaxnet.relu")
    init, window = suited_to(activation), (3,) * len(positions)
    last = of_branches(init, depth * len(widths))

    def activated(width):
        return group_norm(groups, width), activation

    layers: list[Layer] = []
    for before, width in zip((inputs, *widths), widths, strict=False):
        entry = (*activated(before),) if layers else ()
        layers += [*entry, conv(before, width, window, stride=2 if layers else 1, bias=False, weight_init=init)]
        first, second = (conv(width, width, window, bias=False, weight_init=start) for start in (init, last))
        block = residual(chain(*activated(width), first, *activated(width), second))
        layers.append(stacked(block, depth, recomputed=recompute, repeated=repeat))
    return chain(*layers, *activated(widths[-1]), global_mean, dense(widths[-1], outputs))
