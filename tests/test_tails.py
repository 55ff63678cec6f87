"""Values, derivatives and roots keep their digits far out, in float32, against mpmath at the same arguments."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from mpmath import exp, log1p, mpf, sech, sqrt

import jaxnet as jn

EPS, TINY = (float(value) for value in (np.finfo(np.float32).eps, np.finfo(np.float32).tiny))
# From next to 0 to far beyond where exponentials overflow and underflow, of both signs, and both zeros.
SIZES = [np.logspace(-30, 0, 16), np.linspace(0.5, 30, 30), np.linspace(31, 110, 20), np.logspace(2.1, 4, 10)]
Z = np.concatenate([np.concatenate(SIZES), -np.concatenate(SIZES), [0.0, -0.0]]).astype(np.float32)
# Three outputs whose differences float32 has exactly, so that all rounding is the loss's own.
LOGITS = np.stack([Z, np.zeros_like(Z), -Z], axis=1)
# Probabilities down to the least and up to the largest below 1.
SHARES = np.concatenate([np.logspace(-37, -1, 37), [0.3, 0.5, 0.7], 1 - np.logspace(-7, -1, 20)]).astype(np.float32)
TARGETS = (0.0, 1.0, 0.25, 1 - 2.0**-20)
# Each quantity takes a handful of operations, and each operation, exponential or logarithm errs by at most 1 unit.
UNITS = 4


def eager(function):
    return lambda *arguments: function(*jax.tree.map(jnp.asarray, arguments))


both_ways = pytest.mark.parametrize("ready", [eager, jax.jit], ids=["eager", "jitted"])


@pytest.fixture(autouse=True)
def precision():
    with mpmath.workdps(40):
        yield


def exact(function, *columns):
    """The function of exact numbers for each example, in float64."""
    rows = zip(*(np.asarray(column, np.float64) for column in columns), strict=True)
    return np.array([float(function(*map(mpf, row))) for row in rows])


def assert_within(units, actual, expected, terms=None):
    """Relative to the sum of the terms' sizes, where they may cancel; below float32's normal numbers absolutely."""
    actual = np.asarray(actual, np.float64)
    assert np.isfinite(actual).all()
    size = np.maximum(np.abs(expected) if terms is None else terms, TINY / EPS)
    worst = np.abs(actual - expected) / (EPS * size)
    assert worst.max() <= units, f"{worst.max():.3g} units at {np.unravel_index(worst.argmax(), worst.shape)}"


def sigmoid(z):
    return 1 / (1 + exp(-z))


def others(j, *z):
    """sum_{k != j} e^(z_k - z_j): (1 - a_j) / a_j of the softmax a."""
    return sum(exp(z[k] - z[j]) for k in range(len(z)) if k != j)


def softmax(j, *z):
    return 1 / (1 + others(j, *z))


def rest_of_softmax(j, *z):
    return sum(softmax(k, *z) for k in range(len(z)) if k != j)


@both_ways
@pytest.mark.parametrize("y", TARGETS)
def test_sigmoid_cross_entropy(y, ready):
    forward, backward, root_hessian = map(ready, jn.losses.sigmoid_binary_cross_entropy[:3])
    z, targets, y = Z[:, None], np.full_like(Z[:, None], y), mpf(y)
    value = exact(lambda z: (1 - y) * log1p(exp(z)) + y * log1p(exp(-z)), Z)
    dz = exact(lambda z: (1 - y) * sigmoid(z) - y * sigmoid(-z), Z)
    terms = exact(lambda z: (1 - y) * sigmoid(z) + y * sigmoid(-z), Z)
    assert_within(UNITS, forward(z, targets), value)
    assert_within(UNITS, backward(z, targets)[:, 0], dz, terms)
    assert_within(UNITS, root_hessian(z, targets)[0, :, 0], exact(lambda z: sqrt(sigmoid(z) * sigmoid(-z)), Z))


@both_ways
@pytest.mark.parametrize("label", range(3))
def test_softmax_cross_entropy_of_a_label(label, ready):
    labels = np.full(len(Z), label)
    value = exact(lambda *z: log1p(others(label, *z)), *LOGITS.T)
    dz = [exact(lambda *z, j=j: -rest_of_softmax(j, *z) if j == label else softmax(j, *z), *LOGITS.T) for j in range(3)]
    root = [
        [
            exact(lambda *z, v=v, j=j: sqrt(softmax(v, *z)) * (rest_of_softmax(v, *z) if v == j else -softmax(j, *z)),
                  *LOGITS.T)
            for j in range(3)
        ]
        for v in range(3)
    ]  # fmt: skip
    for name, y in (
        ("softmax_cross_entropy_with_integer_labels", labels),
        ("softmax_cross_entropy", np.eye(3, dtype=np.float32)[labels]),
    ):
        forward, backward, root_hessian = map(ready, getattr(jn.losses, name)[:3])
        assert_within(UNITS, forward(LOGITS, y), value)
        assert_within(UNITS, backward(LOGITS, y), np.stack(dz, axis=1))
        assert_within(UNITS, np.moveaxis(root_hessian(LOGITS, y), 1, 2), root)


@both_ways
def test_softmax_cross_entropy_of_soft_targets(ready):
    y = np.float32([0.7, 0.3 - 2.0**-20, 2.0**-20])
    forward, backward, _ = map(ready, jn.losses.softmax_cross_entropy[:3])
    targets = np.broadcast_to(y, LOGITS.shape)
    y = [mpf(float(value)) for value in y]
    value = exact(lambda *z: sum(y[k] * log1p(others(k, *z)) for k in range(3)), *LOGITS.T)
    to, fro = (
        np.stack([exact(lambda *z, j=j, term=term: term(j, *z), *LOGITS.T) for j in range(3)], axis=1)
        for term in (
            lambda j, *z: softmax(j, *z) * sum(y[k] for k in range(3) if k != j),
            lambda j, *z: rest_of_softmax(j, *z) * y[j],
        )
    )
    assert_within(UNITS, forward(LOGITS, targets), value)
    assert_within(UNITS, backward(LOGITS, targets), to - fro, terms=to + fro)


@both_ways
@pytest.mark.parametrize("y", TARGETS)
def test_cross_entropy_of_probabilities(y, ready):
    forward, backward, root_hessian = map(ready, jn.losses.binary_cross_entropy[:3])
    a, targets, y = SHARES[:, None], np.full_like(SHARES[:, None], y), mpf(y)
    da, terms = (exact(lambda a, s=s: (1 - y) / (1 - a) + s * y / a, SHARES) for s in (-1, 1))
    assert_within(UNITS, forward(a, targets), exact(lambda a: -y * mpmath.log(a) - (1 - y) * log1p(-a), SHARES))
    assert_within(UNITS, backward(a, targets)[:, 0], da, terms)
    root = exact(lambda a: sqrt(y / a**2 + (1 - y) / (1 - a) ** 2), SHARES)
    assert_within(UNITS, root_hessian(a, targets)[0, :, 0], root)


@both_ways
def test_half_squared_error(ready):
    forward, backward, _ = map(ready, jn.losses.half_squared_error[:3])
    z, y = Z[:, None], np.full_like(Z[:, None], 0.3)
    exact_y = mpf(float(np.float32(0.3)))
    dz = exact(lambda z: z - exact_y, Z)
    assert_within(UNITS, forward(z, y), exact(lambda z: (z - exact_y) ** 2 / 2, Z))
    assert_within(UNITS, backward(z, y)[:, 0], dz)


# What its rounded output leaves to be known of a slope: a unit of a, times the slope's change with a.
ACTIVATIONS = {
    "sigmoid": (jn.sigmoid, sigmoid, lambda z: sigmoid(z) * sigmoid(-z), lambda z: abs(1 - 2 * sigmoid(z))),
    "tanh": (jn.tanh, mpmath.tanh, lambda z: sech(z) ** 2, lambda z: abs(2 * mpmath.tanh(z))),
    "softplus": (jn.softplus, lambda z: log1p(exp(z)), sigmoid, lambda z: 0),
    "relu": (jn.relu, lambda z: max(z, 0), lambda z: int(z > 0), lambda z: 0),
    "leaky_relu": (jn.leaky_relu(0.25), lambda z: z if z > 0 else z / 4, lambda z: 1 if z > 0 else 0.25, lambda z: 0),
    "identity": (jn.identity, lambda z: z, lambda z: 1, lambda z: 0),
    "elu": (jn.elu(), lambda z: z if z > 0 else mpmath.expm1(z), lambda z: 1 if z > 0 else exp(z), lambda z: 1),
    "log_sigmoid": (jn.log_sigmoid, lambda z: -log1p(exp(-z)), lambda z: sigmoid(-z), lambda z: 0),
    "softsign": (jn.softsign, lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2, lambda z: 0),
    "hard_tanh": (jn.hard_tanh, lambda z: max(-1, min(1, z)), lambda z: int(abs(z) <= 1), lambda z: 0),
}


@both_ways
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, ready):
    """The slope is that of the output as it was rounded, since that is what is kept."""
    layer, function, slope, change = ACTIVATIONS[name]
    forward, backward = map(ready, (layer.forward, layer.backward))
    a, cache = forward((), Z)
    _, dz = backward((), cache, jnp.ones_like(a))
    a_exact, slopes = exact(function, Z), exact(slope, Z)
    assert_within(UNITS, a, a_exact)
    assert_within(UNITS, dz, slopes, terms=slopes + np.abs(a_exact) * exact(change, Z))


# Of self-gated activations a, g' and g'' with the sizes of their terms, at a z that is right to the last place: where
# their exponentials fall steeply, a unit of z is many of theirs.
SELF_GATED = {
    "silu": lambda z: z * sigmoid(z),
    "gelu": lambda z: z * mpmath.erfc(-z / sqrt(2)) / 2,
    "gelu_tanh": lambda z: z * sigmoid(sqrt(8 / mpmath.pi) * (z + mpf("0.044715") * z**3)),
}


@both_ways
@pytest.mark.parametrize("name", SELF_GATED)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_self_gated_activations(name, dtype, ready):
    layer, function = getattr(jn, name), SELF_GATED[name]
    z = jnp.asarray(Z[np.abs(Z) < 1e3], dtype)
    exact_z, eps = np.float64(z), float(jnp.finfo(dtype).eps)
    near = np.clip(exact_z, -120, 120)
    forward, backward, second = map(ready, (layer.forward, layer.backward, layer.second))
    a, cache = forward((), z)
    _, slope = backward((), cache, jnp.ones_like(a))
    bend = second((), cache, jnp.ones_like(a))
    for order, actual in enumerate(map(np.float64, (a, slope, bend))):
        expected = exact(lambda z, order=order: mpmath.diff(function, z, order, h=mpf(10) ** -20), near)
        steep = exact(lambda z, order=order: z * mpmath.diff(function, z, order + 1, h=mpf(10) ** -20), near)
        # Beyond 120 nothing changes any more, but for a, which then is z or 0. Below float32's normal numbers there is
        # nothing of the gate, by which z is multiplied.
        expected = np.where(near == exact_z, expected, np.where(exact_z > 0, [exact_z, 1, 0][order], 0.0))
        size = np.maximum(np.abs(expected) + UNITS * np.abs(steep), TINY / eps * np.maximum(1, np.abs(exact_z)))
        assert np.isfinite(actual).all()
        worst = np.abs(actual - expected) / (eps * size)
        assert worst.max() <= UNITS, f"{order}: {worst.max():.3g} units at {exact_z[worst.argmax()]}"


@both_ways
def test_a_class_that_is_ruled_out_costs_nothing(ready):
    """0 log 0 = 0, of outputs of -inf and of finite ones whose difference overflows; gradients are finite."""
    z = np.float32([[0.0, -np.inf, 1.0], [3e38, -3e38, 0.0], [-3e38, 3e38, 3e38]])
    labels = jnp.array([0, 0, 1])
    one_hot = jnp.eye(3)[labels]
    expected = [np.log1p(np.e), 0.0, np.log(2)]
    softmaxes = np.array([[1 / (1 + np.e), 0, np.e / (1 + np.e)], [1, 0, 0], [0, 0.5, 0.5]])
    for loss, y in (
        (jn.losses.softmax_cross_entropy, one_hot),
        (jn.losses.softmax_cross_entropy_with_integer_labels, labels),
    ):
        forward, backward, root_hessian = map(ready, loss[:3])
        assert_within(UNITS, forward(z, y), expected)
        # The entry a_y - 1 may be the difference of the two that are given here.
        np.testing.assert_allclose(backward(z, y), softmaxes - one_hot, rtol=UNITS * EPS, atol=EPS)
        through = jax.grad(lambda z, y=y, loss=loss: loss.forward(z, y).sum())(jnp.asarray(z))
        np.testing.assert_allclose(through, softmaxes - one_hot, rtol=UNITS * EPS, atol=EPS)
        assert np.isfinite(root_hessian(z, y)).all()


def test_infinite_outputs_that_are_right_cost_nothing():
    loss = jn.losses.sigmoid_binary_cross_entropy
    z, y = jnp.array([[np.inf], [-np.inf], [np.inf]]), jnp.array([[1], [0], [0.5]])
    np.testing.assert_array_equal(loss.forward(z, y), [0, 0, np.inf])
    np.testing.assert_array_equal(loss.backward(z, y), [[0], [0], [0.5]])
    np.testing.assert_array_equal(jax.grad(lambda z: loss.forward(z[:2], y[:2]).sum())(z)[:2], [[0], [0]])


def test_probabilities_that_have_rounded_to_the_right_end_cost_nothing():
    loss = jn.losses.binary_cross_entropy
    a = y = jnp.array([[0.0], [1.0]])
    np.testing.assert_array_equal(loss.forward(a, y), [0, 0])
    np.testing.assert_array_equal(loss.backward(a, y), [[1], [-1]])
    np.testing.assert_array_equal(jax.grad(lambda a: loss.forward(a, y).sum())(a), [[1], [-1]])
    np.testing.assert_array_equal(loss.root_hessian(a, y), [[[1], [1]]])
    # L'' = 1 / (1 - a)^2 and 1 / a^2.
    np.testing.assert_array_equal(jax.grad(lambda a: loss.backward(a, y).sum())(a), [[1], [1]])
    wrong = np.asarray(loss.backward(a, 1 - y))
    np.testing.assert_array_equal(wrong, [[-np.inf], [np.inf]])
