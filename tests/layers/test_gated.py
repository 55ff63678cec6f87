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
@pytest.mark.parametrize("shape", [(5, 6), (3, 2, 4)], ids=str)
def test_backward_equals_autodiff(name, shape, key):
    jn.testing.check_layer(LAYERS[name], jax.random.normal(key, shape), key)


@every_layer
def test_inside_combinators_backward_equals_autodiff(name, key):
    block = jn.residual(feed_forward(LAYERS[name]))
    net = jn.chain(jn.repeat(jn.recompute(block), 2), jn.branches(block, jn.dense(3, 1)))
    jn.testing.check_layer(net, jax.random.normal(key, (4, 3)), key)


@every_layer
def test_forward_and_backward_equal_pytorchs(name, x64):
    assert_as_torch(name, LAYERS[name])


@every_layer
def test_readings_and_curvature_equal_autodiffs(name, x64, key):
    net, loss = jn.chain(feed_forward(LAYERS[name]), jn.dense(3, 2)), jn.losses.half_squared_error
    params, x, y = net.init(key), jax.random.normal(key, (5, 3)), jnp.ones((5, 2))
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    _, each = jn.value_and_grad(net, loss, read=lambda d, _: per_example.each(d))(params, x, y)
    jacobian = jax.jacfwd(lambda flat: net.apply(unflatten(flat), x))(flat)
    gradients = jax.jacrev(lambda flat: loss.forward(net.apply(unflatten(flat), x), y))(flat)
    for actual, expected in (
        (each, jax.vmap(unflatten)(gradients)),
        (curvature.ggn_diagonal(net, loss, params, x, y), unflatten((jacobian**2).sum(1).mean(0))),
    ):
        for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())
    with pytest.raises(ValueError, match=name):
        curvature.hessian_diagonal(net, loss, params, x, y)


@every_layer
def test_in_mixed_precision_it_computes_in_the_short_type(name, key):
    net = feed_forward(LAYERS[name])
    params, x = net.init(key), jax.random.normal(key, (4, 3))
    (_, grads), (_, expected) = (
        jn.value_and_grad(one, jn.losses.half_squared_error)(params, x, x) for one in (jn.mixed_precision(net), net)
    )
    for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.03 * np.abs(theirs).max())


@every_layer
def test_the_first_half_is_the_value_and_the_second_the_gate_far_out_too(name):
    x = jnp.array([[3.0, -1e4], [3.0, 1e4]])
    gated = {"glu": 3.0, "swiglu": 3e4, "geglu": 3e4}[name]
    y, cache = LAYERS[name].forward((), x)
    np.testing.assert_allclose(y, [[0.0], [gated]], rtol=1e-6)
    _, dx = LAYERS[name].backward((), cache, jnp.ones_like(y))
    np.testing.assert_allclose(dx, [[0.0, 0.0], [gated / 3, 0.0 if name == "glu" else 3.0]], rtol=1e-6)
    assert cache is x


@every_layer
def test_exported_for_every_platform_it_is_the_same(name, key):
    layer, x = LAYERS[name], jax.random.normal(key, (4, 6))

    def both(x):
        y, cache = layer.forward((), x)
        return y, layer.backward((), cache, jnp.cos(y))[1]

    exported = jax.export.export(jax.jit(both), platforms=("cpu", "cuda", "tpu"))(x)
    for ours, theirs in zip(jax.export.deserialize(exported.serialize()).call(x), both(x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@every_layer
@pytest.mark.usefixtures("without_shape_annotations")
def test_what_has_no_halves_is_refused(name):
    with pytest.raises(ValueError) as error:
        LAYERS[name].forward((), jnp.ones((4, 3)))
    assert str(error.value) == f"{name}: expected x of shape (m, ..., 2 h), two halves, got (4, 3)"
