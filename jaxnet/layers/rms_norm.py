"""Each position's features scaled to mean square 1, then by a gain: y = n * gain."""

from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet.arguments import positive_integer, positive_number
from jaxnet.arrays import require_cotangent, require_features, require_parameters
from jaxnet.bend import Bend
from jaxnet.layer import Layer
from jaxnet.standardised import EPSILON, bend_of_rescaled, from_rescaled, laid_out, of_features, rescaled

FEATURES = (-1,)


class RMSNorm(NamedTuple):
    """The parameters of `rms_norm`, or whatever has their structure.

    Attributes:
      gain: (d,), what each feature is multiplied by; 1 at the start.
    """

    gain: Any


def rms_norm_init(d, key):
    return RMSNorm(gain=jnp.ones(d))


def rms_norm_forward(
    d: int, params: RMSNorm, x: Float[Array, "*mt d"], *, epsilon: float = EPSILON
) -> tuple[Float[Array, "*mt d"], tuple[Float[Array, "*mt d"], Float[Array, "*mt 1"]]]:
    """y = n * gain with n = x r, r = (mean x^2 + epsilon)^(-1/2). The cache is n and r."""
    x = jnp.asarray(x)
    require_parameters(f"rms_norm({d})", RMSNorm, (d,), params)
    require_features(f"rms_norm({d})", d, x, params.gain.dtype)
    # 1. n = x r
    normed, scale = rescaled(x, FEATURES, epsilon)
    # 2. y = n * gain
    gain = jnp.expand_dims(params.gain, range(x.ndim - 1)).astype(normed.dtype)
    return (normed * gain).astype(x.dtype), (normed.astype(x.dtype), scale)


def rms_norm_backward(
    d: int, params: RMSNorm, cache: tuple[Float[Array, "m *t d"], Float[Array, "m *t 1"]], dy: Float[Array, "m *t d"]
) -> tuple[RMSNorm, Float[Array, "m *t d"]]:
    """dgain_j = dy_j n_j, dn_j = dy_j gain_j, and dx_j = r (dn_j - n_j mean(dn n)), as `standardised` derives it."""
    kept, scale = cache
    require_parameters(f"rms_norm({d})", RMSNorm, (d,), params)
    require_cotangent(f"rms_norm({d})", kept.shape, dy)
    normed, long_dy = kept.astype(scale.dtype), dy.astype(scale.dtype)
    # 2. y = n * gain
    dparams = RMSNorm(gain=of_features(params.gain, long_dy * normed))
    dnormed = long_dy * jnp.expand_dims(params.gain, range(dy.ndim - 1)).astype(scale.dtype)
    # 1. n = x r
    dx = from_rescaled(normed, scale, dnormed, FEATURES)
    return dparams, laid_out(dx.astype(dy.dtype), jax.typeof(kept).sharding)


def rms_norm_second(
    params: RMSNorm, cache: tuple[Float[Array, "m *t d"], Float[Array, "m *t 1"]], dy: Float[Array, "m *t d"]
) -> Bend:
    """How dx changes with x: columns of which every position has d + 3."""
    kept, scale = cache
    gain = jnp.expand_dims(params.gain, range(dy.ndim - 1)).astype(scale.dtype)
    return bend_of_rescaled(kept.astype(scale.dtype), scale, dy.astype(scale.dtype) * gain, FEATURES).astype(dy.dtype)


def rms_norm(d: SupportsIndex, *, epsilon: float = EPSILON) -> Layer:
    """Normalisation by the root mean square: y = x / sqrt(mean x^2 + epsilon) * gain, over each position's features.

    Args:
      d: the number of features of `x (m, ..., d)`, at least 1.
      epsilon: added to the mean square, in its units, above 0.

    Returns:
      A layer with parameters `RMSNorm(gain (d,))`, whose gradients take d numbers for an example, however many
      positions it has. The mean is taken in float32 at least, of features of any size. It keeps
      n = x / sqrt(mean x^2 + epsilon), of x's size and type, and a number for each position.

    Raises:
      ValueError: when d is not a positive integer or epsilon not a positive number; and, when the layer is traced, if
        the parameters are of another size, or x has another number of features or another dtype than they.

    Source: Zhang and Sennrich, Root mean square layer normalization, 2019, equation 4.

    Example:
      >>> norm = jn.rms_norm(2)
      >>> params = norm.init(key)
      >>> jax.tree.map(jnp.shape, params)
      RMSNorm(gain=(2,))
      >>> norm(params, jnp.array([[3.0, 4.0]]))
      Array([[0.85, 1.13]], dtype=float32)
    """
    d = positive_integer("rms_norm", "d", d)
    epsilon = positive_number("rms_norm", "epsilon", epsilon)
    options: dict[str, Any] = {} if epsilon == EPSILON else {"epsilon": epsilon}
    forward = partial(rms_norm_forward, d, **options)
    return Layer(
        partial(rms_norm_init, d), forward, partial(rms_norm_backward, d), rms_norm_second, decoder="positionwise"
    )
