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


def slope_at(layer, z):
    a, cache = layer.forward((), z)
    _, dz = layer.backward((), cache, jnp.ones_like(a))
    return dz


@every_activation
def test_forward_equals_numpy(name, x64):
    z = jnp.linspace(-5, 5, 41)[:, None]
    # Both round a few times at 1.1e-16.
    np.testing.assert_allclose(LAYERS[name].apply((), z), ACTIVATIONS[name](np.asarray(z)), rtol=1e-14, atol=1e-15)


@every_activation
@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 3)], ids=str)
def test_backward_equals_autodiff(name, shape, key):
    jn.testing.check_layer(LAYERS[name], 3 * jax.random.normal(key, shape), key)


@pytest.mark.parametrize("name", sorted(RESULTS.keys() & LAYERS.keys()))
def test_forward_and_backward_equal_pytorchs(name, x64):
    assert_as_torch(name, LAYERS[name])


@every_activation
def test_inside_combinators_backward_equals_autodiff(name, key):
    block = jn.residual(jn.chain(jn.dense(3, 3), LAYERS[name]))
    net = jn.chain(jn.repeat(jn.recompute(block), 2), jn.fan_out(LAYERS[name], jn.dense(3, 3)))
    jn.testing.check_layer(net, jax.random.normal(key, (4, 3)), key)


@every_activation
def test_readings_and_curvature_equal_autodiffs(name, x64, key):
    net, loss = jn.chain(jn.dense(3, 4), LAYERS[name], jn.dense(4, 2)), jn.losses.half_squared_error
    params, x, y = net.init(key), jax.random.normal(key, (5, 3)), jnp.ones((5, 2))
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    def losses(flat):
        return loss.forward(net.apply(unflatten(flat), x), y)

    _, each = jn.value_and_grad(net, loss, read=lambda d, _: per_example.each(d))(params, x, y)
    jacobian = jax.jacfwd(lambda flat: net.apply(unflatten(flat), x))(flat)
    hessian = jax.hessian(lambda flat: losses(flat).mean())(flat)
    for actual, expected in (
        (each, jax.vmap(unflatten)(jax.jacrev(losses)(flat))),
        (curvature.hessian_diagonal(net, loss, params, x, y), unflatten(jnp.diag(hessian))),
        (curvature.ggn_diagonal(net, loss, params, x, y), unflatten((jacobian**2).sum(1).mean(0))),
    ):
        for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


@every_activation
def test_in_mixed_precision_it_computes_in_the_short_type(name, key):
    net = jn.chain(jn.dense(3, 3), LAYERS[name])
    params, x = net.init(key), jax.random.normal(key, (4, 3))
    (_, grads), (_, expected) = (
        jn.value_and_grad(one, jn.losses.half_squared_error)(params, x, x) for one in (jn.mixed_precision(net), net)
    )
    for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.03 * np.abs(theirs).max())


@every_activation
def test_exported_for_every_platform_it_is_the_same(name, key):
    layer, z = LAYERS[name], jax.random.normal(key, (4, 3))

    def both(z):
        a, cache = layer.forward((), z)
        return a, layer.backward((), cache, jnp.cos(z))[1]

    exported = jax.export.export(jax.jit(both), platforms=("cpu", "cuda", "tpu"))(z)
    for ours, theirs in zip(jax.export.deserialize(exported.serialize()).call(z), both(z), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


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
    np.testing.assert_allclose(LAYERS[name].apply((), z), [low, high], rtol=1e-6)
    np.testing.assert_allclose(slope_at(LAYERS[name], z), slopes, rtol=1e-6)


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
    a, cache = layer.forward((), z)

    def through_autodiff(z):
        return jax.grad(lambda z: layer.apply((), z).sum())(z)

    for slopes in (slope_at(layer, z), through_autodiff(z)):
        np.testing.assert_allclose(slopes, slope(s), rtol=1e-14)
    by_hand = layer.second((), cache, jnp.ones_like(a))
    for slopes_of in (through_autodiff, lambda z: slope_at(layer, z)):
        np.testing.assert_allclose(jax.grad(lambda z, f=slopes_of: f(z).sum())(z), second(s), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(by_hand, second(s), rtol=1e-13, atol=1e-15)


@every_activation
def test_nan_stays_nan(name):
    assert np.isnan(LAYERS[name].apply((), jnp.array([jnp.nan]))).all()


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
    by_autodiff = jax.grad(lambda z: layer.apply((), z).sum())
    for slopes in (slope_at(layer, z), by_autodiff(z)):
        np.testing.assert_allclose(np.float64(slopes), slope, rtol=tolerance)
    if second is not None:
        a, cache = layer.forward((), z)
        by_hand = layer.second((), cache, jnp.ones_like(a))
        for slopes_of in (by_autodiff, lambda z: slope_at(layer, z)):
            bends = jax.grad(lambda z, f=slopes_of: f(z).sum())(z)
            np.testing.assert_allclose(np.float64(bends), second, rtol=4 * tolerance)
        np.testing.assert_allclose(np.float64(by_hand), second, rtol=2 * tolerance)


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
@every_activation
def test_all_derivatives_are_finite_as_far_out_as_numbers_go(name, dtype):
    layer, most = LAYERS[name], float(jnp.finfo(dtype).max) / 2
    z = jnp.array([most, -most, most**0.5, -(most**0.5), 300.0, -300.0, 30.0, -30.0], dtype)
    a, cache = layer.forward((), z)
    bend = layer.second((), cache, jnp.ones_like(a))
    # A derivative of backward, as products with the Hessian take it.
    _, moved = jax.jvp(lambda z: slope_at(layer, z), (z,), (jnp.ones_like(z),))
    for values in (a, slope_at(layer, z), moved, a if bend is None else bend):
        assert np.isfinite(np.float64(values)).all(), (name, values)


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
    for name in ("gelu", "gelu_tanh", "silu", "softsign", "elu", "selu", "log_sigmoid"):
        (kept,) = jax.tree.leaves(LAYERS[name].forward((), z)[1])
        assert (kept.shape, kept.dtype) == (z.shape, z.dtype)
    (kept,) = jax.tree.leaves(jn.hard_tanh.forward((), z)[1])
    assert kept.dtype == bool
