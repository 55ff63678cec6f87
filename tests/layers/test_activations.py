import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import ACTIVATIONS

import jaxnet as jn

LAYERS = {
    "sigmoid": jn.sigmoid,
    "tanh": jn.tanh,
    "relu": jn.relu,
    "leaky_relu": jn.leaky_relu(),
    "softplus": jn.softplus,
    "identity": jn.identity,
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
