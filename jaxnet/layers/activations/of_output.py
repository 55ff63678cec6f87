"""Activations whose derivative is told by their output: the lesson's, and softplus.

Each caches its output a, not its input: every derivative here is a function of a, and a is kept anyway as the next
layer's input. A slope is then that of the output as it was rounded: near the ends of a sigmoid at 1, or of a tanh, it
errs by a unit of a. To keep z beside a would mend that, and double what a network keeps. ReLU caches where z > 0, all
that its derivative knows of z, at a byte for each number. Where g is curved, `second` is da * g''(z), which only the
Hessian's diagonal asks for.
"""

from functools import partial

import jax
import jax.numpy as jnp

from jaxnet.layer import Layer
from jaxnet.layers.activations.elementwise import Mask, Signal, elementwise, nowhere_curved


def sigmoid_forward(params: tuple[()], z: Signal) -> tuple[Signal, Signal]:
    """a = 1 / (1 + e^-z)."""
    a = jax.nn.sigmoid(z)
    return a, a


def sigmoid_backward(params: tuple[()], a: Signal, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = a (1 - a)."""
    return params, da * (a * (1 - a))


def sigmoid_second(params: tuple[()], a: Signal, da: Signal) -> Signal:
    """g'' = a (1 - a) (1 - 2 a)."""
    return da * (a * (1 - a) * (1 - 2 * a))


def tanh_forward(params: tuple[()], z: Signal) -> tuple[Signal, Signal]:
    """a = tanh(z)."""
    a = jnp.tanh(z)
    return a, a


def tanh_backward(params: tuple[()], a: Signal, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = 1 - a^2."""
    # As a product: 1 - a is exact near saturation, where 1 - a^2 has lost its digits in a^2.
    return params, da * ((1 - a) * (1 + a))


def tanh_second(params: tuple[()], a: Signal, da: Signal) -> Signal:
    """g'' = -2 a (1 - a^2)."""
    return da * (-2 * a * ((1 - a) * (1 + a)))


def relu_forward(params: tuple[()], z: Signal) -> tuple[Signal, Mask]:
    """a = max(0, z). The cache is where z > 0."""
    return jax.nn.relu(z), z > 0


def relu_backward(params: tuple[()], positive: Mask, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = 1 for z > 0 and 0 elsewhere; at z = 0 it is 0, as `jax.nn.relu` has it."""
    return params, jnp.where(positive, da, jnp.zeros_like(da))


def leaky_relu_forward(slope: float, params: tuple[()], z: Signal) -> tuple[Signal, Signal]:
    """a = z for z > 0, slope * z elsewhere."""
    a = jnp.where(z > 0, z, slope * z)
    return a, a


def leaky_relu_backward(slope: float, params: tuple[()], a: Signal, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = 1 for z > 0, which is where a > 0 because the slope is positive, and the slope elsewhere."""
    return params, jnp.where(a > 0, da, slope * da)


def softplus_forward(params: tuple[()], z: Signal) -> tuple[Signal, Signal]:
    """a = log(1 + e^z)."""
    a = jax.nn.softplus(z)
    return a, a


def softplus_backward(params: tuple[()], a: Signal, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = sigmoid(z) = 1 - e^-a."""
    return params, da * -jnp.expm1(-a)


def softplus_second(params: tuple[()], a: Signal, da: Signal) -> Signal:
    """g'' = g' (1 - g') = (1 - e^-a) e^-a."""
    return da * (-jnp.expm1(-a) * jnp.exp(-a))


def identity_forward(params: tuple[()], z: Signal) -> tuple[Signal, tuple[()]]:
    """a = z."""
    return z, ()


def identity_backward(params: tuple[()], cache: tuple[()], da: Signal) -> tuple[tuple[()], Signal]:
    """g' = 1."""
    return params, da


sigmoid = elementwise(sigmoid_forward, sigmoid_backward, sigmoid_second)
"""a = 1 / (1 + e^-z), in (0, 1); g' = a (1 - a). Source: the lesson (docs/lesson.md), S4."""

tanh = elementwise(tanh_forward, tanh_backward, tanh_second)
"""a = tanh(z), in (-1, 1); g' = 1 - a^2. Source: the lesson (docs/lesson.md), S4."""

relu = elementwise(relu_forward, relu_backward, nowhere_curved)
"""a = max(0, z); g' = 1 for z > 0, else 0. Source: the lesson (docs/lesson.md), S4."""

softplus = elementwise(softplus_forward, softplus_backward, softplus_second)
"""a = log(1 + e^z), in (0, inf), a smooth ReLU; g' = 1 - e^-a. Source: Dugas et al., 2000."""

identity = elementwise(identity_forward, identity_backward, nowhere_curved)
"""a = z: no activation. Source: the lesson (docs/lesson.md), S4 and S5."""


def leaky_relu(slope: float = 0.01) -> Layer:
    """a = z for z > 0 and slope * z elsewhere; g' = 1 for z > 0, else the slope.

    Args:
      slope: the derivative where z <= 0, in (0, 1).

    Raises:
      ValueError: when the slope is not in (0, 1).

    Source: the lesson (docs/lesson.md), S4, where the slope is called lambda.

    Example:
      >>> jn.leaky_relu(0.1)((), jnp.array([[-1.0, 2.0]]))
      Array([[-0.1,  2. ]], dtype=float32)
    """
    if not (hasattr(slope, "__float__") and 0 < slope < 1):
        raise ValueError(f"leaky_relu: expected a slope in (0, 1), got {slope!r}")
    forward, backward = partial(leaky_relu_forward, slope), partial(leaky_relu_backward, slope)
    return elementwise(forward, backward, nowhere_curved)
