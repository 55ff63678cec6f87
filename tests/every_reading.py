"""Every reading of a network's per-example gradients, and what autodiff's Jacobians give in its place."""

import drawn
import jax
import jax.numpy as jnp
import numpy as np

import jaxnet as jn
from jaxnet import curvature, per_example

C = 0.5


def flat(formed):
    """Each example's gradient in a row, (m, P)."""
    leaves = jax.tree.leaves(formed)
    return np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in leaves], axis=1)


def slopes(net, loss, params, x, y):
    """By autodiff, each example by itself: dz, (m, *f), and the Jacobian, (m, *f, *shape of the parameter)."""

    def of_one(params, x, y):
        z = net.apply(params, x[None])
        dz = jax.grad(lambda z: loss.forward(z, y[None]).sum())(z)[0]
        return dz, jax.jacrev(lambda params: net.apply(params, x[None])[0])(params)

    return jax.vmap(of_one, (None, 0, 0))(params, x, y)


def gradients(dz, J):
    """Each example's gradient, (m, *shape of the parameter): dz J."""

    def of_leaf(leaf):
        rows = np.reshape(leaf, (len(dz), dz[0].size, -1))
        return np.einsum("mf,mfp->mp", np.reshape(dz, (len(dz), -1)), rows).reshape(len(dz), *leaf.shape[dz.ndim :])

    return jax.tree.map(of_leaf, J)


def expected_readings(g, params, weights):
    """The readings by their definitions, of gradients formed one by one."""
    rows, m = flat(g), len(weights)
    lengths = np.sqrt((rows**2).sum(1))
    kept = np.minimum(1, C / lengths)

    def weighted(factors):
        return jax.tree.map(lambda leaf: np.tensordot(factors, leaf, 1), g)

    return {
        "total": weighted(weights),
        "mean": weighted(np.full(m, 1 / m)),
        "each": g,
        "norms": lengths,
        "squared_norms": lengths**2,
        "clipped_mean": weighted(kept / m),
        "second_moment": jax.tree.map(lambda leaf: (leaf**2).mean(0), g),
        "variance": jax.tree.map(lambda leaf: leaf.var(0), g),
        "dot": rows @ flat(jax.tree.map(lambda leaf: np.asarray(leaf)[None], params))[0],
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


def assert_readings_are_autodiffs(net, x, tolerance=1e-11, loss=jn.losses.half_squared_error, zero=0.0):
    """Of half the squared error to random targets, for parameters off their start; with 64-bit types enabled.

    A leaf that is 0 but for rounding, as that of a key bias, may be off by `zero`.
    """
    params = drawn.parameters(net)
    y = drawn.normal(*jax.eval_shape(net.apply, params, x).shape, seed=1)
    weights = np.linspace(-1, 2, len(x))

    @jax.jit
    def both(params, x, y):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, loss.backward(z, y))
        ours = readings(dparams, params, jnp.asarray(weights))
        ours["ggn_diagonal"] = curvature.ggn_diagonal(net, loss, params, x, y)
        return ours, slopes(net, loss, params, x, y)

    actual, (dz, J) = jax.device_get(both(params, x, y))
    expected = expected_readings(gradients(dz, J), params, weights)
    # Half the squared error's Hessian is the identity.
    expected["ggn_diagonal"] = jax.tree.map(lambda leaf: (leaf**2).sum(tuple(range(dz.ndim))) / len(x), J)
    for name, trees in actual.items():
        for ours, theirs in zip(jax.tree.leaves(trees), jax.tree.leaves(expected[name]), strict=True):
            largest = np.abs(theirs).max()
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=zero + tolerance * largest, err_msg=name)
