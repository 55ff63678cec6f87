"""Activations that gate themselves: a = z P(z), with P from 0 to 1.

They fall before they rise, so that a does not tell g'. Each caches g', which shares the dearest part with a, and z, of
which `second` is made. A compiled program that does not ask for `second` keeps no z, not even across a scan, where g'
made of z again took a quarter of a small transformer's gradient.
"""

from jaxnet import gates
from jaxnet.layers.activations.elementwise import Signal, elementwise

Kept = tuple[Signal, Signal]


def silu_forward(params: tuple[()], z: Signal) -> tuple[Signal, Kept]:
    """a = z s(z), with s the sigmoid."""
    return gates.silu.value(z), (gates.silu.slope(z), z)


def silu_backward(params: tuple[()], kept: Kept, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = s (1 + z (1 - s))."""
    return params, da * kept[0]


def silu_second(params: tuple[()], kept: Kept, da: Signal) -> Signal:
    """g'' = s (1 - s) (2 + z (1 - 2 s))."""
    return da * gates.silu.bend(kept[1])


def gelu_forward(params: tuple[()], z: Signal) -> tuple[Signal, Kept]:
    """a = z F(z), with F(z) = (1 + erf(z / sqrt(2))) / 2, the normal distribution."""
    return gates.gelu.value(z), (gates.gelu.slope(z), z)


def gelu_backward(params: tuple[()], kept: Kept, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = F + z f, with f(z) = F'(z) = e^(-z^2 / 2) / sqrt(2 pi)."""
    return params, da * kept[0]


def gelu_second(params: tuple[()], kept: Kept, da: Signal) -> Signal:
    """g'' = (2 - z^2) f."""
    return da * gates.gelu.bend(kept[1])


def gelu_tanh_forward(params: tuple[()], z: Signal) -> tuple[Signal, Kept]:
    """a = z (1 + tanh u) / 2 = z s(v), with v = 2 u = sqrt(8 / pi) (z + 0.044715 z^3)."""
    return gates.gelu_tanh.value(z), (gates.gelu_tanh.slope(z), z)


def gelu_tanh_backward(params: tuple[()], kept: Kept, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = s + z s (1 - s) v'."""
    return params, da * kept[0]


def gelu_tanh_second(params: tuple[()], kept: Kept, da: Signal) -> Signal:
    """g'' = s (1 - s) (v' (2 + z v' (1 - 2 s)) + z v'')."""
    return da * gates.gelu_tanh.bend(kept[1])


silu = elementwise(silu_forward, silu_backward, silu_second)
"""a = z sigmoid(z), also called swish. Source: Elfwing et al., 2017, and Ramachandran et al., 2017."""

gelu = elementwise(gelu_forward, gelu_backward, gelu_second)
"""a = z F(z), F the normal distribution: exact, as PyTorch's default. Source: Hendrycks and Gimpel, 2016."""

gelu_tanh = elementwise(gelu_tanh_forward, gelu_tanh_backward, gelu_tanh_second)
"""GELU's approximation by tanh, as GPT-2 and `jax.nn.gelu` by default have it. Source: Hendrycks and Gimpel, 2016."""
