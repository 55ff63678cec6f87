import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import ACTIVATIONS
from torch_results import RESULTS, assert_as_torch

import jaxnet as jn
from jaxnet import curvature, per_example

LAYERS = {
    "sigmoid": jn.sigmoid,
    "tanh": jn.tanh,
    "relu": jn.relu,
    "leaky_relu": jn.leaky_relu(),
    "softplus": jn.softplus,
    "identity": jn.identity,
    "elu": jn.elu(),
    "selu": jn.selu,
    "gelu": jn.gelu,
    "gelu_tanh": jn.gelu_tanh,
    "silu": jn.silu,
    "log_sigmoid": jn.log_sigmoid,
    "softsign": jn.softsign,
    "hard_tanh": jn.hard_tanh,
}
every_activation = pytest.mark.parametrize("name", LAYERS)
# All of them in one network, which compiles once; each is asked by itself as well.
TOGETHER = jn.chain(jn.dense(3, 3), jn.fan_out(*LAYERS.values()))


def slope_at(layer, z):
    a, cache = layer.forward((), z)
    _, dz = layer.backward((), cache, jnp.ones_like(a))
    return dz


def test_forward_equals_numpy(x64):
    z = jnp.linspace(-5, 5, 41)[:, None]
    actual = jax.jit(lambda z: {name: layer.apply((), z) for name, layer in LAYERS.items()})(z)
    for name, a in actual.items():
        # Both round a few times at 1.1e-16.
        np.testing.assert_allclose(a, ACTIVATIONS[name](np.asarray(z)), rtol=1e-14, atol=1e-15, err_msg=name)


@every_activation
def test_backward_equals_autodiff(name, key):
    jn.testing.check_layer(LAYERS[name], 3 * jax.random.normal(key, (5, 3)), key)


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3)], ids=str)
def test_with_and_without_positions_backward_equals_autodiff(shape, key):
    jn.testing.check_layer(jn.branches(*LAYERS.values()), 3 * jax.random.normal(key, shape), key)


@pytest.mark.parametrize("name", sorted(RESULTS.keys() & LAYERS.keys()))
def test_forward_and_backward_equal_pytorchs(name, x64):
    assert_as_torch(name, LAYERS[name])


def test_inside_combinators_backward_equals_autodiff(key):
    net = jn.repeat(jn.recompute(jn.residual(TOGETHER)), 2)
    jn.testing.check_layer(net, jax.random.normal(key, (4, 3)), key, short_types=("float32",))


def test_readings_and_curvature_equal_autodiffs(x64, key):
    net, loss = jn.chain(TOGETHER, jn.dense(3, 2)), jn.losses.half_squared_error
    params, x, y = net.init(key), jax.random.normal(key, (5, 3)), jnp.ones((5, 2))
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    def losses(flat):
        return loss.forward(net.apply(unflatten(flat), x), y)

    @jax.jit
    def pairs(params, flat):
        _, each = jn.value_and_grad(net, loss, read=lambda d, _: per_example.each(d))(params, x, y)
        jacobian = jax.jacfwd(lambda flat: net.apply(unflatten(flat), x))(flat)
        hessian = jax.hessian(lambda flat: losses(flat).mean())(flat)
        return (
            (each, jax.vmap(unflatten)(jax.jacrev(losses)(flat))),
            (curvature.hessian_diagonal(net, loss, params, x, y), unflatten(jnp.diag(hessian))),
            (curvature.ggn_diagonal(net, loss, params, x, y), unflatten((jacobian**2).sum(1).mean(0))),
        )

    for actual, expected in pairs(params, flat):
        for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


def test_in_mixed_precision_they_compute_in_the_short_type(key):
    nets = {name: jn.chain(jn.dense(3, 3), layer) for name, layer in LAYERS.items()}
    params, x = nets["tanh"].init(key), jax.random.normal(key, (4, 3))

    @jax.jit
    def gradients(params, x):
        def of(net):
            return jn.value_and_grad(net, jn.losses.half_squared_error)(params, x, x)[1]

        return {name: (of(jn.mixed_precision(net)), of(net)) for name, net in nets.items()}

    for name, (grads, expected) in gradients(params, x).items():
        for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
            assert ours.dtype == jnp.float32
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.03 * np.abs(theirs).max(), err_msg=name)


def test_exported_for_every_platform_they_are_the_same(key):
    z = jax.random.normal(key, (4, 3))

    @jax.jit
    def both(z):
        def of(layer):
            a, cache = layer.forward((), z)
            return a, layer.backward((), cache, jnp.cos(z))[1]

        return {name: of(layer) for name, layer in LAYERS.items()}

    exported = jax.export.export(both, platforms=("cpu", "cuda", "tpu"))(z)
    for name, actual in jax.export.deserialize(exported.serialize()).call(z).items():
        for ours, theirs in zip(actual, both(z)[name], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=name)


@every_activation
def test_the_name_is_the_functions(name):
    assert LAYERS[name].name == name


@pytest.mark.parametrize(
    ("name", "low", "high", "slopes"),
    [
        ("sigmoid", 0.0, 1.0, (0.0, 0.0)),
        ("tanh", -1.0, 1.0, (0.0, 0.0)),
        ("softplus", 0.0, 1e4, (0.0, 1.0)),
        ("relu", 0.0, 1e4, (0.0, 1.0)),
        ("leaky_relu", -1e2, 1e4, (0.01, 1.0)),
        ("elu", -1.0, 1e4, (0.0, 1.0)),
        ("selu", -1.7580993408473766, 1.0507009873554805e4, (0.0, 1.0507009873554805)),
        ("gelu", 0.0, 1e4, (0.0, 1.0)),
        ("gelu_tanh", 0.0, 1e4, (0.0, 1.0)),
        ("silu", 0.0, 1e4, (0.0, 1.0)),
        ("log_sigmoid", -1e4, 0.0, (1.0, 0.0)),
        ("softsign", -1 / (1 + 1e-4), 1 / (1 + 1e-4), (1 / 10001**2, 1 / 10001**2)),
        ("hard_tanh", -1.0, 1.0, (0.0, 0.0)),
    ],
)
def test_huge_inputs_give_the_right_limits_in_float32(name, low, high, slopes):
    z = jnp.array([-1e4, 1e4], jnp.float32)
    a, dz = jax.jit(lambda z: (LAYERS[name].apply((), z), slope_at(LAYERS[name], z)))(z)
    np.testing.assert_allclose(a, [low, high], rtol=1e-6)
    np.testing.assert_allclose(dz, slopes, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "slope", "second"),
    [
        ("sigmoid", lambda s: s * (1 - s), lambda s: s * (1 - s) * (1 - 2 * s)),
        ("tanh", lambda s: 4 * s * (1 - s), lambda s: 8 * s * (1 - s) * (1 - 2 * s)),
        ("softplus", lambda s: s, lambda s: s * (1 - s)),
        ("log_sigmoid", lambda s: 1 - s, lambda s: -s * (1 - s)),
    ],
)
def test_smooth_functions_have_their_derivatives_at_both_zeros_too(name, slope, second, x64):
    """By hand, and by autodiff of what is written by hand; tanh(z) = 2 sigmoid(2 z) - 1."""
    layer, z = LAYERS[name], jnp.array([0.0, -0.0, 5e-324, 0.5, -0.5])
    s = 1 / (1 + np.exp(-np.asarray(z) * (2 if name == "tanh" else 1)))

    def through_autodiff(z):
        return jax.grad(lambda z: layer.apply((), z).sum())(z)

    @jax.jit
    def derivatives(z):
        a, cache = layer.forward((), z)
        ways = through_autodiff, lambda z: slope_at(layer, z)
        bends = [jax.grad(lambda z, f=f: f(z).sum())(z) for f in ways]
        return [f(z) for f in ways], [*bends, layer.second((), cache, jnp.ones_like(a))]

    slopes, bends = derivatives(z)
    for ours in slopes:
        np.testing.assert_allclose(ours, slope(s), rtol=1e-14)
    for ours in bends:
        np.testing.assert_allclose(ours, second(s), rtol=1e-13, atol=1e-15)


def test_nan_stays_nan():
    actual = jax.jit(lambda z: {name: layer.apply((), z) for name, layer in LAYERS.items()})(jnp.array([jnp.nan]))
    for name, a in actual.items():
        assert np.isnan(a).all(), name


@pytest.mark.parametrize(("name", "expected"), [("relu", 0.0), ("leaky_relu", 0.01)])
def test_the_slope_at_zero_is_the_left_one_by_hand_and_by_autodiff(name, expected):
    zero = jnp.zeros(1)
    layer = LAYERS[name]
    np.testing.assert_allclose(slope_at(layer, zero), [expected], rtol=1e-7)
    np.testing.assert_allclose(jax.grad(lambda z: layer.apply((), z).sum())(zero), [expected], rtol=1e-7)


def test_tanh_keeps_the_digits_of_its_slope_near_saturation():
    z = jnp.array([5.0], jnp.float32)
    # 1 - tanh(z)^2 = 4 / (e^z + e^-z)^2; float32 tanh(5) itself is known to 6e-8 of 1, the slope to 6e-8 / 9e-5.
    np.testing.assert_allclose(slope_at(jn.tanh, z), 4 / (np.exp(5.0) + np.exp(-5.0)) ** 2, rtol=7e-4)


@pytest.mark.parametrize("slope", [0, 1, -0.1, 2.0])
@pytest.mark.usefixtures("without_shape_annotations")
def test_a_leaky_slope_outside_0_to_1_is_refused(slope):
    with pytest.raises(ValueError, match=rf"^leaky_relu: expected a slope in \(0, 1\), got {slope}$"):
        jn.leaky_relu(slope)


def test_the_leaky_slope_is_used(key):
    layer = jn.leaky_relu(0.2)
    np.testing.assert_allclose(layer.apply((), jnp.array([-2.0, 3.0])), [-0.4, 3.0], rtol=1e-6)
    jn.testing.check_layer(layer, jax.random.normal(key, (5, 3)), key)


@pytest.mark.parametrize(
    ("name", "slope", "second"),
    [
        ("gelu", 0.5, np.sqrt(2 / np.pi)),
        ("gelu_tanh", 0.5, np.sqrt(2 / np.pi)),
        ("silu", 0.5, 0.5),
        ("elu", 1.0, None),
        ("selu", 1.7580993408473766, None),
        ("softsign", 1.0, None),
        ("hard_tanh", 1.0, None),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_slopes_at_both_zeros_and_next_to_them(name, slope, second, dtype):
    """By hand and by autodiff; the second ones where they do not jump."""
    layer = LAYERS[name]
    z = jnp.array([0.0, -0.0, -1e-30], dtype)
    tolerance = float(jnp.finfo(dtype).eps)

    @jax.jit
    def derivatives(z):
        a, cache = layer.forward((), z)
        ways = jax.grad(lambda z: layer.apply((), z).sum()), lambda z: slope_at(layer, z)
        bends = [jax.grad(lambda z, f=f: f(z).sum())(z) for f in ways]
        return [f(z) for f in ways], bends, layer.second((), cache, jnp.ones_like(a))

    slopes, bends, by_hand = derivatives(z)
    for ours in slopes:
        np.testing.assert_allclose(np.float64(ours), slope, rtol=tolerance)
    if second is not None:
        for ours in bends:
            np.testing.assert_allclose(np.float64(ours), second, rtol=4 * tolerance)
        np.testing.assert_allclose(np.float64(by_hand), second, rtol=2 * tolerance)


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_all_derivatives_are_finite_as_far_out_as_numbers_go(dtype):
    most = float(jnp.finfo(dtype).max) / 2
    z = jnp.array([most, -most, most**0.5, -(most**0.5), 300.0, -300.0, 30.0, -30.0], dtype)

    @jax.jit
    def derivatives(z):
        def of(layer):
            a, cache = layer.forward((), z)
            # With a derivative of backward, as products with the Hessian take it.
            slope, moved = jax.jvp(lambda z: slope_at(layer, z), (z,), (jnp.ones_like(z),))
            return a, slope, moved, layer.second((), cache, jnp.ones_like(a))

        return {name: of(layer) for name, layer in LAYERS.items()}

    for name, values in derivatives(z).items():
        for value in jax.tree.leaves(values):
            assert np.isfinite(np.float64(value)).all(), (name, value)


def test_the_alpha_is_used(key):
    z = jnp.array([-2.0, 3.0])
    np.testing.assert_allclose(jn.elu(0.5).apply((), z), [0.5 * np.expm1(-2.0), 3.0], rtol=1e-6)
    jn.testing.check_layer(jn.elu(0.5), jax.random.normal(key, (5, 3)), key)


@pytest.mark.parametrize("alpha", [0, -1.0, float("inf"), float("nan")])
@pytest.mark.usefixtures("without_shape_annotations")
def test_an_alpha_that_is_not_positive_is_refused(alpha):
    with pytest.raises(ValueError, match=f"^elu: expected a positive alpha, got {alpha}$"):
        jn.elu(alpha)


def test_they_keep_one_array_for_backward_and_hard_tanh_a_byte_for_each_number(key):
    z = jax.random.normal(key, (5, 3))
    for name in ("softsign", "elu", "selu", "log_sigmoid"):
        (kept,) = jax.tree.leaves(LAYERS[name].forward((), z)[1])
        assert (kept.shape, kept.dtype) == (z.shape, z.dtype)
    (kept,) = jax.tree.leaves(jn.hard_tanh.forward((), z)[1])
    assert kept.dtype == bool


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu"])
def test_what_gates_itself_keeps_its_slope_and_a_scan_of_gradients_no_more(name, key):
    """z, which only the second derivative needs, is in the cache, and not in a compiled program that does not ask."""
    z = jax.random.normal(key, (64, 32))
    slope, kept = LAYERS[name].forward((), z)[1]
    assert kept is z
    _, dz = LAYERS[name].backward((), (slope, jnp.full_like(z, jnp.nan)), jnp.ones_like(z))
    assert (dz == slope).all()

    def temporaries(activation):
        net = jn.repeat(jn.chain(activation, jn.dense(32, 32)), 16)
        params = jax.eval_shape(net.init, key)

        def gradient(params, z):
            y, cache = net.forward(params, z)
            return jn.per_example.mean(net.backward(params, cache, y)[0])

        return jax.jit(gradient).lower(params, z).compile().memory_analysis().temp_size_in_bytes

    # Of 16 rounds, softsign keeps z and the next layer's input; one array more of each round would be 16 of them.
    assert temporaries(LAYERS[name]) < temporaries(jn.softsign) + 4 * z.nbytes
