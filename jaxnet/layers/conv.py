"""The linear part of neurons that see a window each, with the same weights at every place: a convolution.

Index letters: at the place p the offset k of the window covers the position q = p stride + k dilation - before; c are
the inputs of the output o's group.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet import initializers
from jaxnet.convolution import (
    Convolution,
    check_cotangent,
    check_input,
    check_params,
    convolution,
    layout_of_outputs,
)
from jaxnet.factored import Each, Windows
from jaxnet.factored.layouts import automatic
from jaxnet.layer import Layer
from jaxnet.sliding import Padding


class Conv(NamedTuple):
    """The parameters of `conv`, or whatever has their structure: gradients, factored gradients, moments.

    Attributes:
      W: weights (o, *window, i / groups).
      b: bias (o,); None for a layer without one.
    """

    W: Any
    b: Any = None


def conv_init(asked, weight_init, bias_init, key):
    weight_key, bias_key = jax.random.split(key)
    W, b = _shapes(asked)
    return Conv(weight_init(weight_key, W), None if b is None else bias_init(bias_key, b))


def conv_forward(
    asked: Convolution, params: Conv, x: Float[Array, "m *q i"]
) -> tuple[Float[Array, "m *p o"], Float[Array, "m *q i"]]:
    """z_po = sum_kc W_okc x_(p stride + k dilation - before)c + b_o. The cache is x."""
    x = jnp.asarray(x)
    check_params(asked, params, _shapes(asked))
    check_input(asked, params, x)
    window = asked.sliding.on(asked.label, x.shape[1:-1])

    def products(x, W):
        return window.products(x, W, asked.groups)

    # 1. z = products of W with what the window covers
    z = automatic(products, x, params.W, out_sharding=layout_of_outputs(x, params.W, 0))
    # 2. z = z + b
    return (z if params.b is None else z + jnp.expand_dims(params.b, range(x.ndim - 1))), x


def conv_backward(
    asked: Convolution, params: Conv, x: Float[Array, "m *q i"], dz: Float[Array, "m *p o"]
) -> tuple[Conv, Float[Array, "m *q i"]]:
    """The same sum for each of its factors: over the places p that share a weight, or that see a position q.

    dW_okc = sum_p dz_po x_(p stride + k dilation - before)c
    dx_qc  = sum_pko W_okc dz_po    over p and k with p stride + k dilation - before = q
    """
    check_params(asked, params, _shapes(asked))
    window = asked.sliding.on(asked.label, x.shape[1:-1])
    check_cotangent(asked, x, window.places(x.shape[1:-1]), dz)

    def spread(dz, W):
        return window.spread(dz, W, asked.groups, x.shape[1:-1])

    # 2. z = z + b
    db = None if params.b is None else Each(dz)
    # 1. z = products of W with what the window covers
    dW = Windows(dz, x, window, asked.groups, jax.typeof(params.W).sharding)
    dx = automatic(spread, dz, params.W, out_sharding=jax.typeof(x).sharding)
    return Conv(dW, db), dx


def conv_second(params: Conv, x: Float[Array, "m *q i"], dz: Float[Array, "m *p o"]) -> None:
    """z is linear in x, and in W and b."""


def conv(
    inputs: SupportsIndex,
    outputs: SupportsIndex,
    window: Sequence[SupportsIndex],
    *,
    stride: SupportsIndex | Sequence[SupportsIndex] = 1,
    padding: Padding = "SAME",
    dilation: SupportsIndex | Sequence[SupportsIndex] = 1,
    groups: SupportsIndex = 1,
    bias: bool = True,
    weight_init: Callable[..., Array] = initializers.glorot,
    bias_init: Callable[..., Array] = initializers.zeros,
) -> Layer:
    """A layer of `outputs` linear neurons at each place of a window: z_p = W * (what of x it covers there) + b.

    z_po = sum_kc W_okc x_(p stride + k dilation - before)c + b_o, as neural networks call a convolution: W is not
    turned round. Beyond its borders x is 0.

    Args:
      inputs: the number of channels i of `x (m, *positions, i)`, at least 1.
      outputs: the number of neurons o of `z (m, *places, o)`, at least 1.
      window: its sizes along one, two or three axes of positions, each at least 1.
      stride: positions from a place to the next, at least 1: a number for each axis, or one for all.
      padding: 'SAME' for as many places as positions, over the stride and rounded up, with the odd one of the zeros
        that this takes behind; 'VALID' for no zeros; or a pair (before, after) of numbers of zeros for each axis.
      dilation: positions from an offset in the window to the next, as for stride.
      groups: inputs and outputs are so many parts, in order; each part of the outputs sees its part of the inputs. It
        divides both.
      bias: whether there is b.
      weight_init: `(key, (o, *window, i / groups)) -> W`, see `jaxnet.initializers`.
      bias_init: `(key, (o,)) -> b`.

    Returns:
      A layer with parameters `Conv(W (o, *window, i / groups), b (o,))`; without a bias b is None. Forward takes
      2 m T o K operations, with T places and K = i / groups times the window's sizes, and backward twice that.

    Raises:
      ValueError: when an argument is out of its range; and, when the layer is traced, if the parameters are of other
        sizes, or x has other axes, another number of channels or another dtype than W, or the window has no place.

    Source: LeCun et al., Backpropagation applied to handwritten zip code recognition, 1989; groups: Krizhevsky et al.,
    ImageNet classification with deep convolutional neural networks, 2012; dilation: Yu and Koltun, Multi-scale context
    aggregation by dilated convolutions, 2016.

    Example:
      >>> layer = jn.conv(1, 8, (3, 3), stride=2)
      >>> params = layer.init(key)
      >>> jax.tree.map(jnp.shape, params)
      Conv(W=(8, 3, 3, 1), b=(8,))
      >>> layer(params, jnp.ones((2, 6, 6, 1))).shape
      (2, 3, 3, 8)
    """
    asked = convolution("conv", (inputs, outputs), window, stride, padding, dilation, groups, bias)
    return Layer(
        partial(conv_init, asked, weight_init, bias_init),
        partial(conv_forward, asked),
        partial(conv_backward, asked),
        conv_second,
    )


def _shapes(asked):
    W = asked.outputs, *asked.sliding.size, asked.inputs // asked.groups
    return Conv(W, asked.shape_of_bias)
