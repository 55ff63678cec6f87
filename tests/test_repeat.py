"""A repeated layer against the chain of the same layers, and against autodiff."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn
from jaxnet import curvature, per_example

BLOCK = jn.chain(jn.dense(4, 4), jn.tanh)
LOSS = jn.losses.half_squared_error
# The same 64-bit operations in another order, relative to each leaf's largest value.
TOLERANCE = 1e-13


def stacked(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def assert_close(actual, expected, tolerance=TOLERANCE):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def assert_same_but_for_the_stack(actual, expected):
    """What a network of a repeated and a last layer gives, against the chain with the layers one by one."""
    assert_close(actual, (stacked(list(expected[:-1])), expected[-1]))


@pytest.fixture
def problem(x64, key):
    """The network with a repeated layer, the same as a chain, and the parameters of both."""
    keys = jax.random.split(key, 4)
    repeated, chained = jn.chain(jn.repeat(BLOCK, 3), jn.dense(4, 2)), jn.chain(BLOCK, BLOCK, BLOCK, jn.dense(4, 2))
    of_chain = chained.init(keys[0])
    of_chain = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(keys[1], leaf.shape), of_chain)
    of_repeated = (stacked(list(of_chain[:3])), of_chain[3])
    return (
        repeated,
        of_repeated,
        chained,
        of_chain,
        *(jax.random.normal(k, (5, n)) for k, n in ((keys[2], 4), (keys[3], 2))),
    )


def test_init_draws_each_layers_parameters_by_itself(key):
    params = jn.repeat(BLOCK, 3).init(key)
    assert params[0].W.shape == (3, 4, 4)
    assert_close(stacked([BLOCK.init(k) for k in jax.random.split(key, 3)]), params)
    assert not np.allclose(params[0].W[0], params[0].W[1])


def test_forward_and_backward_are_those_of_the_chain(problem):
    repeated, of_repeated, chained, of_chain, x, dy = problem

    @partial(jax.jit, static_argnums=0)
    def forward_and_back(net, params, x, dy):
        z, cache = net.forward(params, x)
        dparams, dx = net.backward(params, cache, dy)
        return z, dx, per_example.total(dparams)

    *actual, total = forward_and_back(repeated, of_repeated, x, dy)
    *expected, expected_total = forward_and_back(chained, of_chain, x, dy)
    assert_close(actual, expected)
    assert_same_but_for_the_stack(total, expected_total)


def test_the_oracle_agrees(key):
    layers = jn.repeat(BLOCK, 3), jn.repeat(jn.recompute(jn.residual(BLOCK)), 2), jn.repeat(jn.repeat(BLOCK, 2), 2)
    jn.testing.check_layer(jn.branches(*layers), jax.random.normal(key, (5, 4)), key)


def test_the_program_does_not_grow_with_the_depth(key):
    def lines(n):
        net, x = jn.repeat(jn.recompute(BLOCK), n), jnp.ones((5, 4))
        gradient = jax.jit(jn.value_and_grad(net, LOSS))
        return gradient.lower(jax.eval_shape(net.init, key), x, x).as_text().count("\n")

    assert lines(2) == lines(100)


def test_curvature_is_that_of_the_chain(problem, key):
    repeated, of_repeated, chained, of_chain, x, y = problem

    @jax.jit
    def quantities(of_repeated, of_chain):
        ours, theirs = (repeated, LOSS, of_repeated, x, y), (chained, LOSS, of_chain, x, y)
        return [
            (quantity(*ours), quantity(*theirs))
            for quantity in (curvature.kflr, curvature.kfra, curvature.ggn_diagonal, curvature.hessian_diagonal)
        ]

    for ours, theirs in quantities(of_repeated, of_chain):
        assert_same_but_for_the_stack(ours, theirs)


def test_eigenvalues_are_corrected_layer_by_layer(problem):
    repeated, of_repeated, chained, of_chain, x, y = problem
    ours = jax.jit(partial(curvature.ekfac, repeated, LOSS))(of_repeated, x, y)
    theirs = jax.jit(partial(curvature.ekfac, chained, LOSS))(of_chain, x, y)
    # Eigenvectors have no sign of their own; the values along them do not depend on it.
    assert_same_but_for_the_stack(
        jax.tree.map(lambda eigen: eigen.values, ours, is_leaf=lambda leaf: isinstance(leaf, curvature.Eigen)),
        jax.tree.map(lambda eigen: eigen.values, theirs, is_leaf=lambda leaf: isinstance(leaf, curvature.Eigen)),
    )


def test_other_weights_go_back_through_each_layer(problem, key):
    repeated, of_repeated, chained, of_chain, x, y = problem
    others = chained.init(key)
    stacked_others = (stacked(list(others[:3])), others[3])
    for ours, theirs in (
        (jn.feedback.alignment(repeated, stacked_others), jn.feedback.alignment(chained, others)),
        (jn.feedback.sign_symmetry(repeated), jn.feedback.sign_symmetry(chained)),
    ):
        _, actual = jax.jit(jn.value_and_grad(repeated, LOSS, backward=ours))(of_repeated, x, y)
        _, expected = jax.jit(jn.value_and_grad(chained, LOSS, backward=theirs))(of_chain, x, y)
        assert_same_but_for_the_stack(actual, expected)


def test_the_matrices_of_a_stack_are_mirrored(x64, key):
    net = jn.repeat(BLOCK, 3)
    params, zeros = net.init(key), jax.tree.map(jnp.zeros_like, net.init(key))
    learnt = jn.feedback.mirror(net, zeros, params, jnp.ones((1, 4)), key, rate=0.5, examples=100_000)
    # The mean of 100,000 products of noise errs by a few times 1/sqrt(100,000).
    np.testing.assert_allclose(learnt[0].W, 0.5 * params[0].W, atol=0.02)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_over_devices_the_numbers_are_the_same(axis_type, problem):
    repeated, of_repeated, _, _, x, y = problem
    x, y = jnp.tile(x, (8, 1)), jnp.tile(y, (8, 1))

    def everything(params, x, y):
        z, cache = repeated.forward(params, x)
        dparams, _ = repeated.backward(params, cache, LOSS.backward(z, y))
        clipped = per_example.clipped_mean(dparams, 0.5)
        return per_example.mean(dparams), per_example.squared_norms(dparams), clipped, per_example.gram(dparams)

    expected = jax.device_get(jax.jit(everything)(of_repeated, x, y))
    alone = jax.device_get((of_repeated, x, y))
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    with jax.set_mesh(mesh):
        rows, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
        params = jax.device_put(alone[0], whole)
        actual = jax.jit(everything)(params, *(jax.device_put(array, rows) for array in alone[1:]))
        assert_close(jax.device_get(actual), expected)


def test_misuse_is_named(key, without_shape_annotations):
    net, x = jn.repeat(BLOCK, 3), jnp.ones((5, 4))
    for misuse, message in (
        (lambda: jn.repeat(BLOCK, 0), "repeat: expected n to be a positive integer, got 0"),
        (
            lambda: jn.repeat(jn.dense(4, 3), 2).forward(jn.repeat(jn.dense(4, 3), 2).init(key), x),
            "repeat: expected dense to keep the shape and dtype of x, (5, 4) float32, got (5, 3) float32",
        ),
        (
            lambda: net.forward(jn.repeat(BLOCK, 2).init(key), x),
            "repeat: expected parameters of chain stacked 3 times, got [0].W of shape (2, 4, 4)",
        ),
    ):
        with pytest.raises(ValueError) as error:
            misuse()
        assert str(error.value) == message
