"""Gradients that are stacked over uses of a parameter: one form, or a sum of uses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cells import NETWORKS, at_first, inputs_of
from every_reading import assert_readings_are_autodiffs
from trees import assert_trees_equal

import jaxnet as jn
from jaxnet import curvature
from jaxnet.factored import Sum, Uses

LOSS = jn.losses.half_squared_error


@pytest.mark.parametrize("name", ["windows", "ids, and parameters of many kinds"])
def test_every_reading_and_the_ggn_diagonal_are_autodiffs(name, x64, key):
    assert_readings_are_autodiffs(NETWORKS[name][0], inputs_of(name, key))


def test_forms_over_times_are_positions_or_a_sum_of_uses(key):
    def forms(name):
        net, x = NETWORKS[name][0], inputs_of(name, key)
        params = net.init(key)

        def backward(params, x):
            y, cache = net.forward(params, x)
            return net.backward(params, cache, y)[0]

        return jax.eval_shape(backward, params, x)[0]

    dense = forms("elman")[1]
    assert dense.W.dz.shape == (3, 4, 3)
    assert dense.W.a.shape == (3, 4, 5)
    assert dense.b.g.shape == (3, 3)
    assert isinstance(forms("windows")[1].W, Uses)
    table, (_, _, repeated, unlike, *_) = forms("ids, and parameters of many kinds")
    assert table.W.ids.shape == (3, 3)
    assert repeated[0].W.layers.dz.shape == (2, 3, 3, 3)
    assert isinstance(jax.tree.leaves(unlike, is_leaf=lambda leaf: isinstance(leaf, Sum))[0], Sum)


def test_of_a_convolution_there_are_kronecker_factors_with_a_position_for_each_time(x64, key):
    """Where the state stays as it is, times are examples."""
    conv = jn.conv(1, 2, (2,))
    own = jn.recurrent(jn.chain(at_first(conv), without_state()), jn.initial_state(1))
    x, params = inputs_of("windows", key), conv.init(key)

    @jax.jit
    def both(params):
        of_times = own, LOSS, ((params, ()), ()), x, jnp.zeros((3, 3, 3, 2))
        alone = curvature.kflr(conv, LOSS, params, x.reshape(9, 3, 1), jnp.zeros((9, 3, 2)))
        return alone, *(
            quantity(*of_times)[0][0] for quantity in (curvature.kflr, curvature.ekfac, curvature.ggn_blocks)
        )

    alone, factors, eigen, block = both(params)
    assert_trees_equal(factors.W, (3 * alone.W[0], alone.W[1]))
    np.testing.assert_allclose(eigen.W.values.sum(), jnp.trace(block.W), rtol=1e-12)
    with pytest.raises(ValueError) as error:
        curvature.kflr(own, LOSS, ((params, ()), ()), x, jnp.zeros((3, 3, 3, 2)), positions="reduce")
    assert str(error.value) == (
        "curvature: expected positions to be 'expand' for a weight that is used at several times and at several "
        "positions of each, got 'reduce'"
    )


def without_state():
    """(y, s) of (y, s)."""
    return jn.Layer(lambda key: (), lambda params, x: (x, ()), lambda params, cache, dy: ((), dy))


def test_uses_of_uses_add_up_and_are_read_along_directions(x64, key):
    conv = jn.conv(1, 2, (2,))
    params, x, dz = conv.init(key), jax.random.normal(key, (2, 3, 4, 3, 1)), jax.random.normal(key, (2, 3, 4, 3, 2))
    weights = jnp.array([1.0, 0.0, 2.0, -1.0])

    @jax.jit
    def both(x, dz):
        forms = jax.vmap(jax.vmap(lambda x, dz: conv.backward(params, x, dz)[0].W))(x, dz)
        uses = jax.vmap(lambda form: form.over_uses())(forms).over_uses()
        each = jax.vmap(jax.vmap(lambda form: form.each()))(forms).sum((0, 1))
        of_uses = uses.each(), uses.total(weights), uses.norms(), uses.along(each), uses.counting(weights).each()
        lengths = jnp.sqrt((each**2).sum((1, 2, 3)))
        kept = each * jnp.abs(jnp.sign(weights))[:, None, None, None]
        return of_uses, (each, jnp.tensordot(weights, each, 1), lengths, lengths**2, kept)

    assert_trees_equal(*both(x, dz))
