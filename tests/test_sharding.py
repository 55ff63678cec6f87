"""The same numbers over eight devices as on one, for meshes with automatic and with explicit axes."""

from functools import cache

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
LABELS = "softmax_cross_entropy_with_integer_labels"


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def mesh(request):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(request.param,) * 2)
    with jax.set_mesh(mesh):
        yield mesh


def on_one_device(question, *arguments):
    """The answer, of a program for a mesh of one device."""
    with jax.set_mesh(jax.make_mesh((1,), ("one",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])):
        return jax.device_get(question(*arguments))


def spread(mesh, layout, params, *batch):
    """Parameters and batch over the mesh."""
    rows, of_weights, of_biases = (NamedSharding(mesh, spec) for spec in LAYOUTS[layout])
    over = [jax.device_put(np.asarray(array), rows) for array in batch]
    return jax.tree.map(lambda leaf: jax.device_put(leaf, of_weights if leaf.ndim == 2 else of_biases), params), *over


NET, OPTIMIZER = jn.mlp((6, 8, 8, 4), jn.tanh), optax.sgd(0.1)


@cache
def pose(loss_name, positions):
    """Parameters, inputs, targets and weights, in NumPy; they are asked for with 64-bit types enabled."""
    key = jax.random.key(2026)
    x = jax.random.normal(key, (8, *positions, 6))
    y = jax.random.randint(key, (8, *positions), 0, 4) if "labels" in loss_name else jnp.cos(x[..., :4])
    return jax.device_get((NET.init(key), x, y, jnp.arange(8.0)))


def gradients_of(loss):
    @jax.jit
    def everything(params, x, y, weights):
        def user_loss(params, x):
            return loss.forward(jn.with_hand_derived_vjp(NET)(params, x), y).mean()

        by_hand = jn.value_and_grad(NET, loss)
        return by_hand(params, x, y), by_hand(params, x, y, weights / 28), jax.grad(user_loss, (0, 1))(params, x)

    return everything


def step_of(loss):
    def step(params, x, y):
        state, metrics = jn.make_step(NET, loss, OPTIMIZER)(jn.TrainState.create(params, OPTIMIZER), x, y)
        return state.params, metrics["loss"]

    return step


@cache
def gradients_and_step_on_one_device(loss_name, positions):
    loss, given = getattr(jn.losses, loss_name), pose(loss_name, positions)
    return on_one_device(gradients_of(loss), *given), on_one_device(step_of(loss), *given[:3])


# Of the other two pairs the readings' and the curvature's tests below ask.
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("loss_name", "positions"),
    [(LABELS, (3,)), ("half_squared_error", ())],
    ids=["labels, with positions", "squares, without positions"],
)
def test_gradients_and_steps_are_those_of_one_device(layout, loss_name, positions, x64, mesh):
    loss = getattr(jn.losses, loss_name)
    params, *batch = spread(mesh, layout, *pose(loss_name, positions))
    gradients = gradients_of(loss)(params, *batch)
    if AxisType.Explicit in mesh.axis_types:
        for weight, gradient in zip(jax.tree.leaves(params), jax.tree.leaves(gradients[0][1]), strict=True):
            assert gradient.sharding.is_equivalent_to(weight.sharding, weight.ndim)
    step = step_of(loss)(params, *batch[:2])
    expected = gradients_and_step_on_one_device(loss_name, positions)
    assert_trees_equal(jax.device_get((gradients, step)), expected)


@jax.jit
def readings(params, x, y, weights):
    loss = jn.losses.half_squared_error
    z, cache = NET.forward(params, x)
    dparams, _ = NET.backward(params, cache, loss.backward(z, y))
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


@cache
def readings_on_one_device(positions):
    return on_one_device(readings, *pose("half_squared_error", positions))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("positions", [(), (2,), (9,)], ids=["without positions", "few positions", "many positions"])
def test_readings_are_those_of_one_device(layout, positions, x64, mesh):
    actual = readings(*spread(mesh, layout, *pose("half_squared_error", positions)))
    assert_trees_equal(jax.device_get(actual), readings_on_one_device(positions))


@jax.jit
def quantities(params, x, y):
    loss = getattr(jn.losses, LABELS)
    optimizer = jn.optimizers.kfac(NET, loss, 0.1)
    _, grads = jn.value_and_grad(NET, loss)(params, x, y)
    step, _ = optimizer.update(grads, optimizer.init(params), params, x=x, y=y)
    arguments = NET, loss, params, x, y
    return {
        "ggn_diagonal": jn.curvature.ggn_diagonal(*arguments),
        "hessian_diagonal": jn.curvature.hessian_diagonal(*arguments),
        "kfac": jn.curvature.kfac(*arguments, jax.random.key(2026)),
        "kflr": jn.curvature.kflr(*arguments),
        "ggn_vector_product": jn.curvature.ggn_vector_product(*arguments, params),
        "fisher_vector_product": jn.curvature.fisher_vector_product(*arguments, params),
        "hessian_vector_product": jn.curvature.hessian_vector_product(*arguments, params),
        "neural_tangent_kernel": jn.curvature.neural_tangent_kernel(NET, params, x),
        "jacobian": jn.curvature.jacobian(NET, params, x),
        "step": step,
    }


@cache
def quantities_on_one_device():
    return on_one_device(quantities, *pose(LABELS, ())[:3])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_curvature_is_that_of_one_device(layout, x64, mesh):
    actual = quantities(*spread(mesh, layout, *pose(LABELS, ())[:3]))
    expected = quantities_on_one_device()
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
    np.testing.assert_allclose(expected[1], np.einsum("mntftf->mn", expected[0]), rtol=1e-12, atol=1e-15)


LOSSES = {name: loss for name, loss in vars(jn.losses).items() if isinstance(loss, jn.Loss)}


@jax.jit
def of_every_loss(z, targets, labels):
    of_name = {name: labels if name.endswith("labels") else targets for name in LOSSES}
    return {name: [part(z, of_name[name]) for part in loss[:3]] for name, loss in LOSSES.items()}


@cache
def of_every_loss_on_one_device():
    # Probabilities, since one loss takes no others.
    z, labels = np.asarray(jax.random.uniform(jax.random.key(2026), (8, 4))), np.arange(8) % 4
    given = z, np.eye(4)[labels], labels
    return given, on_one_device(of_every_loss, *given)


@pytest.mark.parametrize("spec", [("data",), ("data", "model"), (None, "model")], ids=str)
def test_losses_are_those_of_one_device(spec, x64, mesh):
    given, expected = of_every_loss_on_one_device()
    over = (jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*spec[: leaf.ndim]))) for leaf in given)
    assert_trees_equal(jax.device_get(of_every_loss(*over)), expected)
