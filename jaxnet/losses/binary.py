"""The cross-entropy of two classes: from z, with the sigmoid inside, and from probabilities."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet.losses.loss import Loss, Outputs, Targets
from jaxnet.losses.targets import like_outputs
from jaxnet.losses.terms import diagonal_root, distance, sum_by_example


def sigmoid_binary_cross_entropy_forward(z: Outputs, y: Targets) -> Float[Array, " m"]:
    """L = -[y log a + (1 - y) log(1 - a)] with a = sigmoid(z), from z.

    With d = |z|, the likelier class has -log = log(1 + e^-d) and the other d + log(1 + e^-d), so that
    L = w d + log(1 + e^-d) where w, the weight of the other class, is 1 - y for z > 0 and y elsewhere. No exponential
    overflows, and no two terms cancel.
    """
    z, y = like_outputs("sigmoid_binary_cross_entropy", z, y)
    d = distance(z)
    w = jnp.where(z > 0, 1 - y, y)
    # 0 log 0 = 0, where z is infinite and y as sure.
    lost = w * jnp.where((w == 0) & jnp.isinf(d), 0, d)
    return sum_by_example(lost + jnp.log1p(jnp.exp(-d)))


def sigmoid_binary_cross_entropy_backward(z: Outputs, y: Targets) -> Outputs:
    """dz = (a - y) / (a (1 - a)) * a (1 - a) = a - y.

    That is (1 - y) a - y (1 - a), which keeps its digits where a is nearly y = 1. With e = e^-|z|, a and 1 - a are
    1 / (1 + e) and e / (1 + e), in this order for z > 0.
    """
    z, y = like_outputs("sigmoid_binary_cross_entropy", z, y)
    # Forward shares e when both are compiled in one program.
    e = jnp.exp(-distance(z))
    return jnp.where(z > 0, (1 - y) - y * e, (1 - y) * e - y) / (1 + e)


def sigmoid_binary_cross_entropy_root_hessian(z: Outputs, y: Targets) -> Float[Array, "v m *f"]:
    """d2L/dz2 = diag(a (1 - a)), so S_v = sqrt(a_v (1 - a_v)) e_v = e^-|z_v|/2 / (1 + e^-|z_v|) e_v."""
    z, _ = like_outputs("sigmoid_binary_cross_entropy", z, y)
    h = jnp.exp(-distance(z) / 2)
    return diagonal_root(h / (1 + h * h))


def sigmoid_binary_cross_entropy_sample(key: jax.Array, z: Outputs) -> Outputs:
    """y ~ Bernoulli(sigmoid(z))."""
    return jax.random.bernoulli(key, jax.nn.sigmoid(z)).astype(z.dtype)


def binary_cross_entropy_forward(a: Outputs, y: Targets) -> Float[Array, " m"]:
    """L = -[y log a + (1 - y) log(1 - a)], with 0 log 0 = 0."""
    a, y = like_outputs("binary_cross_entropy", a, y)
    # Where a factor 0 meets the logarithm of 0, that of 1 takes its place.
    log_a = jnp.log(jnp.where((y == 0) & (a == 0), 1, a))
    log_rest = jnp.log1p(-jnp.where((y == 1) & (a == 1), 0, a))
    return sum_by_example(-(y * log_a + (1 - y) * log_rest))


def binary_cross_entropy_backward(a: Outputs, y: Targets) -> Outputs:
    """da = (a - y) / (a (1 - a)): 1 / (1 - a) for y = 0, -1 / a for y = 1.

    Not finite where a has rounded to the wrong end, 0 or 1, which the form from z does not suffer.
    """
    a, y = like_outputs("binary_cross_entropy", a, y)
    # 0 / 0 where a has rounded to the right end: there the numerator cancels a factor of the denominator.
    at_zero, at_one = (y == 0) & (a == 0), (y == 1) & (a == 1)
    numerator = jnp.where(at_zero, 1, jnp.where(at_one, -1, a - y))
    return numerator / (jnp.where(at_zero, 1, a) * jnp.where(at_one, 1, 1 - a))


def binary_cross_entropy_root_hessian(a: Outputs, y: Targets) -> Float[Array, "v m *f"]:
    """d2L/da2 = diag(y / a^2 + (1 - y) / (1 - a)^2), so S_v is its root at v times e_v."""
    a, y = like_outputs("binary_cross_entropy", a, y)
    # Mixed labels leave [0, 1] by rounding.
    y = jnp.clip(y, 0, 1)
    # By hypot, since the squares alone overflow.
    of_one = jnp.sqrt(y) / jnp.where(y == 0, 1, a)
    of_zero = jnp.sqrt(1 - y) / jnp.where(y == 1, 1, 1 - a)
    return diagonal_root(jnp.hypot(of_one, of_zero))


def binary_cross_entropy_sample(key: jax.Array, a: Outputs) -> Outputs:
    """y ~ Bernoulli(a)."""
    return jax.random.bernoulli(key, a).astype(a.dtype)


sigmoid_binary_cross_entropy = Loss(
    sigmoid_binary_cross_entropy_forward,
    sigmoid_binary_cross_entropy_backward,
    sigmoid_binary_cross_entropy_root_hessian,
    sigmoid_binary_cross_entropy_sample,
)
"""Two classes, from z before the sigmoid: L = -[y log a + (1 - y) log(1 - a)], a = sigmoid(z); dz = a - y.

y has z's shape, (m, 1) for one output, with values in [0, 1]; others are refused where values are known, so not under
jit. Several outputs are independent yes-or-no questions. Value, derivative and root keep their digits however large |z|
is; an infinite z that is right costs 0.

Source: the lesson (docs/lesson.md), S8 and S9; `optax.losses.sigmoid_binary_cross_entropy`.
"""


binary_cross_entropy = Loss(
    binary_cross_entropy_forward,
    binary_cross_entropy_backward,
    binary_cross_entropy_root_hessian,
    binary_cross_entropy_sample,
)
"""Two classes, from a = sigmoid(z): L = -[y log a + (1 - y) log(1 - a)]; da = (a - y) / (a (1 - a)).

The lesson's plain form, to read along with it, behind a network that ends in `sigmoid`. Training uses
`sigmoid_binary_cross_entropy`, which is finite where a rounds to 0 or 1.

Source: the lesson (docs/lesson.md), S8 and S9.
"""
