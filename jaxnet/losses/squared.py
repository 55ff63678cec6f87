"""Half the squared error, for numbers."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet.losses.loss import Loss, Outputs, Targets
from jaxnet.losses.targets import like_outputs
from jaxnet.losses.terms import diagonal_root, sum_by_example


def half_squared_error_forward(z: Outputs, y: Targets) -> Float[Array, " m"]:
    """L = (1/2) sum_k (z_k - y_k)^2."""
    z, y = like_outputs("half_squared_error", z, y)
    return sum_by_example(0.5 * (z - y) ** 2)


def half_squared_error_backward(z: Outputs, y: Targets) -> Outputs:
    """dz = z - y."""
    z, y = like_outputs("half_squared_error", z, y)
    return z - y


def half_squared_error_root_hessian(z: Outputs, y: Targets) -> Float[Array, "v m *f"]:
    """d2L/dz2 = I, so S_v = e_v."""
    z, _ = like_outputs("half_squared_error", z, y)
    return diagonal_root(jnp.ones_like(z))


def half_squared_error_sample(key: jax.Array, z: Outputs) -> Outputs:
    """y ~ N(z, I)."""
    return z + jax.random.normal(key, z.shape, z.dtype)


half_squared_error = Loss(
    half_squared_error_forward,
    half_squared_error_backward,
    half_squared_error_root_hessian,
    half_squared_error_sample,
)
"""Regression: L = (1/2) sum_k (z_k - y_k)^2; dz = z - y.

y has z's shape, (m, o). Source: the lesson (docs/lesson.md), S5; the sum over outputs of `optax.losses.l2_loss`.
"""
