"""The squared error near the target, the distance beyond: for numbers among which some are far off."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet.arguments import positive_number
from jaxnet.losses.loss import Loss, Outputs, Targets
from jaxnet.losses.targets import like_outputs
from jaxnet.losses.terms import diagonal_root, sum_by_example


def huber_loss_forward(z: Outputs, y: Targets, *, delta: float = 1.0) -> Float[Array, " m"]:
    """L = sum_k c_k (r_k - c_k / 2) with r = z - y, and c = r within delta of 0, delta sign(r) beyond."""
    r, c, _ = _residual(z, y, delta)
    return sum_by_example(c * (r - 0.5 * c))


def huber_loss_backward(z: Outputs, y: Targets, *, delta: float = 1.0) -> Outputs:
    """dz = c: z - y, cut off at delta."""
    _, c, _ = _residual(z, y, delta)
    return c


def huber_loss_root_hessian(z: Outputs, y: Targets, *, delta: float = 1.0) -> Float[Array, "v m *f"]:
    """d2L/dz2 = diag(1 within delta, 0 beyond), which is its own root."""
    _, c, within = _residual(z, y, delta)
    return diagonal_root(within.astype(c.dtype))


def huber_loss_sample(key: jax.Array, z: Outputs, *, delta: float = 1.0) -> Outputs:
    """y = z + r with r of density e^-L / constant: normal within delta, exponential of rate delta beyond."""
    which, near, far, side = jax.random.split(key, 4)
    # The integrals of e^(-r^2/2) within delta, and of e^(delta^2/2 - delta |r|) beyond.
    within = math.sqrt(2 * math.pi) * math.erf(delta / math.sqrt(2))
    beyond = 2 * math.exp(-(delta**2) / 2) / delta
    normal = jax.random.truncated_normal(near, -delta, delta, z.shape, z.dtype)
    tail = delta + jax.random.exponential(far, z.shape, z.dtype) / delta
    tail = tail * jax.random.rademacher(side, z.shape, z.dtype)
    return z + jnp.where(jax.random.bernoulli(which, within / (within + beyond), z.shape), normal, tail)


def huber_loss(*, delta: float = 1.0) -> Loss:
    """Regression that each number pulls by delta at most: dz = z - y, cut off at -delta and delta.

    L = sum_k (1/2) r_k^2 where |r_k| <= delta, and delta (|r_k| - delta / 2) elsewhere, with r = z - y. It is the
    negative log-likelihood of a density that is normal within delta and exponential beyond.

    Args:
      delta: from where on an error counts by its size, above 0, in the units of y.

    Returns:
      A loss of z (m, ..., o) and y of z's shape.

    Raises:
      ValueError: when delta is not a positive number.

    Source: Huber, Robust estimation of a location parameter, 1964; the sum over outputs of `optax.losses.huber_loss`.

    Example:
      >>> loss = jn.losses.huber_loss(delta=1.0)
      >>> loss(z, jnp.zeros((2, 2)))
      Array([1.5, 0.5], dtype=float32)
      >>> loss.backward(z, jnp.zeros((2, 2)))
      Array([[1., 0.],
             [0., 1.]], dtype=float32)
      >>> type(loss.sample).__name__
      'partial'
    """
    delta = positive_number("huber_loss", "delta", delta)
    options: dict[str, Any] = {} if delta == 1 else {"delta": delta}
    parts = huber_loss_forward, huber_loss_backward, huber_loss_root_hessian, huber_loss_sample
    return Loss(*(partial(part, **options) for part in parts))


def _residual(z, y, delta):
    """r = z - y; c, which is r cut off; and where it is not."""
    z, y = like_outputs("huber_loss", z, y)
    r = z - y
    within = jnp.abs(r) <= delta
    return r, jnp.where(within, r, delta * jnp.sign(r)), within
