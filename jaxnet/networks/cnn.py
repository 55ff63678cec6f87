"""A network of convolutions: what it sees at a place grows from block to block, and the places become fewer."""

import math
from collections.abc import Sequence
from typing import SupportsIndex

from jaxnet.arguments import instance_of, positive_integer
from jaxnet.compose import chain
from jaxnet.layer import Layer
from jaxnet.layers.activations import relu
from jaxnet.layers.conv import conv
from jaxnet.layers.dense import dense
from jaxnet.layers.group_norm import group_norm
from jaxnet.layers.max_pool import max_pool
from jaxnet.layers.shape import flatten
from jaxnet.networks.blocks import dropped
from jaxnet.networks.images import groups_of, numbers_of, shape_of_example
from jaxnet.networks.mlp import suited_to


def cnn(
    shape: Sequence[SupportsIndex],
    outputs: SupportsIndex,
    *,
    channels: Sequence[SupportsIndex] = (32, 64),
    hidden: Sequence[SupportsIndex] = (128,),
    window: SupportsIndex = 3,
    groups: SupportsIndex | None = None,
    activation: Layer = relu,
    dropout: float = 0.0,
) -> Layer:
    """A convolutional network: x (m, *positions, c) to z (m, outputs).

    For each number of channels a block x = pool(g(norm(conv(x)))), which halves the positions; then the numbers of all
    places in a row, a = g(a W^T + b) for each hidden layer, and z = a W^T + b.

    Args:
      shape: of an example, (*positions, c) with one, two or three axes of positions: (28, 28, 1).
      outputs: the number of outputs, such as classes.
      channels: of each block.
      hidden: the neurons of each dense layer between blocks and outputs; () for none.
      window: the positions along each axis that a neuron sees; outside of the image there are zeros.
      groups: of channels, each normalised by itself over all positions of an example, see `group_norm`; a divisor of
        all channels. None for no norms: the convolutions then have biases.
      activation: g, element by element. Weights start as `mlp`'s do before it.
      dropout: its rate before each dense layer, in [0, 1).

    Returns:
      `chain(conv, group_norm, activation, max_pool, ..., flatten, dense, ..., dense)`. A block takes
      2 window^axes i o operations for each position, and backward twice that.

    Raises:
      ValueError: when an argument is out of its range, or there are more blocks than positions can be halved.

    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998; max pooling and ReLU:
    Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012; norms: Wu and He, Group
    normalization, 2018.

    Example:
      >>> net = jn.cnn((8, 8, 1), 10, channels=(8,), hidden=())
      >>> net
      chain(conv(1, 8, (3, 3)), relu, max_pool(window=(2, 2)), flatten, dense(128, 10))
      >>> params = jax.eval_shape(net.init, key)
      >>> jax.eval_shape(net.apply, params, jnp.ones((2, 8, 8, 1))).shape
      (2, 10)
    """
    *positions, inputs = shape_of_example("cnn", shape)
    widths, neurons = numbers_of("cnn", "channels", channels, 1), numbers_of("cnn", "hidden", hidden, 0)
    outputs, window = positive_integer("cnn", "outputs", outputs), positive_integer("cnn", "window", window)
    instance_of(Layer, "cnn", "activation to be a Layer", activation, "jaxnet.relu")
    if min(positions) < 2 ** len(widths):
        raise ValueError(
            f"cnn: expected at least {2 ** len(widths)} positions along each axis for {len(widths)} blocks, each of "
            f"which halves them, got {tuple(positions)}"
        )
    axes, init, layers = len(positions), suited_to(activation), []
    for before, after in zip((inputs, *widths), widths, strict=False):
        norm = () if groups is None else (group_norm(groups_of("cnn", groups, widths), after),)
        layers += [conv(before, after, (window,) * axes, bias=groups is None, weight_init=init), *norm]
        layers += [activation, max_pool((2,) * axes)]
    places = math.prod(size // 2 ** len(widths) for size in positions)
    layers.append(flatten)
    for before, after in zip((places * widths[-1], *neurons), neurons, strict=False):
        layers += [*dropped(dropout), dense(before, after, weight_init=init), activation]
    last = neurons[-1] if neurons else places * widths[-1]
    return chain(*layers, *dropped(dropout), dense(last, outputs))
