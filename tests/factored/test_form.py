from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_layers import tied

import jaxnet as jn
from jaxnet import per_example
from jaxnet.factored import Factored

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
    ],
)
def test_misuse_is_named(misuse, message):
    with pytest.raises(ValueError) as error:
        misuse()
    assert str(error.value) == message


@partial(jax.tree_util.register_dataclass, data_fields=["dz", "ids"], meta_fields=["size"])
@dataclass(frozen=True)
class Rows(Factored):
    """A form of one's own: dz_i in the row ids_i of a table."""

    dz: jax.Array
    ids: jax.Array
    size: int

    @property
    def examples(self):
        return self.ids.shape[0]

    def total(self, weights):
        dz = self.dz if weights is None else weights[:, None] * self.dz
        return jnp.zeros((self.size, self.dz.shape[1]), dz.dtype).at[self.ids].add(dz)

    def each(self):
        return jax.nn.one_hot(self.ids, self.size, dtype=self.dz.dtype)[:, :, None] * self.dz[:, None]


def test_a_form_may_hold_integers_and_they_stay_integers(key):
    dz, ids = jax.random.normal(key, (3, 2), jnp.bfloat16), jnp.array([257, 0, 257])
    longer = Rows(dz, ids, 300).summed_in(jnp.float32)
    assert (longer.dz.dtype, longer.ids.dtype) == (jnp.float32, ids.dtype)
    np.testing.assert_array_equal(longer.total(None)[257], dz[0].astype(float) + dz[2].astype(float))
    np.testing.assert_allclose(per_example.squared_norms(longer), (longer.dz**2).sum(1), rtol=1e-6)
    clipped = per_example.clipped_mean(longer, 0.5)
    assert float(jnp.linalg.norm(clipped)) <= 0.5
