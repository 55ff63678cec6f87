"""The logarithms of probabilities: y = z - log sum_k e^(z_k), over the last axis."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet.bend import Bend, at_each, beside, diagonal
from jaxnet.layer import Layer

Signal = Float[Array, "*mt k"]


def log_softmax_forward(params: tuple[()], z: Signal) -> tuple[Signal, Signal]:
    """y_j = z_j - log sum_k e^(z_k). The cache is y."""
    z = jnp.asarray(z)
    if z.ndim == 0:
        raise ValueError("log_softmax: expected z of shape (m, ..., k), got ()")
    y = jax.nn.log_softmax(z)
    return y, y


def log_softmax_backward(params: tuple[()], y: Signal, dy: Signal) -> tuple[tuple[()], Signal]:
    """From dy_j / dz_i = [i = j] - p_i with the probabilities p_i = e^(y_i): dz_i = dy_i - p_i sum_j dy_j."""
    return params, dy - jnp.exp(y) * dy.sum(-1, keepdims=True)


def log_softmax_second(params: tuple[()], y: Signal, dy: Signal) -> Bend:
    """With s = sum_j dy_j the matrix -s (diag(p) - p p^T) of each position: unit vectors, and p with weight s."""
    p, s = jnp.exp(y), dy.sum(-1, keepdims=True)
    positions, of_position = at_each(s)
    return beside(diagonal(-s * p), Bend(positions * p[None], of_position))


def _no_parameters(key):
    return ()


log_softmax = Layer(
    _no_parameters, log_softmax_forward, log_softmax_backward, log_softmax_second, decoder="positionwise"
)
"""y = z - log sum_k e^(z_k), over the last axis: logarithms of probabilities; dz = dy - e^y sum(dy).

Losses named for a softmax include theirs: leave it out there.
"""
