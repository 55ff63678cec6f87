"""Activations with an exponential below 0.

The output tells the derivative, so that each caches its output a; a slope is then that of the output as it was rounded.
"""

from functools import partial

import jax
import jax.numpy as jnp

from jaxnet.arguments import shown
from jaxnet.layer import Layer
from jaxnet.layers.activations.elementwise import Signal, elementwise

# Those for which outputs of mean 0 and variance 1 stay so, for weights of variance 1 / inputs.
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def elu_forward(alpha: float, params: tuple[()], z: Signal) -> tuple[Signal, Signal]:
    """a = z for z > 0, alpha (e^z - 1) elsewhere."""
    a = jax.nn.elu(z, alpha)
    return a, a


def elu_backward(alpha: float, params: tuple[()], a: Signal, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = 1 for z > 0, which is where a > 0 because alpha is positive, and alpha e^z = a + alpha elsewhere."""
    return params, da * jnp.where(a > 0, jnp.ones_like(a), a + alpha)


def elu_second(alpha: float, params: tuple[()], a: Signal, da: Signal) -> Signal:
    """g'' = 0 for z > 0, alpha e^z = a + alpha elsewhere."""
    return da * jnp.where(a > 0, jnp.zeros_like(a), a + alpha)


def selu_forward(params: tuple[()], z: Signal) -> tuple[Signal, Signal]:
    """a = scale z for z > 0, scale alpha (e^z - 1) elsewhere."""
    # The scale is inside: elu(z) and scale elu(z) would be two arrays to the compiler.
    below = SELU_SCALE * SELU_ALPHA * jnp.expm1(jnp.where(z > 0, 0, z))
    a = jnp.where(z > 0, SELU_SCALE * z, below)
    return a, a


def selu_backward(params: tuple[()], a: Signal, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = scale for z > 0, scale alpha e^z = a + scale alpha elsewhere."""
    return params, da * jnp.where(a > 0, jnp.full_like(a, SELU_SCALE), a + SELU_SCALE * SELU_ALPHA)


def selu_second(params: tuple[()], a: Signal, da: Signal) -> Signal:
    """g'' = 0 for z > 0, scale alpha e^z = a + scale alpha elsewhere."""
    return da * jnp.where(a > 0, jnp.zeros_like(a), a + SELU_SCALE * SELU_ALPHA)


def log_sigmoid_forward(params: tuple[()], z: Signal) -> tuple[Signal, Signal]:
    """a = log(1 / (1 + e^-z))."""
    a = jax.nn.log_sigmoid(z)
    return a, a


def log_sigmoid_backward(params: tuple[()], a: Signal, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = 1 - sigmoid(z) = 1 - e^a."""
    return params, da * -jnp.expm1(a)


def log_sigmoid_second(params: tuple[()], a: Signal, da: Signal) -> Signal:
    """g'' = -(1 - e^a) e^a."""
    return da * (jnp.expm1(a) * jnp.exp(a))


selu = elementwise(selu_forward, selu_backward, selu_second)
"""a = 1.0507 z for z > 0, 1.7581 (e^z - 1) elsewhere. Source: Klambauer et al., Self-Normalizing Networks, 2017."""

log_sigmoid = elementwise(log_sigmoid_forward, log_sigmoid_backward, log_sigmoid_second)
"""a = -log(1 + e^-z), in (-inf, 0): the logarithm of a probability; g' = 1 - e^a."""


def elu(alpha: float = 1.0) -> Layer:
    """a = z for z > 0 and alpha (e^z - 1) elsewhere; g' = 1 for z > 0, else a + alpha.

    Args:
      alpha: a comes near -alpha for z towards -inf; positive. Only with 1 has the slope no jump at 0.

    Raises:
      ValueError: when alpha is not a positive number.

    Source: Clevert et al., Fast and Accurate Deep Network Learning by Exponential Linear Units, 2015.

    Example:
      >>> jn.elu()((), jnp.array([[-1.0, 2.0]]))
      Array([[-0.63,  2.  ]], dtype=float32)
    """
    if not (hasattr(alpha, "__float__") and 0 < alpha < float("inf")):
        raise ValueError(f"elu: expected a positive alpha, got {shown(alpha)}")
    return elementwise(partial(elu_forward, alpha), partial(elu_backward, alpha), partial(elu_second, alpha))
