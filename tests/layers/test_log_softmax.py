import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_results import assert_as_torch

import jaxnet as jn
from jaxnet import curvature, per_example


@pytest.mark.parametrize("shape", [(5, 4), (3, 2, 4), (4, 1)], ids=str)
def test_backward_equals_autodiff(shape, key):
    jn.testing.check_layer(jn.log_softmax, jax.random.normal(key, shape), key, zero_gradients=shape[-1] == 1)


def test_inside_combinators_backward_equals_autodiff(key):
    block = jn.residual(jn.chain(jn.dense(3, 3), jn.log_softmax))
    jn.testing.check_layer(
        jn.repeat(jn.recompute(block), 2), jax.random.normal(key, (4, 3)), key, short_types=("float32",)
    )


def test_forward_and_backward_equal_pytorchs(x64):
    assert_as_torch("log_softmax", jn.log_softmax)


def test_it_makes_a_loss_of_labels_what_the_loss_of_logits_is(x64, key):
    """-log p of the label, which softmax does not change any more: log_softmax of logarithms is the same."""
    net, loss = jn.chain(jn.dense(3, 4), jn.log_softmax), jn.losses.softmax_cross_entropy_with_integer_labels
    params, x, y = net.init(key), jax.random.normal(key, (5, 3)), jnp.arange(5) % 4
    alone = net.made.args[0]
    (value, grads), (expected, plain) = (
        jax.jit(jn.value_and_grad(one, loss))(p, x, y) for one, p in ((net, params), (alone, params[0]))
    )
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)


def test_readings_and_curvature_equal_autodiffs(x64, key):
    net, loss = jn.chain(jn.dense(3, 4), jn.log_softmax, jn.dense(4, 2)), jn.losses.half_squared_error
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


def test_far_out_and_for_classes_that_are_ruled_out_it_is_right():
    z = jnp.array([[1e4, -1e4, 0.0], [0.0, -jnp.inf, 0.0], [3e38, -3e38, 0.0]])
    y, cache = jn.log_softmax.forward((), z)
    np.testing.assert_allclose(y, [[0, -2e4, -1e4], [-np.log(2), -np.inf, -np.log(2)], [0, -np.inf, -3e38]], rtol=1e-6)
    _, dz = jn.log_softmax.backward((), cache, jnp.eye(3)[jnp.array([1, 0, 1])])
    np.testing.assert_allclose(dz, [[-1, 1, 0], [0.5, 0, -0.5], [-1, 1, 0]], atol=1e-6)


def test_in_mixed_precision_it_computes_in_the_short_type(key):
    net = jn.mixed_precision(jn.log_softmax)
    z = jax.random.normal(key, (4, 3))
    np.testing.assert_allclose(np.float32(net.apply((), z)), jax.nn.log_softmax(z), atol=0.03)


@pytest.mark.usefixtures("without_shape_annotations")
def test_a_number_alone_is_refused():
    with pytest.raises(ValueError, match=r"^log_softmax: expected z of shape \(m, \.\.\., k\), got \(\)$"):
        jn.log_softmax.forward((), jnp.float32(1))
