"""What layers note of themselves comes back in the order of forward, and changes nothing of what they do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_layers import add_all, masked, twice

import jaxnet as jn
from jaxnet.notes import in_order, with_notes

BLOCK = jn.chain(jn.dense(4, 4), masked(0.5), jn.tanh)
NETWORKS = {
    "a chain": jn.chain(BLOCK, jn.dense(4, 4)),
    "a repeated layer": jn.chain(jn.repeat(BLOCK, 3), jn.dense(4, 4)),
    "computed again": jn.repeat(jn.recompute(jn.residual(BLOCK)), 3),
    "parameters at both ends": jn.tied(jn.dense(4, 4), jn.repeat(BLOCK, 2), jn.dense(4, 4)),
    "a combinator of one's own": jn.repeat(jn.recompute(add_all(BLOCK, jn.residual(jn.repeat(BLOCK, 2)))), 3),
}


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_values_and_signals_stay_and_each_layer_has_its_own_parameters(name, bound, key):
    net = jn.bind(NETWORKS[name], key) if bound else NETWORKS[name]
    params, x = net.init(key), jax.random.normal(key, (5, 4))
    y, cache = net.forward(params, x)
    _, dx = net.backward(params, cache, y)
    noted = with_notes(net, ahead=lambda y: y.sum(), back=lambda layer, params, cache, dy: params)
    z, of_noted = noted.forward(params, x)
    note, dz = noted.backward(params, of_noted, z)
    # But for what the compiler puts together otherwise.
    np.testing.assert_allclose(z, y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dz, dx, rtol=1e-5, atol=1e-5)
    for of_layer in in_order(net, note, params):
        if of_layer.place.layer.made is None:
            jax.tree.map(np.testing.assert_array_equal, of_layer.back, of_layer.trees[0])
            assert of_layer.weights == ((True, False) if of_layer.place.layer.name == "dense" else ())


def test_layers_come_in_the_order_of_forward_round_by_round(key):
    net = jn.repeat(jn.chain(jn.repeat(jn.tanh, 2), jn.relu), 2)
    params, x = net.init(key), jnp.ones((3, 4))
    noted = with_notes(net, ahead=lambda y: y[0, 0])
    z, cache = noted.forward(params, x)
    found = list(in_order(net, noted.backward(params, cache, z)[0], params))
    once = ["tanh", "tanh", "repeat", "relu", "chain"]
    assert [of_layer.place.layer.name for of_layer in found] == [*once, *once, "repeat"]
    assert [of_layer.rounds for of_layer in found[:3]] == [
        (("repeat", 1), ("repeat", 1)),
        (("repeat", 1), ("repeat", 2)),
        (("repeat", 1),),
    ]
    tanhs = [float(of_layer.ahead) for of_layer in found if of_layer.place.layer.name == "tanh"]
    expected = [np.tanh(1.0)]
    for _ in range(3):
        expected.append(np.tanh(expected[-1]))
    np.testing.assert_allclose(tanhs, expected, rtol=1e-6)


def test_of_a_layer_that_is_used_twice_what_is_bad_at_one_use_is_bad(key):
    net = twice(jn.dense(2, 2), jn.relu)
    params = jn.Dense(W=jnp.full((2, 2), 1e20), b=jnp.zeros(2))
    noted = with_notes(net, ahead=lambda y: ~jnp.isfinite(y).all(axis=1))
    z, cache = noted.forward(params, jnp.array([[1.0, 1], [0, 0]]))
    (dense, whole) = in_order(net, noted.backward(params, cache, z)[0], params)
    assert (dense.ahead.tolist(), whole.ahead.tolist()) == ([True, False], [True, False])


def test_of_a_layer_made_of_others_what_comes_back_to_it_is_noted_too(key):
    net = jn.chain(jn.residual(jn.dense(2, 2)), jn.dense(2, 2))
    params, x = net.init(key), jnp.ones((3, 2))
    noted = with_notes(net, back=lambda layer, params, cache, dy: dy, around=lambda dy: dy)
    z, cache = noted.forward(params, x)
    inner, residual, outer, chain = in_order(net, noted.backward(params, cache, z)[0], params)
    np.testing.assert_array_equal(chain.back, outer.back)
    np.testing.assert_array_equal(residual.back, z @ params[1].W)
    np.testing.assert_array_equal(residual.back, inner.back)
