"""What a network draws is drawn by a key: the same in forward and backward, and in every walk."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_layers import masked

import jaxnet as jn
from jaxnet import curvature, per_example

LOSS = jn.losses.half_squared_error
DROP = masked(0.5)
BLOCK = jn.residual(jn.chain(jn.dense(4, 4), jn.tanh, DROP))
NETS = {
    "chain": jn.chain(jn.dense(4, 4), DROP, jn.tanh, DROP, jn.dense(4, 3)),
    "repeat of recompute": jn.chain(jn.repeat(jn.recompute(BLOCK), 3), jn.dense(4, 3)),
    "repeat of repeat": jn.chain(jn.repeat(jn.repeat(BLOCK, 2), 2), jn.dense(4, 3)),
}
named = pytest.mark.parametrize("name", NETS)


def assert_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def assert_close(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13 * np.abs(theirs).max())


@pytest.fixture
def problem(x64, key):
    return jax.random.normal(jax.random.fold_in(key, 1), (5, 4)), jax.random.normal(jax.random.fold_in(key, 2), (5, 3))


def masks(net, key):
    """What the layers that draw multiply by, in forward and where it is computed again."""
    seen = []

    def noting(layer):
        def forward(params, x):
            y, cache = layer.forward(params, x)
            if layer.keyed is not None:
                jax.debug.callback(lambda mask: seen.append(np.asarray(mask).tobytes()), cache)
            return y, cache

        return layer._replace(forward=forward)

    bound = jn.bind(jn.at_leaves(noting, net), key)
    x = jnp.ones((6, 8))
    jax.block_until_ready(jax.jit(jn.value_and_grad(bound, LOSS))(bound.init(key), x, x))
    jax.effects_barrier()
    return seen


def test_where_nothing_draws_the_network_stays_what_it_is(key):
    net = jn.chain(jn.repeat(jn.recompute(jn.residual(jn.mlp((4, 5, 4)))), 2), jn.dense(4, 3))
    assert jn.bind(net, key) is net


@named
def test_unbound_what_draws_is_the_identity(name, problem, key):
    x, _ = problem
    net, plain = NETS[name], jn.at_leaves(lambda layer: layer if layer.keyed is None else jn.identity, NETS[name])
    assert_equal(net.apply(net.init(key), x), plain.apply(plain.init(key), x))


def test_every_layer_has_a_mask_of_its_own(key):
    pair = jn.chain(DROP, jn.residual(DROP))
    for net, count in (
        (jn.chain(pair, pair, DROP), 5),
        (jn.repeat(pair, 3), 6),
        (jn.repeat(jn.repeat(pair, 3), 2), 12),
    ):
        seen = masks(net, key)
        assert len(seen) == len(set(seen)) == count


def test_what_is_computed_again_is_drawn_the_same(key):
    seen = masks(jn.repeat(jn.recompute(DROP), 3), key)
    assert len(seen) == 6
    assert len(set(seen)) == 3
    assert seen[:3] == seen[:2:-1]


@named
def test_the_gradient_is_that_of_the_bound_forward(name, problem, key):
    x, y = problem
    net = NETS[name]
    params = net.init(key)

    @jax.jit
    def both(params, key):
        bound = jn.bind(net, key)
        expected = jax.value_and_grad(lambda params: LOSS.forward(bound.apply(params, x), y).mean())(params)
        return jn.value_and_grad(bound, LOSS)(params, x, y), expected

    assert_close(*both(params, key))
    one, other = (both(params, jax.random.fold_in(key, k))[0][0] for k in (1, 2))
    assert one != other


WALKS = {
    "mixed precision": lambda net: jn.mixed_precision(net, jnp.float32),
    "a changed backward": partial(
        jn.at_leaves, lambda layer: layer._replace(backward=lambda p, c, dy: layer.backward(p, c, 2 * dy))
    ),
}


@pytest.mark.parametrize("walk", WALKS)
@named
def test_to_walk_and_to_bind_commute(name, walk, problem, key):
    x, y = problem
    net, change = NETS[name], WALKS[walk]
    params = net.init(key)
    first, then = (
        jax.jit(jn.value_and_grad(bound, LOSS))(params, x, y)
        for bound in (jn.bind(change(net), key), change(jn.bind(net, key)))
    )
    assert_equal(first, then)


def test_readings_and_curvature_are_those_of_the_bound_network(problem, key):
    x, y = problem
    net = jn.bind(jn.chain(jn.repeat(jn.chain(jn.dense(4, 4), jn.tanh, DROP), 2), jn.dense(4, 3)), key)
    params = net.init(key)
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    @jax.jit
    def of_flat(flat):
        def losses(flat):
            return LOSS.forward(net.apply(unflatten(flat), x), y)

        params = unflatten(flat)
        _, grads = jn.value_and_grad(net, LOSS, read=lambda d, _: per_example.each(d))(params, x, y)
        diagonal = curvature.hessian_diagonal(net, LOSS, params, x, y)
        expected = jax.hessian(lambda flat: losses(flat).mean())(flat)
        return grads, jax.vmap(unflatten)(jax.jacrev(losses)(flat)), diagonal, unflatten(jnp.diag(expected))

    grads, expected, diagonal, expected_diagonal = of_flat(flat)
    assert_close(grads, expected)
    assert_close(diagonal, expected_diagonal)


def test_bound_again_it_draws_by_the_new_key(problem, key):
    x, _ = problem
    one, other = jax.random.split(key)
    for net in NETS.values():
        params = net.init(key)
        again = jn.bind(jn.bind(net, one), other)
        assert_equal(again.apply(params, x), jn.bind(net, other).apply(params, x))


def test_a_bound_network_is_printed(key):
    assert repr(jn.bind(jn.repeat(jn.chain(jn.tanh, DROP), 3), key)) == (
        "repeat(chain(tanh, masked(0.5, None)), 3, key=key<fry>[])"
    )


def test_what_a_bound_network_draws_is_exported(problem, key):
    x, y = problem
    net = NETS["repeat of recompute"]
    params = net.init(key)

    leaves, structure = jax.tree.flatten(params)

    def gradient(leaves, seed, x, y):
        bound = jn.bind(net, jax.random.wrap_key_data(seed))
        return jax.tree.leaves(jn.value_and_grad(bound, LOSS)(structure.unflatten(leaves), x, y))

    arguments = leaves, jax.random.key_data(key), x, y
    exported = jax.export.deserialize(jax.export.export(jax.jit(gradient))(*arguments).serialize())
    assert_close(exported.call(*arguments), gradient(*arguments))
