"""Example weights in place of 1/m, for all curvature."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet as jn
from jaxnet import curvature

LOSS = jn.losses.softmax_cross_entropy_with_integer_labels
NET = jn.chain(jn.conv(2, 3, (2,)), jn.tanh, jn.global_mean, jn.dense(3, 3))
QUANTITIES = {
    "ggn_diagonal": curvature.ggn_diagonal,
    "fisher_diagonal": curvature.fisher_diagonal,
    "ggn_blocks": curvature.ggn_blocks,
    "hessian_diagonal": curvature.hessian_diagonal,
    "ekfac": curvature.ekfac,
    "kflr": curvature.kflr,
    "kfra": curvature.kfra,
}
PRODUCTS = (curvature.ggn_vector_product, curvature.hessian_vector_product, curvature.fisher_vector_product)


def problem(key):
    params, x, y = NET.init(key), jax.random.normal(key, (4, 3, 2)), jnp.array([0, 2, 1, 1])
    return params, x.at[3].set(jnp.nan), y


def assert_close(actual, expected, name):
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max(), err_msg=name)


def test_an_example_that_weighs_twice_as_much_counts_as_two_and_one_of_weight_zero_is_left_out(x64, key):
    params, x, y = problem(key)
    weights, twice = jnp.array([0.5, 0.25, 0.25, 0.0]), jnp.array([0, 0, 1, 2])

    @jax.jit
    def both(params, x, y):
        ours, theirs = {}, {}
        for name, quantity in QUANTITIES.items():
            ours[name] = quantity(NET, LOSS, params, x, y, weights=weights)
            theirs[name] = quantity(NET, LOSS, params, x[twice], y[twice])
        for product in PRODUCTS:
            ours[product.__name__] = product(NET, LOSS, params, x, y, params, weights)
            theirs[product.__name__] = product(NET, LOSS, params, x[twice], y[twice], params)
        return ours, theirs

    ours, theirs = both(params, x, y)
    # Eigenvectors have no sign.
    for found in (ours, theirs):
        found["ekfac"] = jax.tree.map(
            lambda leaf: leaf.values, found["ekfac"], is_leaf=lambda leaf: hasattr(leaf, "bases")
        )
    for name, expected in theirs.items():
        assert_close(ours[name], expected, name)


def test_weights_may_be_negative_where_quantities_are_sums(x64, key):
    params, x, y = problem(key)
    weights = jnp.array([1.0, -2.0, 0.5, 0.0])

    @jax.jit
    def both(params, x, y):
        ours, theirs = {}, {}
        for name in ("ggn_diagonal", "fisher_diagonal", "ggn_blocks", "hessian_diagonal"):
            read = partial(QUANTITIES[name], NET, LOSS, params)
            each = [read(x[n : n + 1], y[n : n + 1]) for n in range(3)]
            ours[name] = read(x, y, weights)
            theirs[name] = jax.tree.map(lambda f, g, h: f - 2 * g + 0.5 * h, *each)
        return ours, theirs

    ours, theirs = both(params, x, y)
    for name, expected in theirs.items():
        assert_close(ours[name], expected, name)


def test_each_examples_hessian_has_its_own_diagonal(x64, key):
    params, x, y = problem(key)
    x, y = x[:3], y[:3]

    def of_one(flat, unflatten, x, y):
        return LOSS.forward(NET.apply(unflatten(flat), x[None]), y[None])[0]

    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    hessians = jax.jit(jax.vmap(lambda x, y: jax.hessian(of_one)(flat, unflatten, x, y)))(x, y)
    actual = jax.jit(partial(curvature.hessian_diagonal_per_example, NET, LOSS))(params, x, y)
    assert_close(actual, jax.vmap(lambda H: unflatten(jnp.diag(H)))(hessians), "hessian_diagonal_per_example")


def test_drawn_labels_of_an_example_of_weight_zero_do_not_count(x64, key):
    params, x, y = problem(key)
    weights = jnp.array([1.0, 1.0, 1.0, 0.0])
    read = jax.jit(lambda x: curvature.ggn_diagonal_sampled(NET, LOSS, params, x, y, key, weights=weights))
    expected = jax.jit(lambda x: curvature.ggn_diagonal_sampled(NET, LOSS, params, x, y, key))(x.at[3].set(x[0]))
    drawn = read(x)
    assert all(
        bool((ours <= 4 * theirs + 1e-12).all())
        for ours, theirs in zip(*map(jax.tree.leaves, (drawn, expected)), strict=True)
    )
    assert_close(drawn, read(x.at[3].set(7.0)), "ggn_diagonal_sampled")
