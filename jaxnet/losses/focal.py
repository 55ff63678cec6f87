"""The cross-entropy of two classes, less where the output is right already.

With a = sigmoid(z), ce = -[y log a + (1 - y) log(1 - a)] and the probability of the other class q = a (1 - y) +
(1 - a) y, L = alpha_y q^gamma ce. Since dce/dz = a - y and dq/dz = a (1 - a) (1 - 2 y),

    dz = alpha_y q^gamma [a - y + gamma ce (1 - 2 y) a (1 - a) / q].

With d = |z|, e = e^-d and the weight w of the class that z is against (1 - y for z > 0, y elsewhere), a (1 - a) is
e / (1 + e)^2 and q is (w + e (1 - w)) / (1 + e): at w = 0 the last quotient is 1 / (1 + e), and log q is
-d - log(1 + e). No exponential overflows, and q is 0 only where its logarithm is -inf.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet.arguments import shown
from jaxnet.losses.loss import Loss, Outputs, Targets
from jaxnet.losses.refused import Refused, no_sample
from jaxnet.losses.targets import like_outputs
from jaxnet.losses.terms import distance, sum_by_example


def sigmoid_focal_loss_forward(
    z: Outputs, y: Targets, *, alpha: float | None = None, gamma: float = 2.0
) -> Float[Array, " m"]:
    """L = sum_k alpha_y q^gamma ce, from z."""
    _, y, _, power, ce, _ = _terms(z, y, gamma)
    return sum_by_example(_balance(y, alpha) * power * ce)


def sigmoid_focal_loss_backward(z: Outputs, y: Targets, *, alpha: float | None = None, gamma: float = 2.0) -> Outputs:
    """dz = alpha_y q^gamma [a - y + gamma ce (1 - 2 y) a (1 - a) / q]."""
    z, y, e, power, ce, quotient = _terms(z, y, gamma)
    dce = jnp.where(z > 0, (1 - y) - y * e, (1 - y) * e - y) / (1 + e)
    # |z| e^-|z| is 0 where z is infinite.
    dpower = gamma * jnp.where(jnp.isinf(ce), 0, ce) * (1 - 2 * y) * quotient
    return _balance(y, alpha) * power * (dce + dpower)


def sigmoid_focal_loss(*, alpha: float | None = None, gamma: float = 2.0) -> Loss:
    """Two classes of which one is rare: L = sum_k alpha_y q^gamma ce with ce the cross-entropy of a = sigmoid(z).

    q = a (1 - y) + (1 - a) y is the probability of what is not the case, so that examples which are right already
    count little; alpha_y = alpha y + (1 - alpha) (1 - y). It is no log-likelihood, so that it has no `sample`, and not
    convex, so that it has no `root_hessian`: both are refused by name.

    Args:
      alpha: what y = 1 counts, and 1 - alpha what y = 0 counts, from 0 to 1; None for 1 of both.
      gamma: how little what is right counts, at least 0, where L is the cross-entropy.

    Returns:
      A loss of z (m, ..., o) and y of z's shape, with values in [0, 1].

    Raises:
      ValueError: when alpha or gamma is out of its range.

    Source: Lin et al., Focal loss for dense object detection, 2017, equation 5; the sum over outputs of
    `optax.losses.sigmoid_focal_loss`.

    Example:
      >>> loss = jn.losses.sigmoid_focal_loss(gamma=2.0)
      >>> loss(z, jnp.array([[1.0, 0.0], [0.0, 1.0]]))
      Array([0.18, 0.2 ], dtype=float32)
    """
    options: dict[str, Any] = {}
    if alpha is not None:
        options["alpha"] = _between("alpha to be None or a number from 0 to 1", alpha, 1)
    if (gamma := _between("gamma to be a number of at least 0", gamma, float("inf"))) != 2:
        options["gamma"] = gamma
    return Loss(
        partial(sigmoid_focal_loss_forward, **options),
        partial(sigmoid_focal_loss_backward, **options),
        Refused(
            "sigmoid_focal_loss: has no root_hessian, since its second derivative is negative in places; "
            "use curvature.empirical"
        ),
        no_sample("sigmoid_focal_loss", "it is no log-likelihood"),
    )


def _terms(z, y, gamma):
    """z, y, e = e^-|z|, q^gamma, ce and a (1 - a) / q."""
    z, y = like_outputs("sigmoid_focal_loss", z, y)
    d = distance(z)
    e, w = jnp.exp(-d), jnp.where(z > 0, 1 - y, y)
    certain = w == 0
    # 0 log 0 = 0, where z is infinite and y as sure.
    ce = w * jnp.where(certain & jnp.isinf(d), 0, d) + jnp.log1p(e)
    other = jnp.where(certain, 1, w + e * (1 - w))
    power = jnp.exp(gamma * (jnp.where(certain, -d, jnp.log(other)) - jnp.log1p(e))) if gamma else jnp.ones_like(z)
    return z, y, e, power, ce, jnp.where(certain, 1, e / other) / (1 + e)


def _balance(y, alpha):
    return 1 if alpha is None else alpha * y + (1 - alpha) * (1 - y)


def _between(what, value, most):
    number = float(value) if hasattr(value, "__float__") else -1.0
    if not (0 <= number <= most and number < float("inf")):
        raise ValueError(f"sigmoid_focal_loss: expected {what}, got {shown(value)}")
    return number
