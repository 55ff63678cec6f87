"""Activations from -1 to 1 without an exponential."""

import jax
import jax.numpy as jnp

from jaxnet.layers.activations.elementwise import Mask, Signal, elementwise, nowhere_curved


def softsign_forward(params: tuple[()], z: Signal) -> tuple[Signal, Signal]:
    """a = z / (1 + |z|). The cache is z: a slope of a that has rounded to 1 would be 0, long before it is."""
    return z / (1 + _size(z)), z


def softsign_backward(params: tuple[()], z: Signal, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = 1 / (1 + |z|)^2."""
    return params, da * (1 / (1 + _size(z))) ** 2


def softsign_second(params: tuple[()], z: Signal, da: Signal) -> Signal:
    """g'' = -2 sign(z) / (1 + |z|)^3; 0 at z = 0, between the two sides."""
    return da * (-2 * jnp.sign(z)) * (1 / (1 + _size(z))) ** 3


def hard_tanh_forward(params: tuple[()], z: Signal) -> tuple[Signal, Mask]:
    """a = z from -1 to 1, and the nearer of both beyond. The cache is where z is within, a byte for each number."""
    return jax.nn.hard_tanh(z), jnp.abs(z) <= 1


def hard_tanh_backward(params: tuple[()], within: Mask, da: Signal) -> tuple[tuple[()], Signal]:
    """g' = 1 from -1 to 1, the ends included as `jax.nn.hard_tanh` has it (PyTorch has 0 there), and 0 beyond."""
    return params, jnp.where(within, da, jnp.zeros_like(da))


softsign = elementwise(softsign_forward, softsign_backward, softsign_second)
"""a = z / (1 + |z|), in (-1, 1); g' = 1 / (1 + |z|)^2. Source: Bergstra et al., 2009."""

hard_tanh = elementwise(hard_tanh_forward, hard_tanh_backward, nowhere_curved)
"""a = max(-1, min(1, z)); g' = 1 from -1 to 1, else 0. Source: Collobert, 2004."""


def _size(z):
    # |z|, whose derivative at 0 is then 0, between its sides, where that of jnp.abs is 1.
    return z * jnp.sign(z)
