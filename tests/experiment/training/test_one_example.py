"""What passes each layer on one example's way, against automatic differentiation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet as jn
from jaxnet.experiment.training.one_example import way_of

LOSS = jn.losses.softmax_cross_entropy_with_integer_labels


def test_outputs_derivatives_and_gradients_are_those_of_automatic_differentiation(x64):
    parts = (
        jn.chain(jn.dense(4, 3), jn.tanh),
        jn.residual(jn.chain(jn.dense(3, 3), jn.softplus)),
        jn.repeat(jn.recompute(jn.chain(jn.dense(3, 3), jn.tanh)), 2),
        jn.dense(3, 5),
    )
    net = jn.chain(*parts)
    params, x = jax.jit(net.init)(jax.random.key(0)), jax.random.normal(jax.random.key(1), (1, 4))
    y = jnp.array([3])
    way = way_of(net, LOSS, params, np.asarray(x), np.asarray(y))
    assert [layer.name for layer in way.layers] == [
        "dense", "tanh", "dense", "softplus", "residual", "dense", "tanh", "dense", "tanh", "dense",
    ]  # fmt: skip
    assert [layer.rounds for layer in way.layers[5:9]] == [(("repeat", 1),)] * 2 + [(("repeat", 2),)] * 2

    def loss(params, x):
        return LOSS.forward(net.apply(params, x), y)[0]

    @jax.jit
    def expected(params, x):
        """Of the network, and of what each part of the chain puts out, and the loss's derivative by that."""
        outputs = [jn.chain(*parts[:number]).apply(params[:number], x) for number in range(1, 5)]

        def rest(number, output):
            return LOSS.forward(jn.chain(*parts[number:]).apply(params[number:], output), y)[0]

        derivatives = [jax.grad(partial(rest, number))(output) for number, output in enumerate(outputs, start=1)]
        return jax.value_and_grad(loss, (0, 1))(params, x), outputs, derivatives

    (value, (of_params, dx)), outputs, derivatives = expected(params, x)
    close = {"rtol": 1e-12, "atol": 1e-15}
    np.testing.assert_allclose(way.loss, value, **close)
    np.testing.assert_allclose(way.dx, dx[0], **close)
    np.testing.assert_allclose(way.z, outputs[-1][0], **close)
    for layer, output, derivative in zip((1, 4, 8, 9), outputs, derivatives, strict=True):
        np.testing.assert_allclose(way.layers[layer].y[0], output[0], **close)
        np.testing.assert_allclose(way.layers[layer].dy[0], derivative[0], **close)
    of_rounds = [jax.tree.map(lambda leaf, k=k: leaf[k], of_params[2][0]) for k in (0, 1)]
    theirs = [of_params[0][0], (), of_params[1][0], (), (), of_rounds[0], (), of_rounds[1], (), of_params[3]]
    for layer, grads in zip(way.layers, theirs, strict=True):
        assert [of.name for of in layer.parameters] == (["W", "b"] if grads else [])
        for of, grad in zip(layer.parameters, grads, strict=True):
            np.testing.assert_allclose(of.gradient, grad, **close)
    np.testing.assert_array_equal(way.layers[7].parameters[0].value, params[2][0].W[1])


def test_ids_have_no_derivative_and_a_table_that_is_used_twice_has_a_gradient_of_each_use(x64):
    net = jn.tied(jn.embedding(5, 4), jn.chain(jn.dense(4, 4), jn.tanh), jn.unembedding(5, 4))
    params, x, y = jax.jit(net.init)(jax.random.key(0)), jnp.array([[0, 3, 4]]), jnp.array([[3, 4, 1]])
    loss = jn.losses.cross_entropy(over_positions="mean")
    way = way_of(net, loss, params, np.asarray(x), np.asarray(y))
    assert way.dx is None
    expected = jax.jit(jax.grad(lambda params: loss.forward(net.apply(params, x), y)[0]))(params)
    first, *_, last = way.layers
    assert (first.name, last.name) == ("embedding", "unembedding")
    total = first.parameters[0].gradient + last.parameters[0].gradient
    np.testing.assert_allclose(total, jax.tree.leaves(expected[0])[0], rtol=1e-12, atol=1e-15)
