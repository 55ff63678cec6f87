"""The same run over several devices as on one."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec
from objectives import objective_of
from on_disk import three_classes
from own_layers import gain

import jaxnet as jn
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.split import Part
from jaxnet.experiment.devices.mesh import AXES, Layout, make_layout
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import checkpoint
from jaxnet.experiment.training.batches import Batches, blocks_of
from jaxnet.experiment.training.objective import make_judge
from jaxnet.parameters import sides_of

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_figures")
WHOLE = PartitionSpec()
# Sums in another order, 20 steps long.
CLOSE = {"float32": 1e-6, "float64": 1e-12}
PROBLEM = Problem("regression", ("y",), (), "half_squared_error", "identity", np.zeros(1), np.ones(1))


def trained(out, **changes):
    """Parameters and losses of a run of 20 steps: 5 batches of 23 or fewer of the 105 examples, 4 times."""
    options = {"data": "iris", "hidden": (8, 4), "epochs": 4, "batch_size": 23, "activation": "tanh"}
    run(TrainConfig(**{**options, "out": str(out), **changes}))
    with np.load(out / "model.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if name.startswith("params")}
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((out / "result.json").read_text())
    losses = [[line["train_loss"], line["validation_loss"]] for line in lines] + [[result["test_loss"]] * 2]
    return {**arrays, "losses": np.array(losses)}


def assert_close(actual, expected, tolerance, where=""):
    assert actual.keys() == expected.keys()
    largest = max(np.abs(array).max() for name, array in expected.items() if name != "losses")
    for name, array in expected.items():
        scale = np.abs(array).max() if name == "losses" else largest
        np.testing.assert_allclose(actual[name], array, rtol=0, atol=tolerance * scale, err_msg=f"{name} {where}")


# Noise is of clipped examples; and ways back, what is skipped and when it ends have nothing to do with one another.
RUNS = {
    "momentum": {"optimizer": "momentum"},
    "adamw": {},
    "kfac": {"optimizer": "kfac"},
    "noise": {"optimizer": "sgd", "clip_examples": 0.5, "noise_multiplier": 0.5},
    "direct feedback, skipping and early stopping": {
        "optimizer": "sgd",
        "feedback": "direct",
        "on_nan": "skip",
        "early_stopping": 1,
    },
    "by jax.grad": {"optimizer": "sgd", "backward": "autodiff"},
    "numbers": {"data": "linnerud", "batch_size": 3, "optimizer": "sgd"},
}
# Along both axes, some with their state split over both; and along one, where eight and three devices fill batches up
# in two ways.
SHARDED = ("adamw", "noise", "direct feedback, skipping and early stopping", "by jax.grad")
ALONG_ONE = ("data=8", "data=3", "model=4", "data=8", "model=4", "data=3", "data=8")


@pytest.mark.parametrize(("name", "mesh"), list(zip(RUNS, ALONG_ONE, strict=True)))
def test_many_devices_train_as_one_does_in_float64(name, mesh, tmp_path):
    changes = {**RUNS[name], "dtype": "float64"}
    expected = trained(tmp_path / "one", **changes)
    # K-FAC inverts matrices of a condition of 100 or so.
    tolerance = CLOSE["float64"] * (10 if name == "kfac" else 1)
    for each in ("data=4,model=2", mesh):
        split = each != mesh and name in SHARDED
        assert_close(trained(tmp_path / each, **changes, mesh=each, shard_state=split), expected, tolerance, each)


def test_many_devices_train_as_one_does_in_float32(tmp_path):
    changes = {"optimizer": "sgd", "clip_examples": 0.5}
    expected = trained(tmp_path / "one", **changes)
    for mesh in ("data=4,model=2", "data=3"):
        assert_close(trained(tmp_path / mesh, **changes, mesh=mesh), expected, CLOSE["float32"], mesh)


def test_many_devices_train_from_disk_as_one_does_in_memory(tmp_path):
    changes = {"data": str(three_classes(tmp_path / "data")), "dtype": "float64"}
    expected = trained(tmp_path / "one", **changes)
    assert_close(trained(tmp_path / "many", **changes, stream=True, mesh="data=4,model=2"), expected, CLOSE["float64"])


def test_a_checkpoint_of_one_mesh_goes_on_on_another(tmp_path):
    changes = {"dtype": "float64", "checkpoint_every": "5", "keep": 4, "early_stopping": 9}
    expected, out = trained(tmp_path / "one", **changes), tmp_path / "many"
    again = trained(out, **changes, mesh="data=4,model=2")
    for step, mesh in ((5, None), (10, "data=8"), (15, "data=2,model=4")):
        # As if it had been killed after that step.
        later = [path for path in checkpoint.found(out) if int(path.name.removeprefix("step-")) > step]
        assert len(later) == 4 - step // 5
        for path in later:
            shutil.rmtree(path)
        (out / "result.json").unlink()
        again = trained(out, **changes, mesh=mesh, shard_state=mesh == "data=8", resume=str(out))
        assert_close(again, expected, CLOSE["float64"], f"{mesh} from step {step} on")


def spread(array):
    """The shape that each device holds."""
    (shape,) = {shard.data.shape for shard in array.addressable_shards}
    return shape


@pytest.mark.parametrize("optimizer", ["adamw", "kfac"])
def test_parameters_and_what_optimizers_keep_of_them_are_split_over_model(optimizer):
    config = TrainConfig(hidden=(8, 6, 5), optimizer=optimizer, mesh="data=2,model=2")
    layout = make_layout(config.mesh)
    objective = objective_of(config, PROBLEM, 3, 8, layout)
    first, _, second, _, third, _, fourth, *_ = objective.state.params
    # By outputs, by inputs; then 5 outputs do not divide, and the one that follows is split by neither.
    assert (spread(first.W), spread(first.b)) == ((4, 3), (4,))
    assert (spread(second.W), spread(second.b)) == ((6, 4), (6,))
    assert (spread(third.W), spread(fourth.W)) == ((5, 6), (1, 5))
    kept = [leaf for leaf in jax.tree.leaves(objective.state.opt_state) if leaf.shape == (8, 3)]
    assert kept
    assert {spread(leaf) for leaf in kept} == {(4, 3)}
    x, y = np.zeros((2, 8, 3), np.float32), np.zeros((2, 8, 1), np.float32)
    after, _ = objective.steps(objective.state, x, y)
    assert spread(after.params[0].W) == (4, 3)


def test_weights_of_any_network_take_turns_and_what_is_none_lies_with_its_layers_outputs():
    layout = Layout(AbstractMesh((1, 2), AXES, axis_types=(AxisType.Auto,) * 2))
    net = jn.chain(
        jn.dense(3, 8),
        gain(8),
        jn.repeat(jn.residual(jn.chain(jn.dense(8, 4), jn.tanh, jn.dense(4, 8))), 2),
        jn.dense(8, 5),
        jn.dense(5, 1),
    )
    params = jax.eval_shape(net.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((1, 3), "float32")
    places = layout.of_params(net, params, sides_of(net, params, x), x)
    assert jax.tree.map(lambda place: tuple(place.spec), places) == (
        jn.Dense(("model",), ("model",)),
        (),
        (jn.Dense((None, None, "model"), ()), (), jn.Dense((None, "model"), (None, "model"))),
        jn.Dense((None, "model"), ()),
        jn.Dense((), ()),
    )


@pytest.mark.parametrize("tied", [False, True])
def test_heads_hidden_units_and_the_vocabulary_of_a_transformer_are_split(tied):
    layout = Layout(AbstractMesh((1, 2), AXES, axis_types=(AxisType.Auto,) * 2))
    net, x = jn.transformer(16, width=8, heads=2, depth=2, length=4, tied=tied), jax.ShapeDtypeStruct((1, 4), int)
    params = jax.eval_shape(net.init, jax.random.key(0))
    places = layout.of_params(net, params, sides_of(net, params, x), x)
    denses = [one for one in jax.tree.leaves(places, is_leaf=_is_dense) if _is_dense(one)]
    # Of the stacked blocks: queries, keys and values by their heads, what follows by its inputs; hidden units likewise.
    by_outputs, by_inputs = (None, "model"), (None, None, "model")
    block = [by_outputs, by_outputs, by_outputs, by_inputs, by_outputs, by_inputs]
    assert [tuple(one.W.spec) for one in denses] == block
    tables = [one for one in jax.tree.leaves(places, is_leaf=_is_table) if _is_table(one)]
    assert [tuple(one.W.spec) for one in tables] == [("model",)] * (1 if tied else 2)


def _is_dense(part):
    return isinstance(part, jn.Dense)


def _is_table(part):
    return isinstance(part, jn.Embedding)


def test_batches_are_split_and_filled_up_and_each_program_is_compiled_once(caplog):
    config = TrainConfig(hidden=(4,), batch_size=6, mesh="data=4")
    layout = make_layout(config.mesh)
    part = Part(InMemory(np.random.default_rng(0).normal(size=(17, 3))), np.arange(17.0)[:, None])
    objective = objective_of(config, PROBLEM, 3, 6, layout)
    batches = Batches(part, PROBLEM, config.batch_size, "float32", layout, objective.order_key)
    state = objective.state
    with jax.log_compiles():
        for epoch in range(3):
            order = batches.order(epoch)
            assert order.shape == (3, 8)
            ((x, y, weights),) = batches.pieces(order, [(0, 3)])
            assert spread(x) == (3, 2, 3)
            np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
            assert sorted(np.asarray(y)[weights > 0].ravel()) == list(range(17))
            state, _ = objective.steps(state, x, y, weights)
    assert caplog.text.count("Compiling jit(steps)") == 1


@pytest.mark.parametrize("mesh", [None, "data=4"])
def test_what_fills_up_a_part_is_not_judged(mesh):
    config = TrainConfig(hidden=(4,), mesh=mesh)
    layout = make_layout(config.mesh)
    rng = np.random.default_rng(0)
    part = Part(InMemory(rng.normal(size=(9, 3))), rng.normal(size=(9, 1)))
    objective = objective_of(config, PROBLEM, 3, 8, layout)
    judge = make_judge(objective.net, objective.loss, PROBLEM, blocks_of(part, PROBLEM, "float32", layout), layout)
    loss, rmse = judge(objective.state.params)
    params = jax.tree.map(jnp.asarray, jax.device_get(objective.state.params))
    z = objective.net.apply(params, jnp.asarray(part.x.values, jnp.float32))
    squares = (np.asarray(z, np.float64) - part.y) ** 2
    np.testing.assert_allclose([loss, rmse], [0.5 * squares.mean(), np.sqrt(squares.mean())], rtol=1e-6)


def test_a_mesh_that_cannot_be_is_named():
    with pytest.raises(BadInput) as error:
        make_layout("data=9")
    assert str(error.value) == ("--mesh data=9: needs 9 devices, and JAX finds 8; JAX_NUM_CPU_DEVICES=9 simulates them")


@pytest.mark.parametrize(("hidden", "described"), [((7, 5), "4-7-5-3"), ((), "4-3")])
def test_a_mesh_that_splits_nothing_of_the_network_is_refused_before_anything_is_written(hidden, described, tmp_path):
    with pytest.raises(BadInput) as error:
        trained(tmp_path / "run", mesh="model=2", hidden=hidden)
    assert str(error.value) == (
        f"--mesh model=2: divides the outputs of no layer of the network {described}, tanh, output identity"
    )
    assert not list(tmp_path.iterdir())


def test_only_weights_are_split_whatever_else_has_their_shape():
    """A table that is added has a weight's shape, and a gain a bias's: their gradients take another form."""
    table = jn.Layer(
        lambda key: jnp.ones((4, 6)),
        lambda params, x: (x + params[None], ()),
        lambda params, cache, dy: (jn.Each(dy), dy),
    )
    net = jn.chain(jn.dense(6, 6), jn.residual(jn.chain(jn.dense(6, 8), jn.dense(8, 6))), table, jn.dense(6, 4))
    params = jax.eval_shape(net.init, jax.random.key(0))
    x = jnp.zeros((2, 4, 6))
    sides = sides_of(net, params, x)
    first, (second, third), kept, last = make_layout("model=2").of_params(net, params, sides, x)
    specs = [(layer.W.spec, layer.b.spec) for layer in (first, second, third, last)]
    by_outputs, by_inputs = (PartitionSpec("model"), PartitionSpec("model")), (PartitionSpec(None, "model"), WHOLE)
    assert specs == [by_outputs, by_inputs, by_outputs, by_inputs]
    assert kept.spec == WHOLE
