"""The oracle is itself proved: it catches every mistake here, says what it is, and accepts what is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn
from jaxnet.testing import check_layer, check_loss, check_network, check_vjp

pytestmark = pytest.mark.usefixtures("without_shape_annotations")

EXAMPLES, INPUTS, OUTPUTS = 5, 3, 4
DENSE = jn.dense(INPUTS, OUTPUTS)


def broken_dense(mistake):
    """dense(3, 4) whose backward's (dparams, dx) went through `mistake(dparams, dx, params, x, dz)`."""
    return DENSE._replace(backward=lambda p, x, dz: mistake(*DENSE.backward(p, x, dz), p, x, dz))


def in_one_of_ten_thousand(dparams, dx, p, x, dz):
    return dparams, dx.reshape(-1).at[7777].multiply(1.01).reshape(dx.shape)


def refuses_tracers(dparams, dx, p, x, dz):
    return dparams, dx * float(np.asarray(x).max() > -jnp.inf)


def breaks_under_vmap(dparams, dx, p, x, dz):
    """Divides by the largest of the whole array and multiplies by the largest of each mapped one."""
    largest = jax.lax.stop_gradient(jnp.abs(dz).max())
    batched = jax.custom_batching.custom_vmap(lambda value: value)
    batched.def_vmap(lambda size, mapped, value: (jnp.broadcast_to(value.max(), value.shape), mapped[0]))
    return dparams, dx / largest * batched(largest)


# Each with a part of the message that finds it.
BROKEN_LAYERS = {
    "dropped term": (broken_dense(lambda dp, dx, p, x, dz: (dp, dx - dz[:, :1] * p.W[:1])), "eager:\n  dx"),
    "flipped sign": (broken_dense(lambda dp, dx, p, x, dz: (dp, -dx)), "; the sign is flipped"),
    "factor 2": (broken_dense(lambda dp, dx, p, x, dz: (dp._replace(b=jn.Each(2 * dz)), dx)), "; off by the factor 2 "),
    "factor 1/m": (
        broken_dense(lambda dp, dx, p, x, dz: (dp._replace(W=jn.Outer(dz / EXAMPLES, x)), dx)),
        "; off by a factor of 1/5, the length of an axis: a mean for a sum?",
    ),
    "factor m": (
        broken_dense(lambda dp, dx, p, x, dz: (dp._replace(W=jn.Outer(-dz * EXAMPLES, x)), dx)),
        "; off by a factor of -5, the length of an axis: a sum for a mean?",
    ),
    "scale of 1%": (broken_dense(lambda dp, dx, p, x, dz: (dp, 1.01 * dx)), "; off by the factor 1.01 everywhere"),
    "missing bias gradient": (
        broken_dense(lambda dp, dx, p, x, dz: (dp._replace(b=jn.Each(0 * dz)), dx)),
        "dparams.b[0]: by hand 0, expected ",
    ),
    "bias gradient left out": (
        broken_dense(lambda dp, dx, p, x, dz: (dp._replace(b=None), dx)),
        "expected the structure",
    ),
    "zeros for everything": (
        broken_dense(lambda dp, dx, p, x, dz: (jax.tree.map(jnp.zeros_like, dp), 0 * dx)),
        "; all zeros by hand",
    ),
    "wrong transpose": (
        broken_dense(lambda dp, dx, p, x, dz: (dp._replace(W=jn.Outer(x, dz)), dx)),
        "dparams.W: expected float64(4, 3), got float64(3, 4): transposed?",
    ),
    "examples mixed up": (
        broken_dense(lambda dp, dx, p, x, dz: (dp._replace(W=jn.Outer(dz[::-1], x[::-1])), dx)),
        "dparams.W",
    ),
    "right only for ones as cotangent": (
        broken_dense(lambda dp, dx, p, x, dz: (dp, jnp.ones_like(dz) @ p.W)),
        "eager:\n  dx",
    ),
    "right only while the bias is 0": (
        broken_dense(lambda dp, dx, p, x, dz: (dp, dx + (p.b != 0).any().astype(dx.dtype))),
        "eager:\n  dx",
    ),
    "right only for positive inputs": (
        jn.relu._replace(backward=lambda p, a, da: (p, da)),
        "eager:\n  dx",
    ),
    "derivative at a instead of z": (
        jn.softplus._replace(backward=lambda p, a, da: (p, da * jax.nn.sigmoid(a))),
        "eager:\n  dx",
    ),
    "derivative at z instead of a": (
        jn.tanh._replace(forward=lambda p, z: (jnp.tanh(z), z), backward=lambda p, z, da: (p, da * (1 - z * z))),
        "eager:\n  dx",
    ),
    "wrong dtype": (
        broken_dense(lambda dp, dx, p, x, dz: (dp, dx.astype(jnp.float32))),
        "dx: expected float64(5, 3), got float32(5, 3)",
    ),
    "wrong shape": (
        broken_dense(lambda dp, dx, p, x, dz: (dp, dx[:, :2])),
        "dx: expected float64(5, 3), got float64(5, 2)",
    ),
    "wrong structure": (broken_dense(lambda dp, dx, p, x, dz: (tuple(dp), dx)), "dparams: expected the structure"),
    "right in float64 only": (
        broken_dense(lambda dp, dx, p, x, dz: (dp, dx * (1 + (dx.dtype == jnp.float32) * 1e-4))),
        "float32, jitted:\n  dx",
    ),
    "wrong in bfloat16": (
        broken_dense(lambda dp, dx, p, x, dz: (dp, dx * (1 + (dx.dtype == jnp.bfloat16) * 0.25))),
        "bfloat16, jitted:\n  dx",
    ),
    "clipped cotangent": (
        broken_dense(lambda dp, dx, p, x, dz: (dp, jnp.clip(dz, -100, 100) @ p.W)),
        "linearity in the cotangent:\n  dx",
    ),
    "eager only": (broken_dense(refuses_tracers), "raised TracerArrayConversionError"),
    "broken under vmap": (broken_dense(breaks_under_vmap), "float64, vmap:\n  dx"),
    "infinite slope far out": (
        jn.sigmoid._replace(
            forward=lambda p, z: (jax.nn.sigmoid(z), z),
            backward=lambda p, z, da: (p, da * jnp.exp(-z) / (1 + jnp.exp(-z)) ** 2),
        ),
        "arguments times 100:\n  dx",
    ),
    "not a number": (broken_dense(lambda dp, dx, p, x, dz: (dp, dx * jnp.nan)), "dx[0, 0]: by hand nan"),
    "raises": (broken_dense(lambda dp, dx, p, x, dz: dx.no_such_thing), "eager: raised AttributeError: "),
    "no pair": (broken_dense(lambda dp, dx, p, x, dz: dx), "raised ValueError: too many values to unpack"),
}


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


LOSS = jn.losses.sigmoid_binary_cross_entropy
BROKEN_LOSSES = {
    "1/m": (LOSS._replace(backward=lambda z, y: LOSS.backward(z, y) / len(z)), "off by a factor of 1/5"),
    "sign": (LOSS._replace(backward=lambda z, y: -LOSS.backward(z, y)), "the sign is flipped"),
    "zeros": (LOSS._replace(backward=lambda z, y: 0 * z), "all zeros by hand"),
    "mean over outputs": (LOSS._replace(forward=lambda z, y: LOSS.forward(z, y) / z.shape[1]), "a sum for a mean?"),
    "a scalar": (LOSS._replace(forward=lambda z, y: LOSS.forward(z, y).sum()), "forward gives shape (), expected (5,)"),
    "root not taken": (LOSS._replace(root_hessian=lambda z, y: LOSS.root_hessian(z, y) ** 2), "hessian["),
    "naive logarithm": (
        LOSS._replace(
            backward=lambda z, y: jnp.exp(z) / (1 + jnp.exp(z)) - y,
        ),
        "arguments times 100",
    ),
    "samples of one class": (LOSS._replace(sample=lambda key, z: jnp.ones_like(z)), "standard errors from 0"),
    "samples of another shape": (
        LOSS._replace(sample=lambda key, z: LOSS.sample(key, z)[:, 0]),
        "sample gives float64(5,), expected float64(5, 3) as y is",
    ),
    "samples of integers": (
        LOSS._replace(sample=lambda key, z: LOSS.sample(key, z).astype(int)),
        "sample gives int64(5, 3), expected float64(5, 3) as y is",
    ),
}


@pytest.mark.parametrize("mistake", BROKEN_LOSSES)
def test_a_broken_loss_is_caught_and_told(mistake, key):
    loss, told = BROKEN_LOSSES[mistake]
    z, y = jax.random.normal(key, (EXAMPLES, INPUTS)), jax.random.uniform(key, (EXAMPLES, INPUTS))
    with pytest.raises(AssertionError) as error:
        check_loss(loss, z, y)
    assert str(error.value).startswith("check_loss: ")
    assert told in str(error.value)


@pytest.mark.parametrize("mistake", ["flipped sign", "factor 1/m", "examples mixed up", "right in float64 only"])
def test_a_network_with_a_broken_layer_is_caught(mistake, key):
    net = jn.chain(jn.dense(3, 3), BROKEN_LAYERS[mistake][0], jn.dense(4, 2))
    x, y = jax.random.normal(key, (EXAMPLES, 3)), jax.random.normal(key, (EXAMPLES, 2))
    with pytest.raises(AssertionError, match="^check_network: chain, "):
        check_network(net, jn.losses.half_squared_error, net.init(key), x, y)


@pytest.mark.parametrize("mistake", ["1/m", "sign", "zeros"])
def test_a_network_with_a_broken_loss_is_caught(mistake, key):
    net = jn.mlp((3, 4, 3), jn.tanh)
    x, y = jax.random.normal(key, (EXAMPLES, 3)), jax.random.uniform(key, (EXAMPLES, 3))
    with pytest.raises(AssertionError, match="^check_network: chain, the mean loss, float64:\n  grads"):
        check_network(net, BROKEN_LOSSES[mistake][0], net.init(key), x, y)


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


# check_vjp, for rules that are not ours.


def logsumexp(x, scale):
    return jax.nn.logsumexp(scale["a"] * x, axis=-1)


def with_custom_vjp(mistake=1.0):
    @jax.custom_vjp
    def f(x, scale):
        return logsumexp(x, scale)

    def forward(x, scale):
        return f(x, scale), (jax.nn.softmax(scale["a"] * x), x, scale)

    def backward(saved, dy):
        p, x, scale = saved
        return mistake * scale["a"] * p * dy[:, None], {"a": (p * x * dy[:, None]).sum()}

    f.defvjp(forward, backward)
    return f


def test_a_custom_vjp_passes_or_is_told(key):
    args = jax.random.normal(key, (EXAMPLES, INPUTS)), {"a": jnp.float32(0.5)}
    check_vjp(logsumexp, with_custom_vjp(), *args)
    nested = jax.jit(with_custom_vjp())
    check_vjp(logsumexp, nested, *args)
    with pytest.raises(AssertionError) as error:
        check_vjp(logsumexp, with_custom_vjp(1 / EXAMPLES), *args)
    assert str(error.value).startswith("check_vjp: logsumexp, float64, eager:\n  d(argument 0)[")
    assert str(error.value).endswith("; off by a factor of 1/5, the length of an axis: a mean for a sum?")


def test_a_function_returning_its_pullback_passes_or_is_told(key):
    args = jax.random.normal(key, (EXAMPLES, INPUTS)), {"a": jnp.float32(0.5)}
    check_vjp(logsumexp, lambda *args: jax.vjp(logsumexp, *args), *args)

    def forgets_one(x, scale):
        y, pullback = jax.vjp(logsumexp, x, scale)
        return y, lambda dy: pullback(dy)[:1]

    with pytest.raises(AssertionError, match="expected a tuple of 2 cotangents, got "):
        check_vjp(logsumexp, forgets_one, *args)


def test_a_rule_for_another_function_is_told(key):
    args = jax.random.normal(key, (EXAMPLES, INPUTS)), {"a": jnp.float32(0.5)}
    with pytest.raises(AssertionError, match=r"eager:\n  y\[\d\]: by hand .*; off by the factor 2 everywhere"):
        check_vjp(logsumexp, lambda *args: jax.vjp(lambda *args: 2 * logsumexp(*args), *args), *args)


def test_what_check_grads_lets_pass_is_caught():
    """A mean over 1,000 elements, with a gradient that is 10% wrong."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=1000), jnp.float32)

    def f(x):
        return (x**2).mean()

    def rule(x):
        return f(x), lambda dy: (1.1 * 2 * x / 1000 * dy,)

    with pytest.raises(AssertionError, match="off by the factor 1.1 everywhere"):
        check_vjp(f, rule, x)


def test_a_plain_function_with_a_wrong_rule_inside_is_told_by_central_differences(key):
    @jax.custom_jvp
    def doubled(x):
        return x**2

    doubled.defjvp(lambda primals, tangents: (primals[0] ** 2, 3 * primals[0] * tangents[0]))
    with pytest.raises(AssertionError) as error:
        check_vjp(doubled, lambda x: jax.vjp(doubled, x), jax.random.normal(key, (EXAMPLES, INPUTS)))
    assert "central differences: along a random direction" in str(error.value)
    assert str(error.value).endswith("a rule inside the plain function is wrong, or it jumps here")


def test_integer_arguments_have_no_cotangent(key):
    x, rows = jax.random.normal(key, (EXAMPLES, INPUTS)), jnp.array([0, 2])

    def pick(x, rows):
        return x[rows] ** 2

    def rule(x, rows):
        return pick(x, rows), lambda dy: (jnp.zeros_like(x).at[rows].add(2 * x[rows] * dy), None)

    check_vjp(pick, rule, x, rows)


def test_transposes_and_scattered_signs_are_told(key):
    x = jax.random.normal(key, (EXAMPLES, EXAMPLES))
    weights = np.random.default_rng(1).normal(size=(EXAMPLES, EXAMPLES))

    def f(x):
        return x * weights.astype(x.dtype)

    for wrong, told in (
        (lambda g: g.T, "; transposed"),
        (lambda g: -g.T, "; transposed, with the sign flipped"),
        (jnp.abs, "; some signs flipped"),
    ):
        with pytest.raises(AssertionError) as error:
            check_vjp(f, lambda x, wrong=wrong: (f(x), lambda dy: (wrong(dy * weights.astype(x.dtype)),)), x)
        assert str(error.value).endswith(told)


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
