"""The same numbers over eight devices as on one, for meshes with automatic and with explicit axes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from trees import assert_trees_equal

import jaxnet as jn

# How the batch, the weights (out, in) and the biases (out,) lie on a mesh of 4 x 2 devices.
LAYOUTS = {
    "batch": (PartitionSpec("data"), PartitionSpec(), PartitionSpec()),
    "neurons": (PartitionSpec(), PartitionSpec("model"), PartitionSpec("model")),
    "batch and neurons": (PartitionSpec("data"), PartitionSpec("model"), PartitionSpec("model")),
}
# 64-bit sums in another order.
EXACT = {"rtol": 1e-12, "atol": 1e-15}


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def mesh(request):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(request.param,) * 2)
    with jax.set_mesh(mesh):
        yield mesh


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("positions", [(), (3,)], ids=["without positions", "with positions"])
@pytest.mark.parametrize("loss_name", ["softmax_cross_entropy_with_integer_labels", "half_squared_error"])
def test_gradients_and_steps_are_those_of_one_device(layout, positions, loss_name, x64, key, mesh):
    net, loss = jn.mlp((6, 8, 8, 4), jn.tanh), getattr(jn.losses, loss_name)
    optimizer = optax.sgd(0.1)
    params = net.init(key)
    x = jax.random.normal(key, (8, *positions, 6))
    y = jax.random.randint(key, (8, *positions), 0, 4) if "labels" in loss_name else jnp.cos(x[..., :4])
    weights = jnp.arange(8.0) / 28

    def everything(params, x, y, weights):
        def user_loss(params, x):
            return loss.forward(jn.with_hand_derived_vjp(net)(params, x), y).mean()

        by_hand = jn.value_and_grad(net, loss)
        return by_hand(params, x, y), by_hand(params, x, y, weights), jax.grad(user_loss, (0, 1))(params, x)

    def over_devices(spec, leaf):
        return jax.device_put(np.asarray(leaf), NamedSharding(mesh, spec))

    rows, of_weights, of_biases = LAYOUTS[layout]
    sharded = jax.tree.map(lambda leaf: over_devices(of_weights if leaf.ndim == 2 else of_biases, leaf), params)
    batch = [over_devices(rows, array) for array in (x, y, weights)]
    gradients = jax.jit(everything)(sharded, *batch)
    if AxisType.Explicit in mesh.axis_types:
        for weight, gradient in zip(jax.tree.leaves(sharded), jax.tree.leaves(gradients[0][1]), strict=True):
            assert gradient.sharding.is_equivalent_to(weight.sharding, weight.ndim)
    state, metrics = jn.make_step(net, loss, optimizer)(jn.TrainState.create(sharded, optimizer), *batch[:2])

    with jax.set_mesh(jax.make_mesh((1,), ("one",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])):
        alone = jax.tree.map(np.asarray, (params, x, y, weights))
        expected = jax.jit(everything)(*alone)
        one, one_metrics = jn.make_step(net, loss, optimizer)(jn.TrainState.create(alone[0], optimizer), *alone[1:3])
    assert_trees_equal(jax.device_get(gradients), jax.device_get(expected))
    assert_trees_equal(jax.device_get(state.params), jax.device_get(one.params))
    np.testing.assert_allclose(metrics["loss"], one_metrics["loss"], **EXACT)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("positions", [(), (2,), (9,)], ids=["without positions", "few positions", "many positions"])
def test_readings_are_those_of_one_device(layout, positions, x64, key, mesh):
    net, loss = jn.mlp((6, 8, 8, 4), jn.tanh), jn.losses.half_squared_error
    params, x = net.init(key), jax.random.normal(key, (8, *positions, 6))
    y = jnp.cos(x[..., :4])

    weights = jnp.arange(8.0)

    def readings(params, x, y, weights):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, loss.backward(z, y))
        return {
            "each": jn.per_example.each(dparams),
            "squared norms": jn.per_example.squared_norms(dparams),
            "clipped mean": jn.per_example.clipped_mean(dparams, 0.5),
            "variance": jn.per_example.variance(dparams),
            "dot": jn.per_example.dot(dparams, params),
            "gram": jn.per_example.gram(dparams),
            "noise scale": jn.per_example.noise_scale(dparams),
            "noise scale, weighted": jn.per_example.noise_scale(dparams, weights),
        }

    rows, of_weights, of_biases = (NamedSharding(mesh, spec) for spec in LAYOUTS[layout])
    alone = jax.device_get((params, x, y, weights))
    sharded = jax.tree.map(lambda leaf: jax.device_put(leaf, of_weights if leaf.ndim == 2 else of_biases), alone[0])
    actual = jax.jit(readings)(sharded, *(jax.device_put(array, rows) for array in alone[1:]))
    with jax.set_mesh(jax.make_mesh((1,), ("one",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])):
        expected = jax.jit(readings)(*alone)
    assert_trees_equal(jax.device_get(actual), jax.device_get(expected))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_curvature_is_that_of_one_device(layout, x64, key, mesh):
    net, loss = jn.mlp((6, 8, 8, 4), jn.tanh), jn.losses.softmax_cross_entropy_with_integer_labels
    params, x = net.init(key), jax.random.normal(key, (8, 6))
    y = jnp.arange(8) % 4

    def quantities(params, x, y):
        optimizer = jn.optimizers.kfac(net, loss, 0.1)
        _, grads = jn.value_and_grad(net, loss)(params, x, y)
        step, _ = optimizer.update(grads, optimizer.init(params), params, x=x, y=y)
        arguments = net, loss, params, x, y
        return {
            "ggn_diagonal": jn.curvature.ggn_diagonal(*arguments),
            "hessian_diagonal": jn.curvature.hessian_diagonal(*arguments),
            "kfac": jn.curvature.kfac(*arguments, key),
            "kflr": jn.curvature.kflr(*arguments),
            "ggn_vector_product": jn.curvature.ggn_vector_product(*arguments, params),
            "fisher_vector_product": jn.curvature.fisher_vector_product(*arguments, params),
            "hessian_vector_product": jn.curvature.hessian_vector_product(*arguments, params),
            "neural_tangent_kernel": jn.curvature.neural_tangent_kernel(net, params, x),
            "jacobian": jn.curvature.jacobian(net, params, x),
            "step": step,
        }

    rows, of_weights, of_biases = (NamedSharding(mesh, spec) for spec in LAYOUTS[layout])
    alone = jax.device_get((params, x, y))
    sharded = jax.tree.map(lambda leaf: jax.device_put(leaf, of_weights if leaf.ndim == 2 else of_biases), alone[0])
    actual = jax.jit(quantities)(sharded, *(jax.device_put(array, rows) for array in alone[1:]))
    with jax.set_mesh(jax.make_mesh((1,), ("one",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])):
        expected = jax.jit(quantities)(*alone)
    # Inverses of matrices of condition 100 or so.
    for ours, theirs in zip(jax.tree.leaves(jax.device_get(actual)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.abs(theirs).max())


def test_the_kernel_and_the_jacobian_of_outputs_with_positions_are_those_of_one_device(x64, key, mesh):
    net, rows, of_weights = jn.mlp((6, 8, 4), jn.tanh), PartitionSpec("data"), PartitionSpec("model")
    params, x = net.init(key), jax.random.normal(key, (8, 2, 6))

    def quantities(params, x):
        kernel = jn.curvature.neural_tangent_kernel(net, params, x)
        trace = jn.curvature.neural_tangent_kernel(net, params, x, trace=True)
        return kernel, trace, jn.curvature.jacobian(net, params, x)

    def over_devices(spec, leaf):
        return jax.device_put(np.asarray(leaf), NamedSharding(mesh, spec))

    sharded = jax.tree.map(lambda leaf: over_devices(of_weights, leaf), params)
    actual = jax.device_get(jax.jit(quantities)(sharded, over_devices(rows, x)))
    with jax.set_mesh(jax.make_mesh((1,), ("one",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])):
        expected = jax.device_get(jax.jit(quantities)(*jax.tree.map(np.asarray, (params, x))))
    assert_trees_equal(actual, expected)
    np.testing.assert_allclose(expected[1], np.einsum("mntftf->mn", expected[0]), **EXACT)


LOSSES = {name: loss for name, loss in vars(jn.losses).items() if isinstance(loss, jn.Loss)}


@pytest.mark.parametrize("spec", [("data",), ("data", "model"), (None, "model")], ids=str)
def test_losses_are_those_of_one_device(spec, x64, key, mesh):
    # Probabilities, since one loss takes no others.
    z, labels = np.asarray(jax.random.uniform(key, (8, 4))), np.arange(8) % 4
    targets = np.eye(4)[labels]

    def everything(z, targets, labels):
        of_name = {name: labels if name.endswith("labels") else targets for name in LOSSES}
        return {name: [part(z, of_name[name]) for part in loss[:3]] for name, loss in LOSSES.items()}

    spread = (
        jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*spec[: leaf.ndim]))) for leaf in (z, targets, labels)
    )
    actual = jax.jit(everything)(*spread)
    with jax.set_mesh(jax.make_mesh((1,), ("one",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])):
        expected = jax.jit(everything)(z, targets, labels)
    assert_trees_equal(jax.device_get(actual), jax.device_get(expected))
