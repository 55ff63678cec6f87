import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_results import assert_as_torch

import jaxnet as jn
from jaxnet import curvature, per_example

LAYERS = {"glu": jn.glu, "swiglu": jn.swiglu, "geglu": jn.geglu}
every_layer = pytest.mark.parametrize("name", LAYERS)


def feed_forward(layer, width=3, hidden=2):
    return jn.chain(jn.dense(width, 2 * hidden), layer, jn.dense(hidden, width))


@every_layer
def test_backward_equals_autodiff(name, key):
    jn.testing.check_layer(LAYERS[name], jax.random.normal(key, (5, 6)), key)


def test_with_positions_backward_equals_autodiff(key):
    jn.testing.check_layer(jn.branches(*LAYERS.values()), jax.random.normal(key, (3, 2, 4)), key)


TOGETHER = jn.fan_out(*(feed_forward(layer) for layer in LAYERS.values()))


def test_inside_combinators_backward_equals_autodiff(key):
    block = jn.residual(TOGETHER)
    net = jn.chain(jn.repeat(jn.recompute(block), 2), jn.branches(block, jn.dense(3, 1)))
    jn.testing.check_layer(net, jax.random.normal(key, (4, 3)), key, short_types=("float32",))


@every_layer
def test_forward_and_backward_equal_pytorchs(name, x64):
    assert_as_torch(name, LAYERS[name])


def test_readings_and_curvature_equal_autodiffs(x64, key):
    net, loss = jn.chain(TOGETHER, jn.dense(3, 2)), jn.losses.half_squared_error
    params, x, y = net.init(key), jax.random.normal(key, (5, 3)), jnp.ones((5, 2))
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    @jax.jit
    def pairs(params, flat):
        _, each = jn.value_and_grad(net, loss, read=lambda d, _: per_example.each(d))(params, x, y)
        jacobian = jax.jacfwd(lambda flat: net.apply(unflatten(flat), x))(flat)
        gradients = jax.jacrev(lambda flat: loss.forward(net.apply(unflatten(flat), x), y))(flat)
        diagonal = curvature.ggn_diagonal(net, loss, params, x, y)
        return (each, jax.vmap(unflatten)(gradients)), (diagonal, unflatten((jacobian**2).sum(1).mean(0)))

    for actual, expected in pairs(params, flat):
        for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


def test_in_mixed_precision_they_compute_in_the_short_type(key):
    nets = {name: feed_forward(layer) for name, layer in LAYERS.items()}
    params, x = nets["glu"].init(key), jax.random.normal(key, (4, 3))

    @jax.jit
    def gradients(params, x):
        def of(net):
            return jn.value_and_grad(net, jn.losses.half_squared_error)(params, x, x)[1]

        return {name: (of(jn.mixed_precision(net)), of(net)) for name, net in nets.items()}

    for name, (grads, expected) in gradients(params, x).items():
        for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
            assert ours.dtype == jnp.float32
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.03 * np.abs(theirs).max(), err_msg=name)


@every_layer
def test_the_first_half_is_the_value_and_the_second_the_gate_far_out_too(name):
    x = jnp.array([[3.0, -1e4], [3.0, 1e4]])
    gated = {"glu": 3.0, "swiglu": 3e4, "geglu": 3e4}[name]
    y, cache = LAYERS[name].forward((), x)
    np.testing.assert_allclose(y, [[0.0], [gated]], rtol=1e-6)
    _, dx = LAYERS[name].backward((), cache, jnp.ones_like(y))
    np.testing.assert_allclose(dx, [[0.0, 0.0], [gated / 3, 0.0 if name == "glu" else 3.0]], rtol=1e-6)
    assert cache[-1] is x


@every_layer
def test_a_scan_of_gradients_keeps_what_dy_is_multiplied_by_and_not_x(name, key):
    net = jn.repeat(feed_forward(LAYERS[name], width=32, hidden=32), 16)
    params, x = jax.eval_shape(net.init, key), jax.ShapeDtypeStruct((64, 32), jnp.float32)
    gradient = jax.jit(jn.value_and_grad(net, jn.losses.half_squared_error))
    kept = gradient.lower(params, x, x).compile().memory_analysis().temp_size_in_bytes
    # Of each of 16 rounds the inputs of both dense layers, g(u) and v g'(u); what the gate is given is two more.
    assert kept < 16 * 5 * 4 * x.size


def test_exported_for_every_platform_they_are_the_same(key):
    x = jax.random.normal(key, (4, 6))

    @jax.jit
    def both(x):
        def of(layer):
            y, cache = layer.forward((), x)
            return y, layer.backward((), cache, jnp.cos(y))[1]

        return {name: of(layer) for name, layer in LAYERS.items()}

    exported, expected = jax.export.export(both, platforms=("cpu", "cuda", "tpu"))(x), both(x)
    for name, actual in jax.export.deserialize(exported.serialize()).call(x).items():
        for ours, theirs in zip(actual, expected[name], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=name)


@every_layer
@pytest.mark.usefixtures("without_shape_annotations")
def test_what_has_no_halves_is_refused(name):
    with pytest.raises(ValueError) as error:
        LAYERS[name].forward((), jnp.ones((4, 3)))
    assert str(error.value) == f"{name}: expected x of shape (m, ..., 2 h), two halves, got (4, 3)"
