import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import ACTIVATIONS, forward_by_neuron

import jaxnet as jn

ACTIVATION_LAYERS = [jn.sigmoid, jn.tanh, jn.relu, jn.leaky_relu(), jn.softplus, jn.identity]
messages = pytest.mark.usefixtures("without_shape_annotations")


SIZES = (3, 5, 4, 6, 5, 2)


@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 3)], ids=str)
def test_combinators_nest(shape, key):
    net = jn.branches(
        jn.chain(),
        jn.residual(jn.mlp((3, 4, 3), jn.tanh)),
        jn.chain(jn.dense(3, 4), jn.residual(jn.chain(jn.tanh, jn.dense(4, 4))), jn.dense(4, 2)),
        jn.chain(jn.chain(jn.dense(3, 4), jn.tanh), jn.chain(jn.chain(jn.dense(4, 2)))),
    )
    jn.testing.check_layer(net, jax.random.normal(key, shape), key)


def test_backward_equals_autodiff_at_every_depth(key):
    """Of one to five layers, beside one another; each depth with another activation."""
    nets = [
        jn.mlp(SIZES[: depth + 1], activation, output_activation=activation)
        for depth, activation in zip((1, 2, 3, 4, 5, 5), ACTIVATION_LAYERS, strict=True)
    ]
    jn.testing.check_layer(jn.branches(*nets), jax.random.normal(key, (5, 3)), key)


@pytest.mark.parametrize("depth", range(1, 6))
def test_forward_equals_the_loop_over_neurons(depth, x64, key):
    nets = {activation.name: jn.mlp(SIZES[: depth + 1], activation) for activation in ACTIVATION_LAYERS}
    params = {name: jax.tree.map(lambda leaf: leaf + 0.1, net.init(key)) for name, net in nets.items()}
    x = jax.random.normal(key, (4, 3))
    actual = jax.jit(lambda params, x: {name: net.apply(params[name], x) for name, net in nets.items()})(params, x)
    for name, y in actual.items():
        layers = [(np.asarray(layer.W), np.asarray(layer.b)) for layer in params[name] if layer != ()]
        functions = [ACTIVATIONS[name]] * (depth - 1) + [ACTIVATIONS["identity"]]
        # Sums of six terms in another order, at 1.1e-16 each.
        expected = forward_by_neuron(layers, functions, x)
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14, err_msg=name)


def test_an_empty_chain_is_the_identity(key):
    x = jax.random.normal(key, (5, 3))
    net = jn.chain()
    assert net.init(key) == ()
    np.testing.assert_array_equal(net.apply((), x), x)


def test_signals_are_the_gradients_at_every_edge(x64, key):
    layers = [jn.dense(3, 4), jn.tanh, jn.dense(4, 2)]
    net = jn.chain(*layers)
    params, x, dy = net.init(key), jax.random.normal(key, (5, 3)), jax.random.normal(key, (5, 2))
    _, cache = net.forward(params, x)
    edges = jn.signals(net, params, cache, dy)
    assert len(edges) == 4
    at_edge = x
    for position, signal in enumerate(edges):
        rest, rest_params = jn.chain(*layers[position:]), params[position:]
        _, pullback = jax.vjp(lambda a, rest=rest, rest_params=rest_params: rest.apply(rest_params, a), at_edge)
        np.testing.assert_allclose(signal, pullback(dy)[0], rtol=1e-12, atol=1e-15, err_msg=f"edge {position}")
        if position < 3:
            at_edge = layers[position].apply(params[position], at_edge)


def test_signals_of_a_single_layer_are_its_two_edges(key):
    layer = jn.dense(3, 4)
    params, dy = layer.init(key), jax.random.normal(key, (5, 4))
    dx, same = jn.signals(layer, params, jnp.ones((5, 3)), dy)
    assert same is dy
    np.testing.assert_array_equal(dx, dy @ params.W)


@messages
def test_errors_say_where_in_the_chain(key):
    net = jn.chain(jn.dense(3, 4), jn.chain(jn.tanh, jn.dense(5, 2)))
    with pytest.raises(ValueError, match=r"^dense\(5, 2\): expected x of shape \(m, ..., 5\), got \(7, 4\)") as error:
        net.forward(net.init(key), jnp.ones((7, 3)))
    assert error.value.__notes__[-2:] == ["in layer [1] of the chain, dense", "in layer [1] of the chain, chain"]


@messages
def test_misuse_is_named(key):
    net = jn.chain(jn.dense(3, 4), jn.tanh)
    params = net.init(key)
    with pytest.raises(ValueError, match="^chain: expected a tuple of 2 layers' parameters, got 1$"):
        net.forward(params[:1], jnp.ones((7, 3)))
    with pytest.raises(ValueError, match="^chain: expected a tuple of 2 layers' parameters, got a Dense$"):
        net.forward(params[0], jnp.ones((7, 3)))
    shrinking = jn.residual(jn.dense(3, 2))
    with pytest.raises(ValueError, match=r"^residual: expected dense to keep the shape \(7, 3\) of x, got \(7, 2\)"):
        shrinking.forward(shrinking.init(key), jnp.ones((7, 3)))
