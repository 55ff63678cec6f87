"""The same numbers on a sharded batch as on one device, for meshes with automatic and with explicit axes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("positions", [(), (2,)], ids=["without positions", "with positions"])
def test_a_batch_over_four_devices_gives_the_gradient_of_one(axis_type, positions, x64, key):
    net, loss = jn.mlp((3, 5, 2), jn.tanh), jn.losses.softmax_cross_entropy_with_integer_labels
    params = net.init(key)
    x = jax.random.normal(key, (8, *positions, 3))
    y = jax.random.randint(key, (8, *positions), 0, 2)
    weights = jnp.arange(8.0) / 28
    expected = jn.value_and_grad(net, loss)(params, x, y), jn.value_and_grad(net, loss)(params, x, y, weights)

    mesh = jax.make_mesh((4,), ("data",), axis_types=(axis_type,), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        rows, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
        params, (x, y, weights) = jax.device_put(params, whole), jax.device_put((x, y, weights), rows)
        gradient = jax.jit(jn.value_and_grad(net, loss))
        actual = gradient(params, x, y), gradient(params, x, y, weights)
        step = jn.make_step(net, loss, optax.sgd(0.1))
        state, _ = step(jn.TrainState.create(params, optax.sgd(0.1)), x, y)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15), actual, expected)
    updated = jax.tree.map(lambda w, dw: w - 0.1 * dw, jax.device_get(params), jax.device_get(expected[0][1]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15), state.params, updated)
