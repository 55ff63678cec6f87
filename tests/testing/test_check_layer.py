"""The oracle is itself proved: it catches every mistake here, says what it is, and accepts what is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from broken import BROKEN_LAYERS, DENSE, EXAMPLES, INPUTS, OUTPUTS, broken_dense, in_one_of_ten_thousand

import jaxnet as jn
from jaxnet.testing import check_layer, check_vjp

pytestmark = pytest.mark.usefixtures("without_shape_annotations")


@pytest.mark.parametrize("mistake", BROKEN_LAYERS)
def test_a_broken_layer_is_caught_and_told(mistake, key):
    layer, told = BROKEN_LAYERS[mistake]
    with pytest.raises(AssertionError) as error:
        check_layer(layer, jax.random.normal(key, (EXAMPLES, INPUTS)), key)
    assert str(error.value).startswith(f"check_layer: {layer.name}")
    assert told in str(error.value)


def test_a_mistake_in_one_element_of_ten_thousand_is_caught(key):
    layer = jn.dense(100, 2)
    broken = layer._replace(backward=lambda p, x, dz: in_one_of_ten_thousand(*layer.backward(p, x, dz), p, x, dz))
    with pytest.raises(AssertionError, match=r"dx\[77, 77\]: by hand"):
        check_layer(broken, jax.random.normal(key, (100, 100)), key)


def test_the_message_in_full(key):
    layer = broken_dense(lambda dp, dx, p, x, dz: (dp._replace(b=jn.Each(dz / EXAMPLES)), dx))
    with pytest.raises(AssertionError) as error:
        check_layer(layer, jax.random.normal(key, (EXAMPLES, INPUTS)), key)
    first, second = str(error.value).splitlines()
    assert first == "check_layer: dense, float64, eager:"
    place, values, size, hint = second.split("; ")[0].split(": ") + second.split("; ")[1:]
    index = int(place.removeprefix("  dparams.b[").removesuffix("]"))
    assert 0 <= index < OUTPUTS
    hand, expected = (float(value.split()[-1]) for value in values.split(", "))
    np.testing.assert_allclose(hand, expected / EXAMPLES, rtol=1e-8)
    assert size == "off by 8.0e-01 of the leaf's largest value, allowed 1.0e-12"
    assert hint == "off by a factor of 1/5, the length of an axis: a mean for a sum?"


# What is right must pass.


def constant_layer():
    return jn.Layer(
        lambda key: {"w": jnp.ones(2)},
        lambda p, x: (jnp.ones_like(x), ()),
        lambda p, cache, dy: ({"w": jn.Each(jnp.zeros((len(dy), 2), dy.dtype))}, jnp.zeros_like(dy)),
    )


def scalar_layer():
    """y = s x for examples that are single numbers."""
    return jn.Layer(
        lambda key: jnp.ones(()),
        lambda s, x: (s * x, x),
        lambda s, x, dy: (jn.Each(dy * x, ndim=0), s * dy),
    )


def embedding(entries, features):
    """y = W[x] for integers x: the input has no gradient."""

    def backward(W, x, dy):
        return jn.Outer(jax.nn.one_hot(x, entries, dtype=dy.dtype), dy), None

    return jn.Layer(lambda key: jax.random.normal(key, (entries, features)), lambda W, x: (W[x], x), backward)


def test_relu_at_zero_has_its_documented_value(key):
    x = jax.random.normal(key, (EXAMPLES, INPUTS)).at[1].set(0.0)
    check_layer(jn.relu, x, key)
    one_at_zero = jn.relu._replace(forward=lambda p, z: (jax.nn.relu(z), z >= 0))
    with pytest.raises(AssertionError, match=r"dx\["):
        check_layer(one_at_zero, x, key)


def test_kinks_everywhere_do_no_harm(key):
    check_layer(jn.mlp((3, 64, 64, 2)), jax.random.normal(key, (64, 3)), key)


def test_gradients_that_are_zero_everywhere_need_permission(key):
    with pytest.raises(AssertionError) as error:
        check_layer(constant_layer(), jax.random.normal(key, (EXAMPLES, INPUTS)), key)
    assert str(error.value) == (
        "check_layer: <lambda>: dparams['w'] is expected to be zero everywhere, which proves nothing; "
        "choose other arguments, or allow it with zero_gradients=True"
    )
    check_layer(constant_layer(), jax.random.normal(key, (EXAMPLES, INPUTS)), key, zero_gradients=True)
    with pytest.raises(AssertionError, match=r"^check_layer: relu: dx is expected to be zero everywhere"):
        check_layer(jn.relu, -jnp.ones((EXAMPLES, INPUTS)), key)


@pytest.mark.parametrize("layer", [jn.identity, jn.chain(), jn.tanh], ids=["identity", "empty chain", "tanh"])
def test_layers_without_parameters_pass(layer, key):
    check_layer(layer, jax.random.normal(key, (EXAMPLES, INPUTS)), key)


@pytest.mark.parametrize("shape", [(EXAMPLES,), (1,), (EXAMPLES, 2)], ids=str)
def test_scalar_parameters_and_examples_pass(shape, key):
    check_layer(scalar_layer(), jax.random.normal(key, shape), key)


@pytest.mark.parametrize("shape", [(EXAMPLES,), (EXAMPLES, 2)], ids=str)
def test_integer_inputs_pass(shape, key):
    check_layer(embedding(7, 3), jax.random.randint(key, shape, 0, 7), key)


def test_magnitudes_far_apart_are_judged_alike(key):
    def layer(second):
        return jn.Layer(
            lambda key: (),
            lambda p, x: (jnp.concatenate([1e8 * x[:, :1], 1e-8 * x[:, 1:] ** 2], axis=1), x),
            lambda p, x, dy: (
                p,
                jnp.concatenate([1e8 * dy[:, :1], second * 1e-8 * x[:, 1:] * dy[:, 1:]], axis=1),
            ),
        )

    x = jax.random.normal(key, (EXAMPLES, 2))
    check_layer(layer(2), x, key, tolerance=1e-12)

    def f(x):
        return {"large": 1e8 * x[:, 0], "small": 1e-8 * x[:, 1] ** 2}

    def rule(second, x):
        return f(x), lambda dy: (jnp.stack([1e8 * dy["large"], second * 1e-8 * x[:, 1] * dy["small"]], axis=1),)

    check_vjp(f, lambda x: rule(2, x), x)
    with pytest.raises(AssertionError, match=r"d\(argument 0\)\[\d, 1\]"):
        check_vjp(f, lambda x: rule(2.01, x), x)


def test_the_callers_precision_is_left_as_it_was(key):
    check_layer(DENSE, jax.random.normal(key, (EXAMPLES, INPUTS)), key)
    assert not jax.config.jax_enable_x64
    with jax.enable_x64(True):
        check_layer(DENSE, jax.random.normal(key, (EXAMPLES, INPUTS)), key)
        assert jax.config.jax_enable_x64


def test_a_wrong_second_derivative_is_found(key):
    x = jax.random.normal(key, (5, 3))
    doubled = jn.tanh._replace(second=lambda params, a, da: 2 * jn.tanh.second(params, a, da))
    with pytest.raises(
        AssertionError, match=r"^check_layer: tanh, float64:\n  second\[.*off by the factor 2 everywhere"
    ):
        jn.testing.check_layer(doubled, x, key)
    flat = jn.sigmoid._replace(second=lambda params, a, da: None)
    with pytest.raises(AssertionError, match=r"^check_layer: sigmoid, float64:\n  second\[.*by hand 0, expected"):
        jn.testing.check_layer(flat, x, key)


def test_a_second_derivative_is_refused_where_the_output_is_no_linear_function_of_the_parameters(key):
    power = jn.Layer(
        lambda key: jnp.ones(3),
        lambda w, x: (x * w[None] ** 2, x),
        lambda w, x, dy: (jn.Each(dy * x * 2 * w[None]), dy * w[None] ** 2),
        lambda w, x, dy: None,
    )
    with pytest.raises(AssertionError, match=r"^check_layer: <lambda>, float64:\n  second derivative by params\["):
        jn.testing.check_layer(power, jax.random.normal(key, (5, 3)), key)


def test_a_layer_whose_outputs_mix_inputs_has_no_diagonal_second_derivative(key):
    square = jn.Layer(
        lambda key: (),
        lambda params, x: (x.sum(-1, keepdims=True) ** 2, x),
        lambda params, x, dy: ((), dy * 2 * x.sum(-1, keepdims=True) * jnp.ones_like(x)),
        lambda params, x, dy: 2 * dy * jnp.ones_like(x),
    )
    with pytest.raises(AssertionError, match=r"second\["):
        jn.testing.check_layer(square, jax.random.normal(key, (5, 3)), key)
