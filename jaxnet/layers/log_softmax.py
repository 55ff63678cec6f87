"""The logarithms of probabilities: y = z - log sum_k e^(z_k), over the last axis."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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


def _no_parameters(key):
    return ()


log_softmax = Layer(_no_parameters, log_softmax_forward, log_softmax_backward)
"""y = z - log sum_k e^(z_k), over the last axis: logarithms of probabilities; dz = dy - e^y sum(dy).

Its second derivative is no diagonal, so that `curvature.hessian_diagonal` refuses it. Losses named for a softmax
include theirs: leave it out there.
"""
