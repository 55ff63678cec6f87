import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_layers import tied

import jaxnet as jn
from jaxnet import per_example

# Sums of tens of terms in another order, at 1.1e-16 each.
EXACT = {"rtol": 1e-12, "atol": 1e-14}


@pytest.fixture
def signals(x64, key):
    keys = jax.random.split(key, 4)
    return [jax.random.normal(k, shape) for k, shape in zip(keys, [(5, 2, 4), (5, 2, 3), (5, 4), (5,)], strict=True)]


def test_outer_totals_the_products_over_examples_and_positions(signals):
    dz, a, _, weights = (np.asarray(signal) for signal in signals)
    by_loop = sum(w * np.outer(dz[i, t], a[i, t]) for i, w in enumerate(weights) for t in range(2))
    outer = jn.Outer(signals[0], signals[1])
    np.testing.assert_allclose(per_example.total(outer, signals[3]), by_loop, **EXACT)
    ones = sum(np.outer(dz[i, t], a[i, t]) for i in range(5) for t in range(2))
    np.testing.assert_allclose(per_example.total(outer), ones, **EXACT)
    np.testing.assert_allclose(per_example.mean(outer), ones / 5, **EXACT)


@pytest.mark.parametrize("ndim", [0, 1, 2])
def test_each_totals_over_examples_and_positions(ndim, signals):
    g, weights = np.asarray(signals[0]), np.asarray(signals[3])
    by_loop = sum(w * g[i].sum(axis=tuple(range(2 - ndim))) for i, w in enumerate(weights))
    each = jn.Each(signals[0], ndim)
    np.testing.assert_allclose(per_example.total(each, signals[3]), by_loop, **EXACT)
    np.testing.assert_allclose(per_example.mean(each), g.sum(axis=tuple(range(3 - ndim))) / 5, **EXACT)


def test_a_weight_of_zero_leaves_the_example_out(signals):
    outer = jn.Outer(signals[0], signals[1])
    first_three = jn.Outer(signals[0][:3], signals[1][:3])
    weights = jnp.array([1.0, 1.0, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(per_example.total(outer, weights), per_example.total(first_three), **EXACT)


def test_factored_gradients_are_pytrees(signals):
    tree = {"W": jn.Outer(signals[0], signals[1]), "b": jn.Each(signals[0])}
    doubled = jax.tree.map(lambda leaf: 2 * leaf, tree)
    assert isinstance(doubled["W"], jn.Outer)
    np.testing.assert_allclose(per_example.mean(doubled)["W"], 4 * per_example.mean(tree)["W"], **EXACT)
    np.testing.assert_allclose(jax.jit(per_example.mean)(tree)["b"], per_example.mean(tree)["b"], **EXACT)


def test_a_parameter_used_twice_adds_its_uses(x64, key):
    jn.testing.check_layer(tied(3), jax.random.normal(key, (5, 3)), key)
    jn.testing.check_layer(tied(3), jax.random.normal(key, (5, 2, 3)), key)


def test_uses_with_different_positions_add(signals):
    dz, a, _, _ = signals
    with_positions, without = jn.Outer(dz, a), jn.Outer(dz[:, 0], a[:, 0])
    both = per_example.add(with_positions, without)
    expected = per_example.mean(with_positions) + per_example.mean(without)
    np.testing.assert_allclose(per_example.mean(both), expected, **EXACT)
    both = per_example.add(jn.Each(dz), jn.Each(dz[:, 0]))
    np.testing.assert_allclose(per_example.mean(both), (dz.sum((0, 1)) + dz[:, 0].sum(0)) / 5, **EXACT)


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (
            lambda: per_example.mean(jn.Outer(jnp.ones((5, 4)), jnp.ones((6, 3)))),
            "Outer: expected dz (m, ..., o) and a (m, ..., i) with the same examples and positions, "
            "got (5, 4) and (6, 3)",
        ),
        (
            lambda: per_example.mean(jn.Outer(jnp.ones(4), jnp.ones(3))),
            "Outer: expected dz (m, ..., o) and a (m, ..., i) with the same examples and positions, got (4,) and (3,)",
        ),
        (
            lambda: per_example.mean(jn.Each(jnp.ones(5))),
            "Each: expected g (m, ..., *parameter) for a parameter with 1 axes, got shape (5,); "
            "ndim says how many axes the parameter has",
        ),
        (
            lambda: per_example.total(jn.Each(jnp.ones((5, 4))), jnp.ones(4)),
            "per_example.total: expected weights of shape (5,), one for each example, got (4,)",
        ),
        (
            lambda: per_example.mean(jn.Each(jnp.ones((0, 4)))),
            "per_example.mean: expected at least one example, got an empty batch",
        ),
        (
            lambda: per_example.add(jn.Each(jnp.ones((5, 4))), jn.Outer(jnp.ones((5, 4)), jnp.ones((5, 4)))),
            "Each.add: expected another Each, got Outer",
        ),
        (
            lambda: per_example.add(jn.Outer(jnp.ones((5, 4)), jnp.ones((5, 4))), jn.Each(jnp.ones((5, 4)))),
            "Outer.add: expected another Outer, got Each",
        ),
    ],
)
def test_misuse_is_named(misuse, message):
    with pytest.raises(ValueError) as error:
        misuse()
    assert str(error.value) == message
