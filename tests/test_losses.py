import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import softmax

import jaxnet as jn

SHAPES = [(6, 1), (6, 3), (4, 2, 3)]
NAMES = [
    "sigmoid_binary_cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "half_squared_error",
    "binary_cross_entropy",
]
ELEMENTWISE = {
    "sigmoid_binary_cross_entropy": lambda z, y: ELEMENTWISE["binary_cross_entropy"](1 / (1 + np.exp(-z)), y),
    "softmax_cross_entropy": lambda z, y: -y * np.log(softmax(z)),
    "softmax_cross_entropy_with_integer_labels": lambda z, y: -y * np.log(softmax(z)),
    "half_squared_error": lambda z, y: (z - y) ** 2 / 2,
    "binary_cross_entropy": lambda a, y: -(y * np.log(a) + (1 - y) * np.log(1 - a)),
}
every_loss = pytest.mark.parametrize("name", NAMES)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def example(name, shape, key):
    """Outputs and targets of the kind that the loss takes."""
    z_key, y_key = jax.random.split(key)
    z = 2 * jax.random.normal(z_key, shape)
    if name == "softmax_cross_entropy_with_integer_labels":
        return z, jax.random.randint(y_key, shape[:-1], 0, shape[-1])
    if name == "softmax_cross_entropy":
        return z, jax.nn.softmax(jax.random.normal(y_key, shape))
    if name == "half_squared_error":
        return z, jax.random.normal(y_key, shape)
    y = jax.random.uniform(y_key, shape)
    return (jax.nn.sigmoid(z), y) if name == "binary_cross_entropy" else (z, y)


# Single outputs of those that treat them alone, or for which they are certain; without positions they are asked behind
# networks, in tests/test_gradient.py, and below.
@pytest.mark.parametrize(
    ("name", "shape"), [(name, SHAPES[2]) for name in NAMES] + [(name, SHAPES[0]) for name in NAMES[:3]]
)
def test_backward_root_hessian_and_sample_are_right(name, shape, key):
    # The softmax of a single output is 1, whatever the output.
    certain = "softmax" in name and shape[-1] == 1
    jn.testing.check_loss(getattr(jn.losses, name), *example(name, shape, key), zero_gradients=certain)


@every_shape
def test_forward_equals_numpy_and_optax(shape, x64, key):
    given = {name: example(name, shape, key) for name in NAMES}

    @jax.jit
    def both(given):
        ours = {name: getattr(jn.losses, name).forward(*pair) for name, pair in given.items()}
        return ours, {name: getattr(optax.losses, name)(*given[name]) for name in NAMES[:3]}

    ours, of_optax = both(given)
    for name, (z, y) in jax.device_get(given).items():
        targets = np.eye(shape[-1])[y] if name.endswith("labels") else y
        # log(1 - a) loses a digit or two where a is near 1, in the reference.
        expected = ELEMENTWISE[name](z, targets).reshape(shape[0], -1).sum(1)
        np.testing.assert_allclose(ours[name], expected, rtol=1e-12, atol=1e-14, err_msg=name)
    for name, theirs in of_optax.items():
        np.testing.assert_allclose(ours[name], theirs.reshape(shape[0], -1).sum(1), rtol=1e-13, err_msg=name)


def test_half_squared_error_is_the_sum_of_optaxs_l2_loss(x64, key):
    z, y = example("half_squared_error", (4, 2, 3), key)
    theirs = optax.losses.l2_loss(z, y).reshape(4, -1).sum(1)
    np.testing.assert_allclose(jn.losses.half_squared_error.forward(z, y), theirs, rtol=1e-14)


@pytest.mark.parametrize("name", ["sigmoid_binary_cross_entropy", "softmax_cross_entropy", "half_squared_error"])
def test_every_canonical_pair_sends_back_a_minus_y(name, x64, key):
    z, y = example(name, (6, 3), key)
    a = {"sigmoid_binary_cross_entropy": jax.nn.sigmoid, "softmax_cross_entropy": jax.nn.softmax}.get(name, lambda z: z)
    np.testing.assert_allclose(getattr(jn.losses, name).backward(z, y), a(z) - y, rtol=1e-12, atol=1e-15)


def test_softmax_targets_of_any_sum_are_weighted_by_it(key):
    z, y = example("softmax_cross_entropy", (4, 2, 3), key)
    rows = jnp.array([0.0, 1.0, 2.0, 0.5])[:, None, None]
    loss = jn.losses.softmax_cross_entropy
    _, pullback = jax.vjp(lambda z: loss.forward(z, y * rows), z)
    (expected,) = pullback(jnp.ones(4))
    # float32 rounds at 6e-8.
    np.testing.assert_allclose(loss.backward(z, y * rows), expected, atol=5e-7)
    assert (loss.backward(z, y * rows)[0] == 0).all()


@every_loss
def test_samples_have_the_models_mean_and_the_hessians_covariance(name, x64, key):
    """E[dz] = 0 and E[dz dz^T] = E[d2L/dz2] under the loss's own distribution."""
    loss = getattr(jn.losses, name)
    z, _ = example(name, (3, 2), key)
    draws = 40_000

    @jax.jit
    def statistics(keys):
        samples = jax.vmap(lambda key: loss.sample(key, z))(keys)
        dz = jax.vmap(lambda y: loss.backward(z, y))(samples)
        S = jax.vmap(lambda y: loss.root_hessian(z, y))(samples)
        outer = dz[..., :, None] * dz[..., None, :] - jnp.einsum("nvmi,nvmj->nmij", S, S)
        return [(statistic.mean(0), statistic.std(0)) for statistic in (dz, outer)]

    for mean, deviation in statistics(jax.random.split(key, draws)):
        # Five standard errors, or rounding where the statistic does not vary.
        assert (np.abs(mean) <= 5 * np.asarray(deviation) / np.sqrt(draws) + 1e-12).all()


@every_loss
def test_samples_look_like_targets(name, key):
    loss = getattr(jn.losses, name)
    z, y = example(name, (4, 2, 3), key)
    sample = loss.sample(key, z)
    assert sample.shape == y.shape
    assert sample.dtype == y.dtype
    assert np.isfinite(loss.forward(z, sample)).all()


@pytest.mark.parametrize("name", NAMES[:3])
def test_huge_outputs_stay_finite_in_float32(name):
    z = jnp.array([[1e4, -1e4], [-1e4, 1e4]], jnp.float32)
    y = jnp.array([0, 0]) if name.endswith("labels") else jnp.array([[1.0, 0.0], [1.0, 0.0]])
    loss = getattr(jn.losses, name)
    np.testing.assert_allclose(loss.forward(z, y), [0, 2e4])
    expected = [[0, 0], [-1, 1]]
    np.testing.assert_array_equal(loss.backward(z, y), expected)
    assert np.isfinite(loss.root_hessian(z, y)).all()


# Zeros of both signs, ties, and points on both sides of where the stable forms change branches.
SPECIAL_POINTS = [(0.0, 0.0), (-0.0, 0.0), (-0.0, -0.0), (1.5, 1.5), (-1.5, -1.5), (0.0, 2.0), (5e-324, -5e-324)]


@pytest.mark.parametrize("name", NAMES[:4])
def test_derivatives_through_autodiff_are_right_at_special_points(name, x64):
    """All-zero weights give z = 0, where max(0, z) and |z| have kinks and the losses must not."""
    loss = getattr(jn.losses, name)
    m = 3 * len(SPECIAL_POINTS)
    z, label = jnp.array(np.repeat(SPECIAL_POINTS, 3, axis=0)), jnp.array([1, 0, 1] * len(SPECIAL_POINTS))
    soft = [[0.0, 1.0], [1.0, 0.0], [0.25, 0.75]] * len(SPECIAL_POINTS)
    y = label if name.endswith("labels") else jnp.array(soft)
    targets = np.eye(2)[label] if name.endswith("labels") else np.asarray(y)
    a = {"sig": lambda z: 1 / (1 + np.exp(-z)), "sof": softmax, "hal": lambda z: z}[name[:3]](np.asarray(z))
    outer = a[:, :, None] * (np.eye(2) - a[:, None, :])
    hessian = {"sig": np.eye(2) * (a * (1 - a))[:, None], "sof": outer, "hal": np.eye(2)}
    hessian = np.broadcast_to(hessian[name[:3]], (m, 2, 2))

    def value(z):
        return loss.forward(z, y).sum()

    @jax.jit
    def derivatives(z):
        second = jax.jacfwd(lambda z: loss.backward(z, y)), jax.jacrev(jax.grad(value)), jax.hessian(value)
        return [jax.grad(value)(z), loss.backward(z, y)], [of(z) for of in second], loss.root_hessian(z, y)

    slopes, bends, S = jax.device_get(derivatives(z))
    # The closed forms lose at most the digits of a - y.
    exact = {"rtol": 1e-14, "atol": 1e-15}
    for slope in slopes:
        np.testing.assert_allclose(slope, a - targets, **exact)
    for bend in bends:
        np.testing.assert_allclose(np.einsum("manb,mn->mab", bend, np.eye(m)), hessian, **exact)
    np.testing.assert_allclose(np.einsum("vma,vmb->mab", S, S), hessian, **exact)


def test_the_derivative_in_the_targets_is_right_at_certain_ones(x64):
    """dL/dy = -z, also where y is 0 or 1 and an infinite z would need care."""
    loss, z, y = jn.losses.sigmoid_binary_cross_entropy, jnp.array([[3.0], [-3.0], [0.0]]), jnp.array([[1.0], [0], [1]])
    np.testing.assert_array_equal(jax.grad(lambda y: loss.forward(z, y).sum())(y), -z)
    np.testing.assert_allclose(jax.grad(lambda y: loss.backward(z, y).sum())(y), -jnp.ones_like(z), rtol=1e-15)
    loss, a = jn.losses.binary_cross_entropy, jnp.array([[0.25], [0.75], [0.5]])
    np.testing.assert_array_equal(jax.grad(lambda y: loss.forward(a, y).sum())(y), jnp.log1p(-a) - jnp.log(a))
    np.testing.assert_allclose(jax.grad(lambda y: loss.backward(a, y).sum())(y), -1 / (a * (1 - a)), rtol=1e-15)


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize("part", ["forward", "backward", "root_hessian"])
@pytest.mark.parametrize(
    ("name", "z", "y", "message"),
    [
        (
            "half_squared_error",
            np.ones((3, 1), np.float32),
            np.ones(3, np.float32),
            "half_squared_error: expected y of the outputs' shape (3, 1), got (3,); "
            "give y a last axis with y[..., None]",
        ),
        (
            "softmax_cross_entropy",
            np.ones((3, 2), np.float32),
            np.ones((3, 4), np.float32),
            "softmax_cross_entropy: expected y of the outputs' shape (3, 2), got (3, 4)",
        ),
        (
            "sigmoid_binary_cross_entropy",
            np.ones((3, 2), np.int32),
            np.ones((3, 2), np.int32),
            "sigmoid_binary_cross_entropy: expected floating-point outputs, got int32",
        ),
        (
            "softmax_cross_entropy_with_integer_labels",
            np.ones((3, 2), np.float32),
            np.ones(3, np.float32),
            "softmax_cross_entropy_with_integer_labels: expected integer labels, got float32; "
            "one-hot or soft targets are for softmax_cross_entropy",
        ),
        (
            "softmax_cross_entropy_with_integer_labels",
            np.ones((3, 2), np.float32),
            np.ones((3, 1), np.int32),
            "softmax_cross_entropy_with_integer_labels: expected y of shape (3,), "
            "the outputs' without the last axis, got (3, 1)",
        ),
        (
            "binary_cross_entropy",
            np.ones((3, 1), np.float32),
            np.ones((1, 3), np.float32),
            "binary_cross_entropy: expected y of the outputs' shape (3, 1), got (1, 3)",
        ),
    ],
)
def test_wrong_outputs_and_targets_are_named(name, z, y, message, part):
    with pytest.raises(ValueError) as error:
        jax.jit(getattr(getattr(jn.losses, name), part))(z, y)
    assert str(error.value).splitlines()[0] == message


Z = np.zeros((3, 2), np.float32)
BAD_VALUES = [
    (name, [[0, 1], [1, 0], [value, 0]], f"{name}: expected values of y in [0, 1], got {value} at y[2, 0]{hint}")
    for name in ("sigmoid_binary_cross_entropy", "binary_cross_entropy")
    for hint in ["; labels of -1 and 1 become such by (y + 1) / 2"]
    for value in (-1.0, 2.0, 1.001, -0.001, np.nan, np.inf, -np.inf)
]
BAD_VALUES += [
    (
        "softmax_cross_entropy",
        [[0, 1], [1, 0], [value, 0]],
        f"softmax_cross_entropy: expected values of y of at least 0, and finite, got {value} at y[2, 0]",
    )
    for value in (-1.0, -0.001, np.nan, np.inf, -np.inf)
]
BAD_VALUES += [
    (NAMES[2], [0, 1, value], f"{NAMES[2]}: expected labels from 0 to 1, got {value} at y[2]") for value in (-1, 2, 999)
]


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize(("name", "y", "message"), BAD_VALUES, ids=[f"{name} {y[2]}" for name, y, _ in BAD_VALUES])
def test_values_that_are_no_labels_are_refused_where_they_are_known(name, y, message):
    loss = getattr(jn.losses, name)
    y = np.array(y, np.int32 if name.endswith("labels") else np.float64)
    calls = [loss.forward, loss.backward, loss.root_hessian, loss]
    # Known at the call, or when the program that holds them is traced.
    calls += [lambda z, y: jax.jit(lambda z: loss.forward(z, y))(z)]
    for call in calls:
        with pytest.raises(ValueError) as error:
            call(Z, y)
        assert str(error.value).splitlines()[0] == message
    # Not known.
    jax.eval_shape(loss.forward, Z, y)


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize("name", ["sigmoid_binary_cross_entropy", "binary_cross_entropy", "softmax_cross_entropy"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_mixed_labels_may_leave_their_range_by_rounding(name, dtype):
    y = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype)
    rounding = 2 * jnp.finfo(dtype).eps
    z = jnp.full((3, 2), 0.5)
    loss = getattr(jn.losses, name)
    mixed = y * (1 + rounding) - (1 - y) * rounding
    for part in (loss.forward, loss.backward, loss.root_hessian):
        np.testing.assert_allclose(part(z, mixed), part(z, y), atol=0.1)
        # Mixed in the outputs' type, and kept in a longer one.
        part(z.astype(dtype), np.asarray(mixed).astype(np.float64))


def test_what_is_certain_costs_zero_and_not_minus_zero():
    losses = jn.losses.softmax_cross_entropy_with_integer_labels.forward(jnp.array([[0.0, -jnp.inf]]), jnp.array([0]))
    np.testing.assert_array_equal(np.signbit(losses), [False])


def test_a_label_out_of_range_shows_under_jit():
    loss = jn.losses.softmax_cross_entropy_with_integer_labels
    losses = jax.jit(loss.forward)(jnp.ones((3, 2)), jnp.array([-1, 1, 2]))
    np.testing.assert_array_equal(np.isnan(losses), [True, False, True])


def test_integer_and_boolean_targets_are_taken_as_numbers():
    z = jnp.array([[0.5], [-0.5]])
    loss = jn.losses.sigmoid_binary_cross_entropy
    expected = loss.forward(z, jnp.array([[1.0], [0.0]]))
    np.testing.assert_array_equal(loss.forward(z, jnp.array([[1], [0]])), expected)


def test_a_loss_of_two_functions_trains_checks_and_says_what_it_does_not_have(key):
    loss = jn.Loss(lambda z, y: ((z - y) ** 2).sum(axis=1), lambda z, y: 2 * (z - y))
    net, (x, y) = jn.dense(3, 3), jax.random.normal(key, (2, 5, 3))
    params = net.init(key)
    jn.testing.check_loss(loss, x, y, short_types=())
    assert jn.value_and_grad(net, loss)(params, x, y)[1].W.shape == (3, 3)
    with pytest.raises(ValueError) as error:
        jn.curvature.ggn_diagonal(net, loss, params, x, y)
    assert str(error.value) == (
        "this loss was made without a root_hessian; give jaxnet.Loss one, or use curvature.empirical"
    )
    with pytest.raises(ValueError) as error:
        jn.curvature.kfac(net, loss, params, x, y, key)
    assert str(error.value) == (
        "this loss was made without a sample; give jaxnet.Loss one, or use curvature.exact or curvature.empirical"
    )
