"""Activations that gate themselves: a = z P(z), with P from 0 to 1.

They fall before they rise, so that a does not tell z, and each caches z. What forward computed of z is computed again
in backward: within one program the compiler finds it again, and across a scan it would be a second array to keep.
"""

from jaxnet import gates
from jaxnet.layers.activations.elementwise import Signal, elementwise


def silu_forward(params: tuple[()], z: Signal) -> tuple[Signal, Signal]:
    """a = z s(z), with s the sigmoid."""
    return gates.silu.value(z), z


def silu_backward(params: tuple[()], z: Signal, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = s (1 + z (1 - s))."""
    return params, da * gates.silu.slope(z)


def silu_second(params: tuple[()], z: Signal, da: Signal) -> Signal:
    """g'' = s (1 - s) (2 + z (1 - 2 s))."""
    return da * gates.silu.bend(z)


def gelu_forward(params: tuple[()], z: Signal) -> tuple[Signal, Signal]:
    """a = z F(z), with F(z) = (1 + erf(z / sqrt(2))) / 2, the normal distribution."""
    return gates.gelu.value(z), z


def gelu_backward(params: tuple[()], z: Signal, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = F + z f, with f(z) = F'(z) = e^(-z^2 / 2) / sqrt(2 pi)."""
    return params, da * gates.gelu.slope(z)


def gelu_second(params: tuple[()], z: Signal, da: Signal) -> Signal:
    """g'' = (2 - z^2) f."""
    return da * gates.gelu.bend(z)


def gelu_tanh_forward(params: tuple[()], z: Signal) -> tuple[Signal, Signal]:
    """a = z (1 + tanh u) / 2 = z s(v), with v = 2 u = sqrt(8 / pi) (z + 0.044715 z^3)."""
    return gates.gelu_tanh.value(z), z


def gelu_tanh_backward(params: tuple[()], z: Signal, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = s + z s (1 - s) v'."""
    return params, da * gates.gelu_tanh.slope(z)


def gelu_tanh_second(params: tuple[()], z: Signal, da: Signal) -> Signal:
    """g'' = s (1 - s) (v' (2 + z v' (1 - 2 s)) + z v'')."""
    return da * gates.gelu_tanh.bend(z)


silu = elementwise(silu_forward, silu_backward, silu_second)
"""a = z sigmoid(z), also called swish. Source: Elfwing et al., 2017, and Ramachandran et al., 2017."""

gelu = elementwise(gelu_forward, gelu_backward, gelu_second)
"""a = z F(z), F the normal distribution: exact, as PyTorch's default. Source: Hendrycks and Gimpel, 2016."""

gelu_tanh = elementwise(gelu_tanh_forward, gelu_tanh_backward, gelu_tanh_second)
"""GELU's approximation by tanh, as GPT-2 and `jax.nn.gelu` by default have it. Source: Hendrycks and Gimpel, 2016."""
