"""What the network's output costs, and what is sent back from it.

z is (m, ..., o) with the example first; a loss has one value for each example, summed over all other axes. Nothing
here carries the 1/m of a mean: that belongs to the reading. For every pair of a loss with the output unit that suits
it, the signal sent back is the same: dZ = A - Y.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Real, Shaped

from jaxnet.description import InstanceDoc, call_of

__all__ = [
    "Loss",
    "binary_cross_entropy",
    "half_squared_error",
    "sigmoid_binary_cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
]


def __dir__() -> list[str]:
    return __all__


Outputs = Float[Array, "m *f"]
Targets = Real[Array, "..."]


class Loss(NamedTuple):
    """Four pure functions: the loss, its derivative by hand, a root of its curvature, and its predictive distribution.

    Printed, a loss shows its name, and `help` tells the equations.

    Attributes:
      forward: `(z, y) -> (m,)`, each example's loss.
      backward: `(z, y) -> dz`, the derivative of each example's loss, of z's shape, without 1/m.
      root_hessian: `(z, y) -> S (v, *z.shape)` with sum_v S_v S_v^T the second derivative of each example's loss.
      sample: `(key, z) -> y`, targets drawn from the distribution whose negative log-likelihood the loss is.
    """

    forward: Callable[[Outputs, Any], Float[Array, " m"]]
    backward: Callable[[Outputs, Any], Outputs]
    root_hessian: Callable[[Outputs, Any], Float[Array, "v m *f"]]
    sample: Callable[[jax.Array, Outputs], Shaped[Array, "m ..."]]

    def __call__(self, z: Outputs, y: Any) -> Float[Array, " m"]:
        """`loss(z, y)` is `loss.forward(z, y)`. Give `jax.jit` the latter: it takes no tuple for a function."""
        return self.forward(z, y)

    def __repr__(self) -> str:
        return call_of(self.forward)


Loss.__doc__ = cast(Any, InstanceDoc(Loss.__doc__))


def sigmoid_binary_cross_entropy_forward(z: Outputs, y: Targets) -> Float[Array, " m"]:
    """L = -[y log a + (1 - y) log(1 - a)] with a = sigmoid(z), from z.

    With d = |z|, the likelier class has -log = log(1 + e^-d) and the other d + log(1 + e^-d), so that
    L = w d + log(1 + e^-d) where w, the weight of the other class, is 1 - y for z > 0 and y elsewhere. No exponential
    overflows, and no two terms cancel.
    """
    z, y = _like_outputs("sigmoid_binary_cross_entropy", z, y)
    d = _distance(z)
    w = jnp.where(z > 0, 1 - y, y)
    # 0 log 0 = 0, where z is infinite and y as sure.
    lost = w * jnp.where((w == 0) & jnp.isinf(d), 0, d)
    return _sum_by_example(lost + jnp.log1p(jnp.exp(-d)))


def sigmoid_binary_cross_entropy_backward(z: Outputs, y: Targets) -> Outputs:
    """dz = (a - y) / (a (1 - a)) * a (1 - a) = a - y.

    That is (1 - y) a - y (1 - a), which keeps its digits where a is nearly y = 1. With e = e^-|z|, a and 1 - a are
    1 / (1 + e) and e / (1 + e), in this order for z > 0.
    """
    z, y = _like_outputs("sigmoid_binary_cross_entropy", z, y)
    # Forward shares e when both are compiled in one program.
    e = jnp.exp(-_distance(z))
    return jnp.where(z > 0, (1 - y) - y * e, (1 - y) * e - y) / (1 + e)


def sigmoid_binary_cross_entropy_root_hessian(z: Outputs, y: Targets) -> Float[Array, "v m *f"]:
    """d2L/dz2 = diag(a (1 - a)), so S_v = sqrt(a_v (1 - a_v)) e_v = e^-|z_v|/2 / (1 + e^-|z_v|) e_v."""
    z, _ = _like_outputs("sigmoid_binary_cross_entropy", z, y)
    h = jnp.exp(-_distance(z) / 2)
    return _diagonal_root(h / (1 + h * h))


def sigmoid_binary_cross_entropy_sample(key: jax.Array, z: Outputs) -> Outputs:
    """y ~ Bernoulli(sigmoid(z))."""
    return jax.random.bernoulli(key, jax.nn.sigmoid(z)).astype(z.dtype)


def softmax_cross_entropy_forward(z: Outputs, y: Targets) -> Float[Array, " m"]:
    """L = -sum_k y_k log a_k with a = softmax(z)."""
    z, y = _like_outputs("softmax_cross_entropy", z, y)
    log_a = _log_softmax(z)
    # 0 log 0 = 0: a class that is ruled out, by an output of -inf, and is not the target.
    return _sum_by_example(-y * jnp.where((y == 0) & jnp.isinf(log_a), 0, log_a))


def softmax_cross_entropy_backward(z: Outputs, y: Targets) -> Outputs:
    """dz_j = sum_k y_k (a_j - [j = k]): a - y for targets that sum to 1.

    That is a_j sum_{k != j} y_k - y_j sum_{k != j} a_k, which keeps its digits where a_j is nearly y_j = 1.
    """
    z, y = _like_outputs("softmax_cross_entropy", z, y)
    _, e, rest = _exponentials(z)
    largest = lax.stop_gradient(y.max(-1, keepdims=True))
    other_targets = _sum_but(largest, y) + (largest - y)
    minus_others = (e - 1) - rest
    return (e * other_targets + y * minus_others) / (1 + rest)


def softmax_cross_entropy_root_hessian(z: Outputs, y: Targets) -> Float[Array, "v m *f"]:
    """d2L/dz2 = (sum_k y_k) (diag(a) - a a^T), so S_v = sqrt(a_v sum_k y_k) (e_v - a)."""
    z, y = _like_outputs("softmax_cross_entropy", z, y)
    return _softmax_root(z) * jnp.sqrt(y.sum(-1, keepdims=True))[None]


def softmax_cross_entropy_sample(key: jax.Array, z: Outputs) -> Outputs:
    """y ~ one-hot of Categorical(softmax(z))."""
    return jax.nn.one_hot(jax.random.categorical(key, z), z.shape[-1], dtype=z.dtype)


def softmax_cross_entropy_with_integer_labels_forward(
    z: Float[Array, "m *t o"], y: Shaped[Array, "..."]
) -> Float[Array, " m"]:
    """L = log(sum_k e^(z_k)) - z_y, which is -log a_y with a = softmax(z)."""
    z, y = _integer_labels(z, y)
    labelled = _labelled(z, y)
    cross_entropy = jnp.where(labelled, -_log_softmax(z), 0).sum(-1)
    return _sum_by_example(jnp.where(labelled.any(-1), cross_entropy, jnp.nan))


def softmax_cross_entropy_with_integer_labels_backward(
    z: Float[Array, "m *t o"], y: Shaped[Array, "..."]
) -> Float[Array, "m *t o"]:
    """dz = a - onehot(y) with a = softmax(z); at the label a_y - 1 = -sum_{k != y} a_k, which keeps its digits."""
    z, y = _integer_labels(z, y)
    _, e, rest = _exponentials(z)
    minus_others = (e - 1) - rest
    # The sum is taken for each output, not for each row: XLA then computes dz once for all that read it.
    return jnp.where(_labelled(z, y), minus_others, e) / (e - minus_others)


def softmax_cross_entropy_with_integer_labels_root_hessian(
    z: Float[Array, "m *t o"], y: Shaped[Array, "..."]
) -> Float[Array, "v m *t o"]:
    """d2L/dz2 = diag(a) - a a^T, so S_v = sqrt(a_v) (e_v - a)."""
    z, _ = _integer_labels(z, y)
    return _softmax_root(z)


def softmax_cross_entropy_with_integer_labels_sample(key: jax.Array, z: Outputs) -> Int[Array, " m *t"]:
    """y ~ Categorical(softmax(z))."""
    return jax.random.categorical(key, z)


def half_squared_error_forward(z: Outputs, y: Targets) -> Float[Array, " m"]:
    """L = (1/2) sum_k (z_k - y_k)^2."""
    z, y = _like_outputs("half_squared_error", z, y)
    return _sum_by_example(0.5 * (z - y) ** 2)


def half_squared_error_backward(z: Outputs, y: Targets) -> Outputs:
    """dz = z - y."""
    z, y = _like_outputs("half_squared_error", z, y)
    return z - y


def half_squared_error_root_hessian(z: Outputs, y: Targets) -> Float[Array, "v m *f"]:
    """d2L/dz2 = I, so S_v = e_v."""
    z, _ = _like_outputs("half_squared_error", z, y)
    return _diagonal_root(jnp.ones_like(z))


def half_squared_error_sample(key: jax.Array, z: Outputs) -> Outputs:
    """y ~ N(z, I)."""
    return z + jax.random.normal(key, z.shape, z.dtype)


def binary_cross_entropy_forward(a: Outputs, y: Targets) -> Float[Array, " m"]:
    """L = -[y log a + (1 - y) log(1 - a)], with 0 log 0 = 0."""
    a, y = _like_outputs("binary_cross_entropy", a, y)
    # Where a factor 0 meets the logarithm of 0, that of 1 takes its place.
    log_a = jnp.log(jnp.where((y == 0) & (a == 0), 1, a))
    log_rest = jnp.log1p(-jnp.where((y == 1) & (a == 1), 0, a))
    return _sum_by_example(-(y * log_a + (1 - y) * log_rest))


def binary_cross_entropy_backward(a: Outputs, y: Targets) -> Outputs:
    """da = (a - y) / (a (1 - a)): 1 / (1 - a) for y = 0, -1 / a for y = 1.

    Not finite where a has rounded to the wrong end, 0 or 1, which the form from z does not suffer.
    """
    a, y = _like_outputs("binary_cross_entropy", a, y)
    # 0 / 0 where a has rounded to the right end: there the numerator cancels a factor of the denominator.
    at_zero, at_one = (y == 0) & (a == 0), (y == 1) & (a == 1)
    numerator = jnp.where(at_zero, 1, jnp.where(at_one, -1, a - y))
    return numerator / (jnp.where(at_zero, 1, a) * jnp.where(at_one, 1, 1 - a))


def binary_cross_entropy_root_hessian(a: Outputs, y: Targets) -> Float[Array, "v m *f"]:
    """d2L/da2 = diag(y / a^2 + (1 - y) / (1 - a)^2), so S_v is its root at v times e_v."""
    a, y = _like_outputs("binary_cross_entropy", a, y)
    # Mixed labels leave [0, 1] by rounding.
    y = jnp.clip(y, 0, 1)
    # By hypot, since the squares alone overflow.
    of_one = jnp.sqrt(y) / jnp.where(y == 0, 1, a)
    of_zero = jnp.sqrt(1 - y) / jnp.where(y == 1, 1, 1 - a)
    return _diagonal_root(jnp.hypot(of_one, of_zero))


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
is; an infinite z that is right costs 0. Source: the lesson, S8 and S9; `optax.losses.sigmoid_binary_cross_entropy`.
"""

softmax_cross_entropy = Loss(
    softmax_cross_entropy_forward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_root_hessian,
    softmax_cross_entropy_sample,
)
"""Several classes, from z before the softmax: L = -sum_k y_k log a_k, a = softmax(z); dz = a - y.

y has z's shape, (m, o): one-hot or soft targets, not negative, that should sum to 1 over the last axis; rows of any
other sum are weighted by it. 0 log 0 = 0: a class may be ruled out by an output of -inf where it is not the target.
Source: the lesson, S5; `optax.losses.softmax_cross_entropy`.
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
Source: the lesson, S5; `optax.losses.softmax_cross_entropy_with_integer_labels`.
"""

half_squared_error = Loss(
    half_squared_error_forward,
    half_squared_error_backward,
    half_squared_error_root_hessian,
    half_squared_error_sample,
)
"""Regression: L = (1/2) sum_k (z_k - y_k)^2; dz = z - y.

y has z's shape, (m, o). Source: the lesson, S5; the sum over outputs of `optax.losses.l2_loss`.
"""

binary_cross_entropy = Loss(
    binary_cross_entropy_forward,
    binary_cross_entropy_backward,
    binary_cross_entropy_root_hessian,
    binary_cross_entropy_sample,
)
"""Two classes, from a = sigmoid(z): L = -[y log a + (1 - y) log(1 - a)]; da = (a - y) / (a (1 - a)).

The lesson's plain form, to read along with it, behind a network that ends in `sigmoid`. Training uses
`sigmoid_binary_cross_entropy`, which is finite where a rounds to 0 or 1. Source: the lesson, S8 and S9.
"""


def _sum_by_example(values):
    return values.sum(axis=tuple(range(1, values.ndim)))


def _diagonal_root(root):
    """S (v, m, *f) with S_v = root_v e_v, from the root (m, *f) of a diagonal Hessian; v counts the outputs *f."""
    outputs = root.shape[1:]
    columns = jnp.eye(math.prod(outputs), dtype=root.dtype).reshape(-1, 1, *outputs)
    return columns * root[None]


def _distance(z):
    """|z|, with one side's derivatives at 0: where a function is smooth there, both sides have the same."""
    return jnp.where(z > 0, z, -z)


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


def _labelled(z, y):
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


# What y may be at most where it stands for probabilities; rows of another sum than 1 are weighted by it.
PROBABILITIES = {"sigmoid_binary_cross_entropy": 1.0, "binary_cross_entropy": 1.0, "softmax_cross_entropy": math.inf}


def _like_outputs(name, z, y):
    given = y
    z, y = jnp.asarray(z), jnp.asarray(y)
    _check_floating(name, z)
    if y.shape != z.shape:
        hint = "; give y a last axis with y[..., None]" if (*y.shape, 1) == z.shape else ""
        raise ValueError(f"{name}: expected y of the outputs' shape {z.shape}, got {y.shape}{hint}")
    if name in PROBABILITIES:
        _check_probabilities(name, given, z.dtype)
    return z, y.astype(z.dtype)


def _integer_labels(z, y):
    name = "softmax_cross_entropy_with_integer_labels"
    given = y
    z, y = jnp.asarray(z), jnp.asarray(y)
    _check_floating(name, z)
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(
            f"{name}: expected integer labels, got {y.dtype}; one-hot or soft targets are for softmax_cross_entropy"
        )
    if y.shape != z.shape[:-1]:
        raise ValueError(
            f"{name}: expected y of shape {z.shape[:-1]}, the outputs' without the last axis, got {y.shape}"
        )
    last = z.shape[-1] - 1
    _check_values(given, lambda y: (y >= 0) & (y <= last), f"{name}: expected labels from 0 to {last}")
    return z, y


def _check_probabilities(name, y, dtype):
    most = PROBABILITIES[name]

    def fits(y):
        # Mixed labels, a y + (1 - a) y, leave [0, 1] by rounding: in their own type, and in the outputs' after that.
        types = [dtype, y.dtype] if jnp.issubdtype(y.dtype, jnp.floating) else []
        rounding = 4 * max((float(jnp.finfo(one).eps) for one in types), default=0.0)
        return (y >= -rounding) & (y <= most + rounding) & np.isfinite(y)

    if most == 1:
        expected, hint = "values of y in [0, 1]", "; labels of -1 and 1 become such by (y + 1) / 2"
    else:
        expected, hint = "values of y of at least 0, and finite", ""
    _check_values(y, fits, f"{name}: expected {expected}", hint)


def _check_values(y, fit, expected, hint=""):
    """Refuses targets where their values are known; under jit they are not."""
    if isinstance(y, jax.core.Tracer) or not getattr(y, "is_fully_addressable", True):
        return
    values = np.asarray(y)
    wrong = np.argwhere(~fit(values))
    if len(wrong):
        raise ValueError(f"{expected}, got {values[tuple(wrong[0])]} at y{wrong[0].tolist()}{hint}")


def _check_floating(name, z):
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise ValueError(f"{name}: expected floating-point outputs, got {z.dtype}")
