"""What is made of curvature, over eight devices of a mesh with explicit axes as on one."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn
from jaxnet import curvature, per_example

LOSS = jn.losses.half_squared_error
NET = jn.chain(jn.dense(6, 8), jn.tanh, jn.dense(8, 4))


def quantities(params, x, y, weights):
    key = jax.random.key(0)
    z, cache = NET.forward(params, x)
    dparams, _ = NET.backward(params, cache, LOSS.backward(z, y))
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)

    def product(v):
        return curvature.ggn_vector_product(NET, LOSS, params, x, y, v, weights)

    reduced = curvature.kflr(NET, LOSS, params, x, y, weights, positions="reduce")
    return {
        "dots": per_example.dot(dparams, many),
        "clipped": per_example.clipped(0.5, mask=(False, True, True))(dparams, weights),
        "solve": curvature.solve(reduced, params, 0.3),
        "power": curvature.power(curvature.ggn_diagonal(NET, LOSS, params, x, y, weights), params, -0.5, 0.3),
        "conjugate gradients": curvature.conjugate_gradients(product, params, 0.3, tolerance=1e-12),
        "trace": curvature.trace(product, params, key, 2),
        "spectrum": curvature.spectrum(product, params, key, steps=3),
        "of each example": curvature.hessian_diagonal_per_example(NET, LOSS, params, x, y),
        "kfra": curvature.kfra(NET, LOSS, params, x, y, weights, positions="reduce"),
    }


def test_what_is_made_of_curvature_is_that_of_one_device(x64, key):
    params, x = jax.device_get((NET.init(key), jax.random.normal(key, (8, 2, 6))))
    y, weights = np.cos(x[..., :4]), np.arange(8) / 28
    with jax.set_mesh(jax.make_mesh((1,), ("one",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])):
        expected = jax.device_get(jax.jit(quantities)(params, x, y, weights))
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        sharded = jax.tree.map(lambda leaf: jax.device_put(leaf, NamedSharding(mesh, PartitionSpec("model"))), params)
        batch = [jax.device_put(array, NamedSharding(mesh, PartitionSpec("data"))) for array in (x, y, weights)]
        actual = jax.device_get(jax.jit(quantities)(sharded, *batch))
    for name, value in expected.items():
        for ours, theirs in zip(jax.tree.leaves(actual[name]), jax.tree.leaves(value), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9 * np.abs(theirs).max(), err_msg=name)
