"""Every reading of a network's per-example gradients, and what `vmap(jax.grad)` gives in its place."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet as jn
from jaxnet import curvature, per_example

C = 0.5


def flat(formed):
    """Each example's gradient in a row, (m, P)."""
    leaves = jax.tree.leaves(formed)
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def by_autodiff(net, loss, params, x, y):
    """Each example's gradient, (m, *shape of the parameter)."""

    def of_one(params, x, y):
        return loss.forward(net.apply(params, x[None]), y[None]).sum()

    return jax.vmap(jax.grad(of_one), (None, 0, 0))(params, x, y)


def expected_readings(g, params, weights):
    """The readings by their definitions, of gradients formed one by one."""
    rows, m = flat(g), len(weights)
    lengths = jnp.sqrt((rows**2).sum(1))
    kept = jnp.minimum(1, C / lengths)

    def weighted(factors):
        return jax.tree.map(lambda leaf: jnp.tensordot(factors, leaf, 1), g)

    return {
        "total": weighted(weights),
        "mean": weighted(jnp.full(m, 1 / m)),
        "each": g,
        "norms": lengths,
        "squared_norms": lengths**2,
        "clipped_mean": weighted(kept / m),
        "second_moment": jax.tree.map(lambda leaf: (leaf**2).mean(0), g),
        "variance": jax.tree.map(lambda leaf: leaf.var(0), g),
        "dot": rows @ flat(jax.tree.map(lambda leaf: leaf[None], params))[0],
        "gram": rows @ rows.T,
    }


def readings(dparams, params, weights):
    """The same of factored gradients."""
    return {
        "total": per_example.total(dparams, weights),
        "mean": per_example.mean(dparams),
        "each": per_example.each(dparams),
        "norms": per_example.norms(dparams),
        "squared_norms": per_example.squared_norms(dparams),
        "clipped_mean": per_example.clipped_mean(dparams, C),
        "second_moment": per_example.second_moment(dparams),
        "variance": per_example.variance(dparams),
        "dot": per_example.dot(dparams, params),
        "gram": per_example.gram(dparams),
    }


def assert_readings_are_autodiffs(net, x, key, tolerance=1e-11, loss=jn.losses.half_squared_error, zero=0.0):
    """Of half the squared error to random targets, for parameters off their start; with 64-bit types enabled.

    A leaf that is 0 but for rounding, as that of a key bias, may be off by `zero`.
    """
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), net.init(key))
    y = jax.random.normal(key, jax.eval_shape(net.apply, params, x).shape)
    weights = jnp.linspace(-1, 2, len(x))

    @jax.jit
    def both(params, x, y):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, loss.backward(z, y))
        g = by_autodiff(net, loss, params, x, y)
        diagonal = curvature.ggn_diagonal(net, loss, params, x, y)
        J = jax.jacrev(net.apply)(params, x)
        # Half the squared error's Hessian is the identity.
        explicit = jax.tree.map(lambda leaf: (leaf**2).sum(tuple(range(z.ndim))) / len(x), J)
        actual, expected = readings(dparams, params, weights), expected_readings(g, params, weights)
        return actual | {"ggn_diagonal": diagonal}, expected | {"ggn_diagonal": explicit}

    actual, expected = both(params, x, y)
    for name, trees in actual.items():
        for ours, theirs in zip(jax.tree.leaves(trees), jax.tree.leaves(expected[name]), strict=True):
            largest = float(jnp.abs(theirs).max())
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=zero + tolerance * largest, err_msg=name)
