"""KFRA through layers of all kinds, against its recursion with Jacobians of autodiff."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn
from jaxnet import curvature

LOSS = jn.losses.half_squared_error
EXAMPLES = 3
NETWORKS = {
    "positions": (jn.chain(jn.dense(3, 4), jn.tanh, jn.dense(4, 2)), (3, 3)),
    "convolution": (
        jn.chain(jn.conv(2, 3, (2,), padding="VALID"), jn.tanh, jn.max_pool((2,)), jn.flatten, jn.dense(3, 2)),
        (4, 2),
    ),
    "over time": (jn.chain(jn.dense(2, 2), jn.gru(2, 3, last=True), jn.dense(3, 2)), (3, 2)),
    "norm and gain": (jn.chain(jn.dense(3, 4), jn.layer_norm(4), jn.global_mean, jn.dense(4, 2)), (2, 3)),
}


def passes(net, params, x):
    """Of each layer each example's Jacobian, (m, outputs, inputs)."""
    jacobians = []
    for layer, of_layer in zip(net.made.args, params, strict=True):
        J = jax.vmap(jax.jacrev(lambda x, layer=layer, p=of_layer: layer.apply(p, x[None])[0]))(x)
        y = layer.apply(of_layer, x)
        jacobians.append(J.reshape(len(x), y[0].size, x[0].size))
        x = y
    return jacobians


def recursion(net, params, x, weights):
    """{position: the B that K gives of each layer's weight, and of its bias}."""
    K, found = None, {}
    jacobians = jax.device_get(jax.jit(partial(passes, net))(params, x))
    for position, (layer, J) in reversed(list(enumerate(zip(net.made.args, jacobians, strict=True)))):
        K = np.eye(J.shape[1]) if K is None else K
        if layer.name in ("dense", "conv"):
            channels = params[position].b.size
            by_position = np.asarray(K).reshape(-1, channels, J.shape[1] // channels, channels)
            found[position] = np.einsum("totq->oq", by_position), by_position.sum((0, 2))
        K = np.einsum("n,nab,ac,ncd->bd", weights, J, K, J)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_factors_are_those_of_the_recursion(name, x64, key):
    net, shape = NETWORKS[name]
    params, x = net.init(key), jax.random.normal(key, (EXAMPLES, *shape))
    weights, y = np.array([0.5, 0.25, 0.25]), jnp.zeros_like(net.apply(params, x))
    factors, kflr = jax.jit(
        lambda x: [read(net, LOSS, params, x, y, jnp.asarray(weights)) for read in (curvature.kfra, curvature.kflr)]
    )(x)
    for position, (B, of_bias) in recursion(net, params, x, weights).items():
        assert_close(factors[position].W[0], B)
        assert_close(factors[position].b[0], of_bias)
        # Inputs are what they are.
        assert_close(factors[position].W[1], kflr[position].W[1])


def test_reduced_it_is_exact_where_positions_are_pooled(x64, key):
    net = jn.chain(jn.conv(2, 3, (1,)), jn.global_mean, jn.dense(3, 2))
    params, x = net.init(key), jax.random.normal(key, (EXAMPLES, 3, 2))
    y = jnp.zeros((EXAMPLES, 2))
    read = jax.jit(
        lambda: (
            curvature.kfra(net, LOSS, params, x, y, positions="reduce"),
            curvature.ggn_blocks(net, LOSS, params, x, y),
        )
    )
    factors, blocks = read()
    assert_close(np.kron(*factors[0].W), blocks[0].W)
    assert_close(factors[0].b[0], blocks[0].b)


def test_attention_is_refused_by_name(key):
    net = jn.chain(jn.multi_head_attention(4, 2), jn.global_mean)
    with pytest.raises(ValueError) as error:
        curvature.kfra(net, LOSS, net.init(key), jnp.ones((2, 3, 4)), jnp.ones((2, 4)))
    assert str(error.value) == "curvature.kfra: expected layers of one array, got attention; use kflr"


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
