"""Second derivatives that are no diagonal: of gates, norms, log_softmax, and a product of a person's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxnet as jn
from jaxnet import curvature

LOSS = jn.losses.softmax_cross_entropy_with_integer_labels


def product_second(params, x, dy):
    """Of a pair (a, b) the matrix [[0, dy], [dy, 0]]."""
    units = jnp.eye(dy.shape[1])[:, None]
    S = units * jnp.ones_like(dy)[None]
    weights = (units * dy[None]).sum(2) / 2
    return jn.Bend((jnp.concatenate([S, S]), jnp.concatenate([S, -S])), jnp.concatenate([weights, -weights]))


PRODUCT = jn.Layer(
    lambda key: (),
    lambda params, x: (x[0] * x[1], x),
    lambda params, x, dy: ((), (dy * x[1], dy * x[0])),
    product_second,
)
NETS = {
    "gates": (
        jn.dense(3, 4),
        jn.swiglu,
        jn.dense(2, 4),
        jn.glu,
        jn.dense(2, 4),
        jn.geglu,
        jn.dense(2, 3),
        jn.global_mean,
    ),
    "norms": (
        *(jn.dense(3, 4), jn.group_norm(2, 4), jn.residual(jn.chain(jn.instance_norm(4), jn.dense(4, 4)))),
        *(jn.layer_norm(4), jn.dense(4, 3), jn.global_mean, jn.rms_norm(3), jn.dense(3, 3), jn.log_softmax),
        jn.dense(3, 3),
    ),
    "of a tuple": (jn.branches(jn.dense(3, 3), jn.chain(jn.dense(3, 3), jn.tanh)), PRODUCT, jn.dense(3, 3)),
}


def moved(net, key):
    return jax.tree.map(lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), net.init(key))


@pytest.mark.parametrize("name", NETS)
def test_the_hessians_diagonal_is_jaxs(name, x64, key):
    net, y = jn.chain(*NETS[name]), jnp.arange(2)
    x = jax.random.normal(key, (2, 3) if name == "of a tuple" else (2, 2, 3))
    params, unflatten = ravel_pytree(moved(net, key))

    @jax.jit
    def both(flat):
        ours = curvature.hessian_diagonal(net, LOSS, unflatten(flat), x, y)
        return ours, jax.hessian(lambda flat: LOSS.forward(net.apply(unflatten(flat), x), y).mean())(flat)

    ours, hessian = jax.device_get(both(params))
    theirs = np.diag(hessian)
    # Sums over the columns of all layers behind a weight, relative to the largest.
    np.testing.assert_allclose(ravel_pytree(ours)[0], theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


def test_check_layer_asks_for_it(key):
    x = tuple(jax.random.normal(key, (2, 3, 2)))
    jn.testing.check_layer(PRODUCT, x, key)
    doubled = PRODUCT._replace(second=lambda *of: product_second(*of)._replace(w=2 * product_second(*of).w))
    with pytest.raises(AssertionError, match=r"(?s)float64:\n  second.*off by the factor 2 everywhere"):
        jn.testing.check_layer(doubled, x, key)


@pytest.mark.parametrize(
    "layer", [jn.layer_norm(3), jn.rms_norm(3), jn.group_norm(1, 3)], ids=["layer", "rms", "group"]
)
def test_of_equal_numbers_and_of_no_signal_it_is_finite_in_float32(layer, key):
    """Where the variance is 0, and the signal has no part that a norm lets through."""
    params, x = layer.init(key), jnp.zeros((2, 3))
    _, cache = layer.forward(params, x)
    for dy in (jnp.zeros_like(x), jnp.ones_like(x)):
        bend = layer.second(params, cache, dy)
        assert all(np.isfinite(leaf).all() for leaf in bend)


def test_in_mixed_precision_it_is_of_the_outer_type(key):
    net = jn.mixed_precision(jn.chain(jn.dense(3, 4), jn.layer_norm(4), jn.glu, jn.dense(2, 2), jn.log_softmax))
    params, x, y = net.init(key), jnp.ones((2, 3)), jnp.arange(2)
    diagonal = jax.eval_shape(lambda params: curvature.hessian_diagonal(net, LOSS, params, x, y), params)
    assert jax.tree.map(jnp.shape, diagonal) == jax.tree.map(jnp.shape, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(diagonal)} == {jnp.dtype("float32")}
