"""The linear part of neurons that each spread what they get over a window: a convolution's way back, as a layer.

Index letters: the place p of x reaches the position q = p stride + k dilation - before of z by the offset k of the
window; c are the outputs of the input i's group.
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
from jaxnet.factored.window import turned
from jaxnet.layer import Layer
from jaxnet.sliding import Padding


class ConvTranspose(NamedTuple):
    """The parameters of `conv_transpose`, or whatever has their structure: gradients, factored gradients, moments.

    Attributes:
      W: weights (i, *window, o / groups).
      b: bias (o,); None for a layer without one.
    """

    W: Any
    b: Any = None


def conv_transpose_init(asked, weight_init, bias_init, key):
    weight_key, bias_key = jax.random.split(key)
    # As a weight (o, *window, i / groups), of which initialisers know what are outputs and what inputs.
    W = weight_init(weight_key, (asked.outputs, *asked.sliding.size, asked.inputs // asked.groups))
    return ConvTranspose(turned(W, asked.groups), bias_init(bias_key, (asked.outputs,)) if asked.bias else None)


def conv_transpose_forward(
    asked: Convolution, params: ConvTranspose, x: Float[Array, "m *p i"]
) -> tuple[Float[Array, "m *q o"], Float[Array, "m *p i"]]:
    """z_qc = sum_pki W_ikc x_pi + b_c over p and k with p stride + k dilation - before = q. The cache is x."""
    x = jnp.asarray(x)
    check_params(asked, params, _shapes(asked))
    check_input(asked, params, x)
    positions, window = asked.sliding.back_from(asked.label, x.shape[1:-1])

    def spread(x, W):
        return window.spread(x, W, asked.groups, positions)

    # 1. z = what W spreads of x
    z = automatic(spread, x, params.W, out_sharding=layout_of_outputs(x, params.W, -1))
    # 2. z = z + b
    return (z if params.b is None else z + jnp.expand_dims(params.b, range(x.ndim - 1))), x


def conv_transpose_backward(
    asked: Convolution, params: ConvTranspose, x: Float[Array, "m *p i"], dz: Float[Array, "m *q o"]
) -> tuple[ConvTranspose, Float[Array, "m *p i"]]:
    """What went the way back of a convolution comes back by the convolution.

    dW_ikc = sum_p x_pi dz_(p stride + k dilation - before)c
    dx_pi  = sum_kc W_ikc dz_(p stride + k dilation - before)c
    """
    check_params(asked, params, _shapes(asked))
    positions, window = asked.sliding.back_from(asked.label, x.shape[1:-1])
    check_cotangent(asked, x, positions, dz)

    def products(dz, W):
        return window.products(dz, W, asked.groups)

    # 2. z = z + b
    db = None if params.b is None else Each(dz)
    # 1. z = what W spreads of x: the window lies on dz, and x is at its places
    dW = Windows(x, dz, window, asked.groups, jax.typeof(params.W).sharding, spreads=True)
    dx = automatic(products, dz, params.W, out_sharding=jax.typeof(x).sharding)
    return ConvTranspose(dW, db), dx


def conv_transpose_second(params: ConvTranspose, x: Float[Array, "m *p i"], dz: Float[Array, "m *q o"]) -> None:
    """z is linear in x, and in W and b."""


def conv_transpose(
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
    """A layer whose every input spreads over a window, which is how a stride makes positions more: `conv` backward.

    z_qc = sum_pki W_ikc x_pi + b_c over p and k with p stride + k dilation - before = q: the map from dz to dx of a
    `conv` from `outputs` to `inputs` channels with the same window, stride, dilation and groups, plus b.

    Args:
      inputs: the number of channels i of `x (m, *places, i)`, at least 1.
      outputs: the number of channels o of `z (m, *positions, o)`, at least 1.
      window: its sizes along one, two or three axes, each at least 1.
      stride: positions of z from the window's place for one p to that for the next, at least 1: a number for each
        axis, or one for all.
      padding: what of z is cut off. 'SAME' leaves places times stride positions; 'VALID' leaves all that a window
        reaches, (places - 1) stride + (window - 1) dilation + 1; a pair (before, after) for each axis cuts so many off
        those.
      dilation: positions from an offset in the window to the next, as for stride.
      groups: inputs and outputs are so many parts, in order; each part of the inputs spreads over its part of the
        outputs. It divides both.
      bias: whether there is b.
      weight_init: `(key, (o, *window, i / groups)) -> W`, which is then turned, see `jaxnet.initializers`.
      bias_init: `(key, (o,)) -> b`.

    Returns:
      A layer with parameters `ConvTranspose(W (i, *window, o / groups), b (o,))`; without a bias b is None. Forward
      takes 2 m T i K operations, with T places of x and K = o / groups times the window's sizes, and backward twice
      that.

    Raises:
      ValueError: as `conv`; when traced, also if nothing of z is left.

    Source: Zeiler et al., Deconvolutional networks, 2010; Dumoulin and Visin, A guide to convolution arithmetic for
    deep learning, 2016, section 4.

    Example:
      >>> layer = jn.conv_transpose(8, 1, (3, 3), stride=2)
      >>> params = layer.init(key)
      >>> jax.tree.map(jnp.shape, params)
      ConvTranspose(W=(8, 3, 3, 1), b=(1,))
      >>> layer(params, jnp.ones((2, 3, 3, 8))).shape
      (2, 6, 6, 1)
    """
    asked = convolution("conv_transpose", (inputs, outputs), window, stride, padding, dilation, groups, bias)
    return Layer(
        partial(conv_transpose_init, asked, weight_init, bias_init),
        partial(conv_transpose_forward, asked),
        partial(conv_transpose_backward, asked),
        conv_transpose_second,
    )


def _shapes(asked):
    W = asked.inputs, *asked.sliding.size, asked.outputs // asked.groups
    return ConvTranspose(W, asked.shape_of_bias)
