"""The cross-entropy of several classes with the softmax inside: for probabilities as targets, and for labels."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

from jaxnet.losses.loss import Loss, Outputs, Targets
from jaxnet.losses.targets import integer_labels, like_outputs
from jaxnet.losses.terms import sum_by_example


def softmax_cross_entropy_forward(z: Outputs, y: Targets) -> Float[Array, " m"]:
    """L = -sum_k y_k log a_k with a = softmax(z)."""
    z, y = like_outputs("softmax_cross_entropy", z, y)
    log_a = _log_softmax(z)
    # 0 log 0 = 0: a class that is ruled out, by an output of -inf, and is not the target.
    return sum_by_example(-y * jnp.where((y == 0) & jnp.isinf(log_a), 0, log_a))


def softmax_cross_entropy_backward(z: Outputs, y: Targets) -> Outputs:
    """dz_j = sum_k y_k (a_j - [j = k]): a - y for targets that sum to 1.

    That is a_j sum_{k != j} y_k - y_j sum_{k != j} a_k, which keeps its digits where a_j is nearly y_j = 1.
    """
    z, y = like_outputs("softmax_cross_entropy", z, y)
    _, e, rest = _exponentials(z)
    largest = lax.stop_gradient(y.max(-1, keepdims=True))
    other_targets = _sum_but(largest, y) + (largest - y)
    minus_others = (e - 1) - rest
    return (e * other_targets + y * minus_others) / (1 + rest)


def softmax_cross_entropy_root_hessian(z: Outputs, y: Targets) -> Float[Array, "v m *f"]:
    """d2L/dz2 = (sum_k y_k) (diag(a) - a a^T), so S_v = sqrt(a_v sum_k y_k) (e_v - a)."""
    z, y = like_outputs("softmax_cross_entropy", z, y)
    return _softmax_root(z) * jnp.sqrt(y.sum(-1, keepdims=True))[None]


def softmax_cross_entropy_sample(key: jax.Array, z: Outputs) -> Outputs:
    """y ~ one-hot of Categorical(softmax(z))."""
    return jax.nn.one_hot(jax.random.categorical(key, z), z.shape[-1], dtype=z.dtype)


def softmax_cross_entropy_with_integer_labels_forward(
    z: Float[Array, "m *t o"], y: Shaped[Array, "..."]
) -> Float[Array, " m"]:
    """L = log(sum_k e^(z_k)) - z_y, which is -log a_y with a = softmax(z)."""
    z, y = integer_labels(z, y)
    at_label = labelled(z, y)
    cross_entropy = jnp.where(at_label, -_log_softmax(z), 0).sum(-1)
    return sum_by_example(jnp.where(at_label.any(-1), cross_entropy, jnp.nan))


def softmax_cross_entropy_with_integer_labels_backward(
    z: Float[Array, "m *t o"], y: Shaped[Array, "..."]
) -> Float[Array, "m *t o"]:
    """dz = a - onehot(y) with a = softmax(z); at the label a_y - 1 = -sum_{k != y} a_k, which keeps its digits."""
    z, y = integer_labels(z, y)
    _, e, rest = _exponentials(z)
    minus_others = (e - 1) - rest
    # The sum is taken for each output, not for each row: XLA then computes dz once for all that read it.
    return jnp.where(labelled(z, y), minus_others, e) / (e - minus_others)


def softmax_cross_entropy_with_integer_labels_root_hessian(
    z: Float[Array, "m *t o"], y: Shaped[Array, "..."]
) -> Float[Array, "v m *t o"]:
    """d2L/dz2 = diag(a) - a a^T, so S_v = sqrt(a_v) (e_v - a)."""
    z, _ = integer_labels(z, y)
    return _softmax_root(z)


def softmax_cross_entropy_with_integer_labels_sample(key: jax.Array, z: Outputs) -> Int[Array, " m *t"]:
    """y ~ Categorical(softmax(z))."""
    return jax.random.categorical(key, z)


softmax_cross_entropy = Loss(
    softmax_cross_entropy_forward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_root_hessian,
    softmax_cross_entropy_sample,
)
"""Several classes, from z before the softmax: L = -sum_k y_k log a_k, a = softmax(z); dz = a - y.

y has z's shape, (m, o): one-hot or soft targets, not negative, that should sum to 1 over the last axis; rows of any
other sum are weighted by it. 0 log 0 = 0: a class may be ruled out by an output of -inf where it is not the target.
Source: the lesson (docs/lesson.md), S5; `optax.losses.softmax_cross_entropy`.
"""


softmax_cross_entropy_with_integer_labels = Loss(
    softmax_cross_entropy_with_integer_labels_forward,
    softmax_cross_entropy_with_integer_labels_backward,
    softmax_cross_entropy_with_integer_labels_root_hessian,
    softmax_cross_entropy_with_integer_labels_sample,
)
"""Several classes, labelled by number: L = log(sum_k e^(z_k)) - z_y; dz = softmax(z) - onehot(y).

y is (m,), z's shape without the last axis, with integers from 0 to o - 1. A number outside is refused, and under jit,
where values are unknown, its loss is NaN.
Source: the lesson (docs/lesson.md), S5; `optax.losses.softmax_cross_entropy_with_integer_labels`.
"""


def _exponentials(z):
    """z_k - max_j z_j, its exponential e_k, and sum_k e_k - 1, the sum without that of the maximum.

    softmax(z) = e / (1 + rest), and sum_{k != j} e_k = rest + (1 - e_j), which keeps its digits where e_j is nearly all
    of the sum. Derivatives take the maximum for a constant, on which the softmax does not depend.
    """
    shifted = z - lax.stop_gradient(z.max(-1, keepdims=True))
    e = jnp.exp(shifted)
    return shifted, e, _sum_but(1, e)


def _sum_but(largest, values):
    """sum_k values_k - largest, for the largest of the values, without rounding it into the sum."""
    at_largest = (values == largest).astype(values.dtype)
    # Where several are the largest, each gives its part: so derivatives see them alike.
    return (values - largest * (at_largest / at_largest.sum(-1, keepdims=True))).sum(-1, keepdims=True)


def _log_softmax(z):
    """log a_k = z_k - max_j z_j - log(1 + rest), two terms of one sign."""
    shifted, _, rest = _exponentials(z)
    return shifted - jnp.log1p(rest)


def labelled(z, y):
    """Where each label's output is: a mask, as outputs may be spread over devices; none for a label out of range."""
    classes = lax.broadcasted_iota(y.dtype, z.shape, z.ndim - 1, out_sharding=jax.typeof(z).sharding)
    return classes == y[..., None]


def _softmax_root(z):
    """S (v, m, *t, o) with S_v = sqrt(a_v) (e_v - a) at v's own position, 0 at others; v counts (position, class)."""
    shifted, exponentials, rest = _exponentials(z)
    a, others = exponentials / (1 + rest), (rest + (1 - exponentials)) / (1 + rest)
    *positions, classes = a.shape[1:]
    count = math.prod(positions)
    e = jnp.eye(count * classes, dtype=z.dtype).reshape(-1, 1, *positions, classes)
    own_position = jnp.repeat(jnp.eye(count, dtype=z.dtype), classes, axis=0).reshape(-1, 1, *positions, 1)
    # From half of z, since a_v underflows before its root does.
    root = jnp.exp(shifted / 2) / jnp.sqrt(1 + rest)
    # As a sum over the outputs, which works where they are spread over devices, and v is not.
    root = (e * root[None]).sum(axis=tuple(range(2, 1 + a.ndim)), keepdims=True)
    return root * (e * others[None] - (own_position - e) * a[None])
