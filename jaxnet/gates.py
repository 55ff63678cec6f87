"""What gates: functions that are nearly 0 below and 1, or z, above; each with its slope and its bend, of z.

    silu(z) = z s(z), with s the sigmoid          gelu(z) = z F(z), with F the normal distribution and f its density
    silu'(z) = s + z s (1 - s)                    gelu'(z) = F + z f
    silu''(z) = s (1 - s) (2 + z (1 - 2 s))       gelu''(z) = (2 - z^2) f

Activations multiply by them, and so do layers with two halves. All are right far out: 1 - s is s(-z), which has its
digits where s has rounded to 1, and the greater of both is 1 without the lesser; F is of erfc, which has them where F
is nearly 0; and where z^2 may overflow, z is cut off, far behind where the exponential has become 0.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Signal = Float[Array, "..."]
# e^(-END^2 / 2) is 0 even in float64, and END^2 a number even in float16.
END = 40.0
# The cubic of the approximation, at its end: 1 / (1 + e^2500) = 0 in float64, too.
CUBIC, CUBIC_SCALE, CUBIC_END = 0.044715, math.sqrt(8 / math.pi), 32.0


class Gate(NamedTuple):
    """A function of z, its first and its second derivative."""

    value: Callable[[Signal], Signal]
    slope: Callable[[Signal], Signal]
    bend: Callable[[Signal], Signal]


def sigmoid_value(z: Signal) -> Signal:
    return jax.nn.sigmoid(z)


def sigmoid_slope(z: Signal) -> Signal:
    """s (1 - s)."""
    return jax.nn.sigmoid(z) * jax.nn.sigmoid(-z)


def sigmoid_bend(z: Signal) -> Signal:
    """s (1 - s) (1 - 2 s), of which the last is (1 - s) - s."""
    s, rest = jax.nn.sigmoid(z), jax.nn.sigmoid(-z)
    return s * rest * (rest - s)


def silu_value(z: Signal) -> Signal:
    return z * _tails(z)[0]


def silu_slope(z: Signal) -> Signal:
    """s + z s (1 - s)."""
    s, rest = _tails(z)
    return s * (1 + z * rest)


def silu_bend(z: Signal) -> Signal:
    """s (1 - s) (2 + z (1 - 2 s)), of which 1 - 2 s is (1 - s) - s."""
    s, rest = _tails(z)
    return s * rest * (2 + z * (rest - s))


def gelu_value(z: Signal) -> Signal:
    return z * _normal_distribution(z)


def gelu_slope(z: Signal) -> Signal:
    """F + z f."""
    near = jnp.clip(z, -END, END)
    return _normal_distribution(z) + near * _normal_density(near)


def gelu_bend(z: Signal) -> Signal:
    """(2 - z^2) f, since f' = -z f."""
    near = jnp.clip(z, -END, END)
    return (2 - near**2) * _normal_density(near)


def gelu_tanh_value(z: Signal) -> Signal:
    """z (1 + tanh u) / 2 = z s(2 u)."""
    return z * _tails(_near(z), _cubic)[0]


def gelu_tanh_slope(z: Signal) -> Signal:
    """s + z s (1 - s) v' for v = 2 u."""
    near = _near(z)
    dv, _ = _slopes_of_cubic(near)
    s, rest = _tails(near, _cubic)
    return s * (1 + near * dv * rest)


def gelu_tanh_bend(z: Signal) -> Signal:
    """s (1 - s) v' (2 + z v' (1 - 2 s)) + s (1 - s) z v'', in an order in which no product overflows."""
    near = _near(z)
    dv, ddv = _slopes_of_cubic(near)
    s, rest = _tails(near, _cubic)
    return s * rest * dv * (2 + near * dv * (rest - s)) + s * rest * near * ddv


sigmoid = Gate(sigmoid_value, sigmoid_slope, sigmoid_bend)
silu = Gate(silu_value, silu_slope, silu_bend)
gelu = Gate(gelu_value, gelu_slope, gelu_bend)
gelu_tanh = Gate(gelu_tanh_value, gelu_tanh_slope, gelu_tanh_bend)


def _normal_distribution(z):
    return lax.erfc(-z * math.sqrt(0.5)) / 2


def _normal_density(z):
    return jnp.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def _tails(z, odd=lambda z: z):
    """s(v) and s(-v) for an increasing odd v of z, both with all their digits, of the lesser: what is kept of them."""
    above = z >= 0
    lesser = jax.nn.sigmoid(odd(jnp.where(above, -z, z)))
    greater = 1 - lesser
    return jnp.where(above, greater, lesser), jnp.where(above, lesser, greater)


def _near(z):
    return jnp.clip(z, -CUBIC_END, CUBIC_END)


def _cubic(z):
    """v = 2 u = sqrt(8 / pi) (z + 0.044715 z^3)."""
    return CUBIC_SCALE * z * (1 + CUBIC * z**2)


def _slopes_of_cubic(z):
    """v' and v''."""
    return CUBIC_SCALE * (1 + 3 * CUBIC * z**2), (6 * CUBIC_SCALE * CUBIC) * z
