"""Powers of curvature times gradients against the explicit matrices, and what products alone tell of them."""

from functools import partial

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxnet as jn
from jaxnet import curvature

LOSS = jn.losses.half_squared_error
EXAMPLES, DAMPING = 4, 0.3
# Weights of all kinds of factors: rows with a diagonal, stacks, groups, a window that spreads, gains.
NET = jn.chain(
    jn.embedding(3, 4),
    jn.conv(4, 4, (2,), groups=2),
    jn.repeat(jn.dense(4, 4), 2),
    jn.layer_norm(4),
    jn.conv_transpose(4, 2, (2,), stride=2),
)


def problem():
    params, y = drawn.parameters(NET), drawn.normal(EXAMPLES, 6, 2, seed=1)
    x = jnp.array([[0, 1, 1], [2, 0, 2], [1, 1, 0], [2, 1, 0]])
    _, grads = jax.jit(jn.value_and_grad(NET, LOSS))(params, x, y)
    return params, x, y, grads


def matrix_of(leaf, of_leaf):
    """Of what stands for a parameter, its matrix, formed."""
    if isinstance(of_leaf, curvature.Eigen):
        bases = [b.matrix() if isinstance(b, curvature.Diagonal) else b for b in of_leaf.bases]
        Q = stacked(bases)
        return (Q * of_leaf.values.reshape(1, -1)) @ Q.T
    if not isinstance(of_leaf, tuple):
        return np.diag(np.ravel(of_leaf)) if of_leaf.shape == leaf.shape else np.asarray(of_leaf)
    factors = [f.matrix() if isinstance(f, curvature.Diagonal) else f for f in of_leaf]
    return stacked(factors)


def kron(matrices):
    return np.kron(*map(np.asarray, matrices)) if len(matrices) == 2 else np.asarray(matrices[0])


def stacked(factors):
    """The products of each stack's matrices, along the diagonal of one."""
    blocks = [kron(factors)] if factors[0].ndim == 2 else [kron(of_one) for of_one in zip(*factors, strict=True)]
    whole = np.zeros((sum(map(len, blocks)),) * 2)
    for k, block in enumerate(blocks):
        part = slice(k * len(block), (k + 1) * len(block))
        whole[part, part] = block
    return whole


def applied(leaf, of_leaf, exponent):
    values, Q = np.linalg.eigh(matrix_of(leaf, of_leaf))
    return (Q @ ((values + DAMPING) ** exponent * (Q.T @ np.ravel(leaf)))).reshape(leaf.shape)


QUANTITIES = {
    "factors": partial(curvature.kflr, positions="reduce"),
    "ekfac": curvature.ekfac,
    "blocks": curvature.ggn_blocks,
    "diagonal": curvature.ggn_diagonal,
}


def test_solve_and_power_are_those_of_the_matrices_formed(x64):
    params, x, y, grads = problem()

    @jax.jit
    def ours(params, x, y, grads):
        of_name = {}
        for name, quantity in QUANTITIES.items():
            factors = quantity(NET, LOSS, params, x, y)
            solved = curvature.solve(factors, grads, DAMPING)
            of_name[name] = factors, solved, curvature.power(curvature.eigen(factors, params), grads, -0.5, DAMPING)
        return of_name

    for name, (factors, solved, whitened) in jax.device_get(ours(params, x, y, grads)).items():
        for exponent, actual in ((-1, solved), (-0.5, whitened)):
            expected = jax.tree.map(partial(applied, exponent=exponent), jax.device_get(grads), factors)
            for ours_, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(ours_, theirs, rtol=0, atol=1e-11 * np.abs(theirs).max(), err_msg=name)


def test_influence_on_many_test_examples_is_a_line(x64):
    net = jn.mlp((3, 4, 2), jn.tanh)
    params, x, y = drawn.parameters(net), drawn.normal(7, 3), drawn.normal(7, 2, seed=1)

    @jax.jit
    def both(params):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, LOSS.backward(z, y))
        each = jn.per_example.each(dparams)
        train, tests = jax.tree.map(lambda leaf: leaf[:5], dparams), jax.tree.map(lambda leaf: leaf[5:], each)
        eigen = curvature.eigen(curvature.kflr(net, LOSS, params, x[:5], y[:5]), params)
        influence = jn.per_example.dot(train, jax.vmap(lambda v: curvature.solve(eigen, v, DAMPING))(tests))
        of_one = [curvature.solve(eigen, jax.tree.map(lambda leaf, k=k: leaf[k], tests), DAMPING) for k in range(2)]
        rows = jax.vmap(lambda g: ravel_pytree(g)[0])(jax.tree.map(lambda leaf: leaf[:5], each))
        return influence, jnp.stack([rows @ ravel_pytree(solved)[0] for solved in of_one], axis=1)

    influence, expected = both(params)
    assert influence.shape == (5, 2)
    np.testing.assert_allclose(influence, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_of_short_types_are_solved_for_in_float32(dtype):
    v, A = jnp.cos(jnp.arange(6.0)).reshape(2, 3).astype(dtype), jnp.diag(jnp.array([1.0, 2.0, 3.0], dtype))
    solved = curvature.solve((jnp.eye(2, dtype=dtype), A), v, 1.0)
    assert solved.dtype == dtype
    expected = np.asarray(v, np.float32) / (1 + np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(np.asarray(solved, np.float32), expected, rtol=2 * float(jnp.finfo(dtype).eps))


@pytest.mark.usefixtures("without_shape_annotations")
def test_misuse_is_named(key):
    W = jnp.ones((2, 3))

    def message(call, *arguments, **options):
        with pytest.raises(ValueError) as error:
            call(*arguments, **options)
        return str(error.value)

    assert message(curvature.solve, W, W, -1.0) == "curvature.solve: expected damping of at least 0, got -1"
    assert message(curvature.power, (jnp.eye(2), jnp.eye(2)), W, -0.5) == (
        "curvature.solve: expected factors of a parameter of shape (2, 3), got some of 4 numbers"
    )
    assert message(curvature.spectrum, lambda v: v, W, key, steps=7) == (
        "curvature.spectrum: expected steps of at most 6 parameters, got 7"
    )


@pytest.fixture
def explicit(x64):
    """A network's parameters, a product with its GGN, the matrix, and a vector."""
    net = jn.mlp((3, 2, 2), jn.tanh)
    params, x, y = drawn.parameters(net), drawn.normal(5, 3), drawn.normal(5, 2, seed=1)
    flat, unflatten = ravel_pytree(params)
    product = partial(curvature.ggn_vector_product, net, LOSS, params, x, y)
    G = jax.jit(jax.vmap(lambda v: ravel_pytree(product(unflatten(v)))[0]))(jnp.eye(len(flat)))
    return params, product, np.asarray(G), drawn.like(params, seed=2)


def test_conjugate_gradients_solve_with_all_blocks_together(explicit):
    _, product, G, v = explicit
    solved = jax.jit(lambda v: curvature.conjugate_gradients(product, v, DAMPING, tolerance=1e-13))(v)
    expected = np.linalg.solve(G + DAMPING * np.eye(len(G)), ravel_pytree(v)[0])
    np.testing.assert_allclose(ravel_pytree(solved)[0], expected, rtol=0, atol=1e-11)
    once = jax.jit(lambda v: curvature.conjugate_gradients(product, v, DAMPING, steps=1))(v)
    flat = np.asarray(ravel_pytree(v)[0])
    steepest = flat @ flat / (flat @ (G @ flat + DAMPING * flat)) * flat
    np.testing.assert_allclose(ravel_pytree(once)[0], steepest, rtol=0, atol=1e-12)
    of_nothing = jax.jit(partial(curvature.conjugate_gradients, product))(drawn.like(v, scale=0))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(of_nothing))


def test_the_spectrum_of_as_many_steps_as_parameters_is_exact(explicit, key):
    params, product, G, _ = explicit
    values = np.linalg.eigvalsh(G)
    found = jax.jit(lambda: curvature.spectrum(product, params, key, steps=len(G), samples=3))()
    # 14 parameters, of which G bends along at most 10: 5 examples of 2 outputs.
    np.testing.assert_allclose(found.values[:, -3:], np.broadcast_to(values[-3:], (3, 3)), rtol=1e-9)
    np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-12)
    at = jnp.linspace(-1, values[-1] + 1, 400)
    assert abs(float(found.density(at, 0.1).sum() * (at[1] - at[0])) - 1) < 1e-3
    # The quadrature is exact for polynomials: of one start q it is q^T G^2 q.
    few = jax.jit(lambda: curvature.spectrum(product, params, key, steps=2, samples=3))()
    np.testing.assert_allclose(few.mean(jnp.square), found.mean(jnp.square), rtol=1e-10)


def test_traces_are_right_on_average(explicit, key):
    """The mean over many draws lies within five standard errors."""
    params, product, G, _ = explicit
    draws = jax.jit(jax.vmap(lambda key: curvature.trace(product, params, key, samples=2)))(jax.random.split(key, 500))
    assert abs(float(draws.mean()) - np.trace(G)) < 5 * float(draws.std()) / 500**0.5
    off_diagonal = ((G - np.diag(np.diag(G))) ** 2).sum()
    assert abs(float(draws.var()) / off_diagonal - 1) < 0.3
    few = jax.jit(lambda: curvature.spectrum(product, params, key, steps=3, samples=200))()
    means = (few.weights * few.values).sum(1) * len(G)
    assert abs(float(means.mean()) - np.trace(G)) < 5 * float(means.std()) / 200**0.5
