"""Which parameters are weights, and which are one layer's."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from own_layers import gain, table, tied

import jaxnet as jn
from jaxnet.parameters import Sides, sides_of, structure_by_layer, tables_of

BLOCK = jn.residual(jn.chain(jn.dense(4, 4), jn.tanh, gain(4)))
NET = jn.chain(
    jn.dense(3, 4),
    jn.chain(),
    table(5, 4),
    BLOCK,
    jn.repeat(jn.recompute(BLOCK), 2),
    jn.repeat(jn.repeat(jn.chain(gain(4), jn.dense(4, 4)), 2), 3),
    tied(4),
)
X = jax.ShapeDtypeStruct((2, 5, 3), jnp.float32)


def test_a_weight_tells_which_axes_its_outputs_and_inputs_are_and_nothing_else_is_one(key):
    found = sides_of(NET, jax.eval_shape(NET.init, key), X)
    dense, stacked, twice = (jn.Dense(Sides(outputs=n, inputs=n + 1), Sides()) for n in range(3))
    assert found == (
        dense,
        (),
        {"E": Sides()},
        (dense, (), Sides()),
        (stacked, (), Sides()),
        (Sides(), twice),
        dense,
    )
    assert (Sides(0, 1).is_weight, Sides().is_weight) == (True, False)


def test_a_convolutions_weight_has_its_inputs_behind_its_window(key):
    net = jn.chain(jn.repeat(jn.conv(4, 4, (3, 2), groups=2), 2), jn.conv(4, 2, (1, 1), bias=False))
    found = sides_of(net, jax.eval_shape(net.init, key), jax.ShapeDtypeStruct((2, 5, 3, 4), jnp.float32))
    assert found == (jn.Conv(Sides(1, 4), Sides()), jn.Conv(Sides(0, 3), None))


def test_in_mixed_precision_the_same_parameters_are_weights(key):
    params = jax.eval_shape(NET.init, key)
    assert sides_of(jn.mixed_precision(NET), params, X) == sides_of(NET, params, X)


def test_a_cache_may_hold_what_is_no_array(key):
    dense = jn.dense(3, 4)

    def backward(params, cache, dy):
        x, width = cache
        return dense.backward(params, x, dy.reshape(-1, width))

    net = dense._replace(forward=lambda params, x: (dense.apply(params, x), (x, int(params.b.size))), backward=backward)
    assert sides_of(net, net.init(key), jnp.ones((2, 3))) == jn.Dense(Sides(0, 1), Sides())


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_parameters_that_lie_on_a_mesh_are_asked_as_well(axis_type, key):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    net = jn.mlp((3, 4, 4), jn.tanh)
    expected = sides_of(net, net.init(key), jnp.ones((8, 3)))
    with jax.set_mesh(mesh):
        params = jax.device_put(net.init(key), NamedSharding(mesh, PartitionSpec("model")))
        x = jax.device_put(jnp.ones((8, 3)), NamedSharding(mesh, PartitionSpec("data")))
        assert sides_of(net, params, x) == sides_of(net, params, jnp.ones((1, 3))) == expected


def test_a_network_is_a_list_of_its_layers_parameters_and_back(key):
    net = jn.chain(jn.dense(3, 4), jn.chain(), BLOCK, jn.repeat(jn.chain(table(5, 4), jn.tanh), 2), tied(4))
    params, structure = net.init(key), structure_by_layer(net)
    first, _, (inner, _, factor), (stack, _), last = params
    layers = structure.flatten_up_to(params)
    expected = [first, inner, (), factor, stack, (), last]
    assert len(layers) == len(expected)
    assert all(layer is one for layer, one in zip(layers, expected, strict=True))
    assert structure.unflatten(layers) == params
    assert structure_by_layer(jn.dense(3, 4)).flatten_up_to(first) == [first]


def test_tables_that_ids_look_up_are_told_without_inputs():
    body = jn.repeat(jn.recompute(jn.residual(jn.dense(3, 3))), 2)
    net = jn.chain(jn.recompute(jn.embedding(5, 3)), table(4, 3), body, jn.unembedding(5, 3))
    yes, no = jn.Embedding(True), jn.Dense(False, False)
    for made in (net, jn.mixed_precision(net)):
        assert tables_of(made) == (yes, {"E": False}, no, jn.Embedding(False))
    assert tables_of(jn.tied(jn.embedding(5, 3), body, jn.unembedding(5, 3))) == (yes, no)
    assert tables_of(jn.branches(jn.embedding(5, 3), jn.dense(2, 2))) == (yes, no)
