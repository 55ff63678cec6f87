"""Layers and losses as things: printed, called, pickled, explained."""

import copy
import pickle
import pydoc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn

BLOCK = jn.residual(jn.chain(jn.dense(512, 512), jn.relu))
LAYERS = {
    "dense(3, 4)": jn.dense(3, 4),
    "tanh": jn.tanh,
    "leaky_relu(0.2)": jn.leaky_relu(0.2),
    "chain()": jn.chain(),
    "chain(dense(3, 4), tanh, dense(4, 1))": jn.mlp((3, 4, 1), jn.tanh),
    "chain(dense(3, 4), chain(sigmoid), dense(4, 1))": jn.chain(jn.dense(3, 4), jn.chain(jn.sigmoid), jn.dense(4, 1)),
    "repeat(residual(chain(dense(512, 512), relu)), 64)": jn.repeat(BLOCK, 64),
    "recompute(mixed_precision(softplus, bfloat16))": jn.recompute(jn.mixed_precision(jn.softplus)),
    "mixed_precision(identity, float16)": jn.mixed_precision(jn.identity, np.dtype("float16")),
    "chain(dense(1, 1), relu, dense(1, 1), relu, dense(1, 1), relu, dense(1, 1), relu)": jn.chain(
        *(jn.dense(1, 1), jn.relu) * 4
    ),
    "chain(dense(1, 1), relu, dense(1, 1), relu, ... 1993 more ..., relu, dense(1, 1), relu)": jn.chain(
        *(jn.dense(1, 1), jn.relu) * 1000
    ),
}
LOSSES = [
    "sigmoid_binary_cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "half_squared_error",
    "binary_cross_entropy",
]


def shifted_forward(shift, scale, params, x, *, sign):
    """y = x + shift."""
    return x + shift, ()


@pytest.mark.parametrize("text", LAYERS)
def test_a_layer_is_printed_in_one_line_as_it_was_made(text):
    assert repr(LAYERS[text]) == str(LAYERS[text]) == text


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_printed_by_its_name(name):
    assert repr(getattr(jn.losses, name)) == name


def test_what_users_bind_is_printed_in_one_line_too():
    forward = jax.tree_util.Partial(shifted_forward, jnp.ones((3, 4)), len, sign=[1])
    layer = jn.Layer(lambda key: (), forward, lambda params, cache, dy: ((), dy))
    assert repr(layer) == "shifted(float32[3, 4], len, sign=[1])"
    assert repr(layer._replace(forward=lambda params, x: (x, ()))) == "<lambda>"


def test_the_readmes_deep_network_is_printed_in_one_short_line():
    block = jn.residual(jn.chain(jn.dense(64, 256), jn.relu, jn.dense(256, 64)))
    net = jn.mixed_precision(jn.chain(jn.repeat(jn.recompute(block), 32), jn.dense(64, 10)))
    assert repr(net) == (
        "chain(repeat(recompute(residual(chain(mixed_precision(dense(64, 256), bfloat16), "
        "mixed_precision(relu, bfloat16), mixed_precision(dense(256, 64), bfloat16)))), 32), "
        "mixed_precision(dense(64, 10), bfloat16))"
    )


def test_a_layer_is_called_for_its_output_and_a_loss_for_its_value(key):
    net, loss = jn.mlp((3, 4, 1), jn.tanh), jn.losses.half_squared_error
    params, x = net.init(key), jax.random.normal(key, (5, 3))
    z = net(params, x)
    np.testing.assert_array_equal(z, net.apply(params, x))
    # What the docstrings have jit take.
    np.testing.assert_allclose(jax.jit(loss.forward)(jax.jit(net.apply)(params, x), z), 0, atol=1e-12)
    np.testing.assert_array_equal(loss(z, x[:, :1]), loss.forward(z, x[:, :1]))


def test_what_was_pickled_or_copied_has_the_same_parameters_outputs_and_gradients(key):
    block = jn.chain(jn.dense(3, 3, weight_init=jn.initializers.small_normal), jn.residual(jn.leaky_relu(0.2)))
    net = jn.chain(jn.repeat(jn.recompute(block), 2), jn.mixed_precision(jn.mlp((3, 4, 1))))
    loss = jn.losses.half_squared_error
    x = jax.random.normal(key, (5, 3))

    def gradient(net, loss):
        return jn.value_and_grad(net, loss)(net.init(key), x, x[:, :1])

    expected = gradient(net, loss)
    for again in (pickle.loads(pickle.dumps((net, loss))), copy.deepcopy((net, loss))):
        assert repr(again) == repr((net, loss))
        jax.tree.map(np.testing.assert_array_equal, gradient(*again), expected)
    again = pickle.loads(pickle.dumps(jn.identity))
    assert repr(jn.mlp((3, 1), output_activation=again)) == "chain(dense(3, 1))"


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_can_be_pickled(name):
    loss = getattr(jn.losses, name)
    assert pickle.loads(pickle.dumps(loss)) == loss


@pytest.mark.parametrize("name", ["zeros", "small_normal", "he", "glorot"])
def test_every_initializer_can_be_pickled(name):
    initializer = getattr(jn.initializers, name)
    assert pickle.loads(pickle.dumps(initializer)) is initializer


def test_help_on_a_layer_or_loss_tells_its_equations():
    for thing, name, *equations in (
        (jn.tanh, "tanh", "forward: a = tanh(z).", "backward: g' = 1 - a^2.", "second: g'' = -2 a (1 - a^2)."),
        (jn.dense(3, 4), "dense(3, 4)", "forward: z = x W^T + b, for samples as rows. The cache is x."),
        (jn.losses.half_squared_error, "half_squared_error", "backward: dz = z - y.", "sample: y ~ N(z, I)."),
    ):
        _, title, *lines = pydoc.plain(pydoc.render_doc(thing)).split("\n")
        assert lines[0] == name, title
        assert {f"    {equation}" for equation in equations} <= set(lines)


def test_help_on_the_classes_and_on_functions_without_docstrings_is_that_of_the_class():
    silent = jn.Layer(lambda key: (), lambda params, x: (x, ()), lambda params, cache, dy: ((), dy))
    for kind, first in ((jn.Layer, "Pure functions: "), (jn.Loss, "Four pure functions: ")):
        assert kind.__doc__.startswith(first)
        assert "Attributes:" in pydoc.plain(pydoc.render_doc(kind))
    assert silent.__doc__ == jn.Layer.__doc__


def test_layers_stay_tuples_of_functions_for_jax():
    net = jn.mlp((3, 4, 1))
    assert isinstance(net, tuple)
    assert net._fields == ("init", "forward", "backward", "second", "kind", "keyed", "made", "decoder")
    assert jax.tree.leaves(net) == [net.init, net.forward, net.backward, net.made]


def test_a_network_with_a_function_of_your_own_is_no_more_what_it_was_made_as():
    """Else a walk would make it again without that function."""
    net = jn.mlp((3, 4, 1))
    assert net._replace(kind=None).made is net.made
    for field in ("init", "forward", "backward", "second"):
        changed = net._replace(**{field: lambda *arguments: arguments})
        assert changed.made is None
        assert type(changed) is jn.Layer


@pytest.mark.parametrize("wrap", [lambda net: net, jn.recompute, lambda net: jn.repeat(net, 2)])
def test_what_mixed_precision_wraps_keeps_its_name(wrap):
    net = wrap(jn.mixed_precision(jn.mixed_precision(jn.dense(3, 3))))
    leaf = net if net.made is None else net.made.args[0]
    assert (leaf.name, leaf.kind) == ("dense", "linear")
    assert repr(leaf) == "mixed_precision(mixed_precision(dense(3, 3), bfloat16), bfloat16)"
