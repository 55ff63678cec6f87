"""Attention to a context, and with lengths: (x, context), (x, lengths) and (x, context, lengths)."""

import json
from pathlib import Path

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_reading import assert_readings_are_autodiffs
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn
from jaxnet import per_example

BY_TORCH = json.loads((Path(__file__).parent / "attention_by_torch.json").read_text())
LENGTHS = jnp.array([1, 5, 3])
CROSS = jn.multi_head_attention(4, 2, context=6)


def inputs(key, m=3):
    """x (m, 4, 4), and a context (m, 5, 6)."""
    return jax.random.normal(key, (m, 4, 4)), jax.random.normal(jax.random.fold_in(key, 1), (m, 5, 6))


@pytest.mark.parametrize("block", [2, None], ids=["in blocks", "at once"])
def test_with_lengths_attention_is_pytorchs(block, x64):
    kept = BY_TORCH["attention"]
    x, layer = [jnp.asarray(leaf) for leaf in kept["inputs"]], jn.attention(2, block=block)
    y, cache = layer.forward((), (*x, jnp.asarray(kept["lengths"])))
    np.testing.assert_allclose(y, kept["y"], rtol=1e-10, atol=1e-12)
    *dx, of_lengths = layer.backward((), cache, jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))[1]
    assert of_lengths is None
    for ours, theirs in zip(dx, kept["gradients"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["self", "cross"])
def test_projections_and_lengths_are_pytorchs(name, x64):
    kept = BY_TORCH[name]
    *given, biases, Wo, bo = [jnp.asarray(leaf) for leaf in kept["inputs"]]
    x, weights = (given[:1], jnp.split(given[1], 3)) if name == "self" else (given[:2], given[2:])
    net = jn.multi_head_attention(4, 2, lengths=True, context=None if name == "self" else 6)
    projections = (((), jn.Dense(W, b)) for W, b in zip(weights, jnp.split(biases, 3), strict=True))
    params = ((*projections, ()), (), jn.Dense(Wo, bo))
    y, cache = net.forward(params, (*x, jnp.asarray(kept["lengths"])))
    np.testing.assert_allclose(y, kept["y"], rtol=1e-10, atol=1e-12)
    dparams, dx = net.backward(params, cache, jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))
    assert dx[-1] is None
    (*of_projections, _), _, of_output = per_example.total(dparams)
    dW, db = zip(*(projection for _, projection in of_projections), strict=True)
    dW = [jnp.concatenate(dW)] if name == "self" else dW
    for ours, theirs in zip((*dx[:-1], *dW, jnp.concatenate(db), *of_output), kept["gradients"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_cross_attention_with_lengths_has_autodiffs_gradients(key):
    net = jn.multi_head_attention(4, 2, context=6, kv_heads=1, lengths=True)
    jn.testing.check_layer(net, (*inputs(key), LENGTHS), key)


def test_a_context_of_the_same_numbers_is_self_attention(key):
    x, _ = inputs(key)
    of_self, of_cross = jn.multi_head_attention(4, 2), jn.multi_head_attention(4, 2, context=4)
    (qkv, _, o), (of_parts, *_) = of_self.init(key), of_cross.init(key)
    assert jax.tree.map(jnp.shape, qkv) == tuple(jax.tree.map(jnp.shape, dense) for _, dense in of_parts)
    in_parts = (tuple(((), dense) for dense in qkv), (), o)
    np.testing.assert_array_equal(of_cross.apply(in_parts, (x, x)), of_self.apply((qkv, (), o), x))


def test_readings_through_cross_attention_are_autodiffs(x64):
    """Of x with its context beside it, since the readings are asked of one array."""
    layers = jn.take(slice(0, 4), axis=-1), jn.take(slice(4, 10), axis=-1)
    net = jn.chain(jn.branches(*layers), CROSS, jn.tanh, jn.dense(4, 2))
    assert_readings_are_autodiffs(net, drawn.normal(3, 4, 10), zero=1e-15)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("block", [2, None], ids=["in blocks", "at once"])
def test_over_a_mesh_with_heads_over_devices_it_is_what_one_device_has(kind, block, x64, key):
    attend = jn.multi_head_attention(4, 2, context=6, lengths=True, block=block)
    net, loss = jn.chain(jn.carried_residual(attend), jn.pick(0)), jn.losses.half_squared_error
    params, x = jax.device_get((net.init(key), (*inputs(key, 8), jnp.arange(8) % 6)))
    y = np.ones((8, 4, 4))
    expected = jax.device_get(jax.jit(jn.value_and_grad(net, loss))(params, x, y))
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)

    def over_devices(spec, leaf):
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*spec)))

    with jax.set_mesh(mesh):
        spread = [jax.tree.map(lambda leaf: over_devices(("data",), leaf), tree) for tree in (x, y)]
        weights = jax.tree.map(lambda leaf: over_devices(("model",), leaf), params)
        actual = jax.device_get(jax.jit(jn.value_and_grad(net, loss))(weights, *spread))
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_it_is_printed_as_it_was_made():
    assert repr(jn.multi_head_attention(4, 2, context=6, lengths=True)) == (
        "chain(branches(chain(pick(0), dense(4, 4)), chain(pick(1), dense(6, 4)), chain(pick(1), dense(6, 4)), "
        "pick(2)), attention(2), dense(4, 4))"
    )


@pytest.mark.usefixtures("without_shape_annotations")
def test_a_context_of_no_features_is_refused():
    with pytest.raises(ValueError) as error:
        jn.multi_head_attention(4, 2, context=0)
    assert str(error.value) == "multi_head_attention: expected context to be a positive integer, got 0"
