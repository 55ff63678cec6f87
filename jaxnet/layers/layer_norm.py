"""Each position's features moved to mean 0 and variance 1, then scaled and shifted: y = n * gain + bias."""

from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet.arguments import positive_integer, positive_number
from jaxnet.arrays import require_cotangent, require_features, require_parameters
from jaxnet.bend import Bend
from jaxnet.layer import Layer
from jaxnet.standardised import EPSILON, bend_of_standardised, from_standardised, laid_out, of_features, standardised

FEATURES = (-1,)


class LayerNorm(NamedTuple):
    """The parameters of `layer_norm`, or whatever has their structure.

    Attributes:
      gain: (d,), what each feature is multiplied by; 1 at the start.
      bias: (d,), what is added to it; 0 at the start. None for a layer without one.
    """

    gain: Any
    bias: Any = None


def layer_norm_init(d, bias, key):
    return LayerNorm(gain=jnp.ones(d), bias=jnp.zeros(d) if bias else None)


def layer_norm_forward(
    d: int, params: LayerNorm, x: Float[Array, "*mt d"], *, epsilon: float = EPSILON, bias: bool = True
) -> tuple[Float[Array, "*mt d"], tuple[Float[Array, "*mt d"], Float[Array, "*mt 1"]]]:
    """y = n * gain + bias with n = (x - mean x) r, r = (var x + epsilon)^(-1/2). The cache is n and r."""
    x = jnp.asarray(x)
    _check_params(d, bias, params)
    require_features(_label(d, bias), d, x, params.gain.dtype)
    # 1. n = (x - mean x) r
    centred, scale = standardised(x, FEATURES, epsilon)
    normed = centred * scale
    # 2. y = n * gain + bias
    y = normed * jnp.expand_dims(params.gain, range(x.ndim - 1)).astype(normed.dtype)
    if bias:
        y = y + jnp.expand_dims(params.bias, range(x.ndim - 1)).astype(normed.dtype)
    return y.astype(x.dtype), (normed.astype(x.dtype), scale)


def layer_norm_backward(
    d: int,
    params: LayerNorm,
    cache: tuple[Float[Array, "m *t d"], Float[Array, "m *t 1"]],
    dy: Float[Array, "m *t d"],
    *,
    bias: bool = True,
) -> tuple[LayerNorm, Float[Array, "m *t d"]]:
    """dgain_j = dy_j n_j, dbias_j = dy_j, dn_j = dy_j gain_j; then from n to x, as `standardised` derives it."""
    kept, scale = cache
    _check_params(d, bias, params)
    require_cotangent(_label(d, bias), kept.shape, dy)
    normed, long_dy = kept.astype(scale.dtype), dy.astype(scale.dtype)
    # 2. y = n * gain + bias
    of_bias = of_features(params.bias, long_dy) if bias else None
    dparams = LayerNorm(gain=of_features(params.gain, long_dy * normed), bias=of_bias)
    dnormed = long_dy * jnp.expand_dims(params.gain, range(dy.ndim - 1)).astype(scale.dtype)
    # 1. n = (x - mean x) r
    dx = from_standardised(normed, scale, dnormed, FEATURES)
    return dparams, laid_out(dx.astype(dy.dtype), jax.typeof(kept).sharding)


def layer_norm_second(
    params: LayerNorm, cache: tuple[Float[Array, "m *t d"], Float[Array, "m *t 1"]], dy: Float[Array, "m *t d"]
) -> Bend:
    """How dx changes with x: columns of which every position has d + 3."""
    kept, scale = cache
    gain = jnp.expand_dims(params.gain, range(dy.ndim - 1)).astype(scale.dtype)
    bend = bend_of_standardised(kept.astype(scale.dtype), scale, dy.astype(scale.dtype) * gain, FEATURES)
    return bend.astype(dy.dtype)


def layer_norm(d: SupportsIndex, *, epsilon: float = EPSILON, bias: bool = True) -> Layer:
    """Layer normalisation: y = (x - mean x) / sqrt(var x + epsilon) * gain + bias, over the features of each position.

    Args:
      d: the number of features of `x (m, ..., d)`, at least 1.
      epsilon: added to the variance, in its units, above 0. Features that are all equal give the bias.
      bias: whether there is one. Without it y = (x - mean x) / sqrt(var x + epsilon) * gain.

    Returns:
      A layer with parameters `LayerNorm(gain (d,), bias (d,))`; without a bias it is None. Gradients take 2 d numbers
      for an example, however many positions it has. Mean and variance are taken in float32 at least; features may be of
      any size, as long as their sum is a number of that type. It keeps n = (x - mean x) / sqrt(var x + epsilon), of x's
      size and type, and a number for each position.

    Raises:
      ValueError: when d is not a positive integer or epsilon not a positive number; and, when the layer is traced, if
        the parameters are of another size, or x has another number of features or another dtype than they.

    Source: Ba, Kiros and Hinton, Layer normalization, 2016, equation 4.

    Example:
      >>> norm = jn.layer_norm(4)
      >>> params = norm.init(key)
      >>> jax.tree.map(jnp.shape, params)
      LayerNorm(gain=(4,), bias=(4,))
      >>> norm(params, jnp.array([[1.0, 2.0, 3.0, 6.0]]))
      Array([[-1.07, -0.53,  0.  ,  1.6 ]], dtype=float32)
    """
    d = positive_integer("layer_norm", "d", d)
    epsilon = positive_number("layer_norm", "epsilon", epsilon)
    options: dict[str, Any] = {} if epsilon == EPSILON else {"epsilon": epsilon}
    of_both: dict[str, Any] = {} if bias else {"bias": False}
    forward = partial(layer_norm_forward, d, **options, **of_both)
    backward = partial(layer_norm_backward, d, **of_both)
    return Layer(partial(layer_norm_init, d, bias), forward, backward, layer_norm_second, decoder="positionwise")


def _label(d, bias):
    return f"layer_norm({d})" if bias else f"layer_norm({d}, bias=False)"


def _check_params(d, bias, params):
    require_parameters(_label(d, bias), LayerNorm, (d,), params, () if bias else ("bias",))
