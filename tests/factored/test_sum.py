"""A parameter that is used in unlike ways: every reading of the sum, against gradients formed by JAX or in NumPy.

`tests/test_per_example.py` has the readings of whole networks, `test_paired.py` norms and inner products.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_layers import used_in_unlike_ways

import jaxnet as jn
from jaxnet import curvature, per_example
from jaxnet.factored import Sum

EXAMPLES = 5


def outer(key, *positions, dtype=jnp.float32):
    keys = jax.random.split(key)
    shape = (EXAMPLES, *positions)
    return jn.Outer(jax.random.normal(keys[0], (*shape, 4), dtype), jax.random.normal(keys[1], (*shape, 3), dtype))


def test_like_forms_merge_and_sums_lie_flat(key):
    some, more, third = (outer(k, t) for k, t in zip(jax.random.split(key, 3), (2, 3, 1), strict=True))
    each = jn.Each(some.each(), ndim=2)
    both = some.add(each)
    assert [type(form) for form in both.forms] == [jn.Outer, jn.Each]
    for nested in (both.add(more), more.add(both), both.add(third.add(each)), each.add(both)):
        assert isinstance(nested, Sum)
        assert {type(form) for form in nested.forms} == {jn.Outer, jn.Each}
        assert len(nested.forms) == 2
    merged = both.add(more).forms[0]
    assert isinstance(merged, jn.Outer)
    assert merged.dz.shape == (EXAMPLES, 5, 4)


@pytest.mark.parametrize("net", [used_in_unlike_ways(4), jn.repeat(used_in_unlike_ways(4), 2)], ids=["one", "repeated"])
@pytest.mark.parametrize("positions", [(), (2,), (7,)], ids=["no positions", "few", "many"])
def test_curvature_sums_over_columns(positions, net, x64, key):
    """Half the squared error has the identity as its Hessian, so the GGN is J^T J."""
    params, x = net.init(key), jax.random.normal(key, (EXAMPLES, *positions, 4))
    y, loss = jnp.zeros_like(x), jn.losses.half_squared_error
    jacobian = jax.jit(jax.vmap(jax.jacrev(lambda params, x: net.apply(params, x[None])[0]), (None, 0)))(params, x)
    columns = np.reshape(jacobian["W"], (EXAMPLES, -1, params["W"].size))
    per_row = (columns**2).sum(1)
    block = np.einsum("nvp,nvq->pq", columns, columns) / EXAMPLES

    def everything(params, x, y):
        return (
            curvature.jacobian(net, params, x),
            curvature.ggn_diagonal(net, loss, params, x, y),
            curvature.ggn_diagonal_per_example(net, loss, params, x, y),
            curvature.ggn_blocks(net, loss, params, x, y),
            curvature.neural_tangent_kernel(net, params, x),
        )

    expected = (
        np.asarray(jacobian["W"]),
        per_row.mean(0).reshape(params["W"].shape),
        per_row.reshape(EXAMPLES, *params["W"].shape),
        block,
        np.einsum("nvp,mup->nmvu", columns, columns).reshape(EXAMPLES, EXAMPLES, *y.shape[1:], *y.shape[1:]),
    )
    for actual, leaf in zip(jax.jit(everything)(params, x, y), expected, strict=True):
        np.testing.assert_allclose(jax.tree.leaves(actual)[0], leaf, rtol=0, atol=1e-12 * np.abs(leaf).max())


def test_its_kronecker_factor_is_the_whole_block_and_its_eigenvalues_are_that_blocks(x64, key):
    net, loss = used_in_unlike_ways(4), jn.losses.half_squared_error
    params, x = net.init(key), jax.random.normal(key, (EXAMPLES, 4))
    weights = jnp.array([0.5, 1.0, 0.0, 2.0, 0.25])

    @jax.jit
    def everything(params, x):
        arguments = net, loss, params, x, x
        one_by_one = [curvature.ggn_blocks(net, loss, params, x[n : n + 1], x[n : n + 1])["W"] for n in range(EXAMPLES)]
        expected = sum(weight * of_one for weight, of_one in zip(weights, one_by_one, strict=True))
        factors = curvature.kflr(*arguments)["W"], curvature.kflr(*arguments, weights)["W"]
        return factors, (curvature.ggn_blocks(*arguments)["W"], expected), curvature.ekfac(*arguments)["W"]

    factors, blocks, eigen = jax.device_get(everything(params, x))
    for (factor,), block in zip(factors, blocks, strict=True):
        np.testing.assert_allclose(factor, block, rtol=0, atol=1e-12 * np.abs(block).max())
    block = blocks[0]
    values = np.linalg.eigvalsh(block)
    np.testing.assert_allclose(np.sort(eigen.values.ravel()), values, rtol=0, atol=1e-12 * values.max())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("positions", [(), (2,), (7,)], ids=["no positions", "few", "many"])
def test_short_factors_are_read_in_the_long_type(positions, dtype, key):
    short = outer(key, *positions, dtype=dtype)
    raw = jax.random.normal(key, (EXAMPLES, *positions, 4, 3), dtype)
    form = short.add(jn.Each(raw, ndim=2))
    assert form.dtype_of_total() == dtype
    dz, a, g = (np.asarray(array, np.float64) for array in (short.dz, short.a, raw))
    dz, a = (signal.reshape(EXAMPLES, -1, signal.shape[-1]) for signal in (dz, a))
    g = np.einsum("mto,mti->moi", dz, a) + g.sum(tuple(range(1, 1 + len(positions))))
    weights = jnp.array([0.5, -1.0, 0.0, 2.0, 0.25])

    @jax.jit
    def readings(form):
        form = form.summed_in(jnp.float32)
        return {
            "total": form.total(None),
            "weighted": form.total(weights),
            "each": form.each(),
            "norms": form.norms(),
            "squares": form.square_total(None),
            "dot": form.dot(jnp.ones((4, 3))),
            "gram": form.inner(form),
            "clipped": per_example.clipped_mean(form, 4.0),
        }

    lengths = np.sqrt((g**2).sum((1, 2)))
    expected = {
        "total": g.sum(0),
        "weighted": np.tensordot(weights, g, 1),
        "each": g,
        "norms": lengths,
        "squares": (g**2).sum(0),
        "dot": g.sum((1, 2)),
        "gram": np.einsum("moi,noi->mn", g, g),
        "clipped": np.tensordot(np.minimum(1, 4 / lengths) / EXAMPLES, g, 1),
    }
    for name, actual in readings(form).items():
        assert actual.dtype == jnp.float32, name
        largest = np.abs(expected[name]).max()
        np.testing.assert_allclose(actual, expected[name], rtol=0, atol=2e-5 * largest, err_msg=name)


def test_a_weight_of_zero_leaves_the_example_out_whatever_the_forms_hold(key):
    form = outer(key).add(jn.Each(jnp.ones((EXAMPLES, 4, 3)), ndim=2))
    weights = jnp.array([1.0, 1.0, 1.0, 1.0, 0.0])
    expected = per_example.total(form, weights)
    spoilt = jax.tree.map(lambda leaf: leaf.at[4].set(jnp.nan), form)
    np.testing.assert_array_equal(per_example.total(spoilt, weights), expected)
    assert jnp.isfinite(per_example.clipped(1.0)(spoilt, weights)).all()
