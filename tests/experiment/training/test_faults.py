"""Numbers that are no longer finite: named with their step and layer, skipped, or left behind."""

import json
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objectives import objective_of
from own_layers import add_all

import jaxnet as jn
from jaxnet.experiment.commands import recording
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console.errors import BadInput, Failure
from jaxnet.experiment.data.problem import Problem, loss_of
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.split import Part
from jaxnet.experiment.devices.mesh import make_layout
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import checkpoint
from jaxnet.experiment.training import faults
from jaxnet.experiment.training.batches import Batches
from jaxnet.experiment.training.faults import Fault

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_figures")
PROBLEM = Problem("regression", ("y",), (), "half_squared_error", "identity", np.zeros(1), np.ones(1))


def options(tmp_path, **changes):
    return TrainConfig(**{"out": str(tmp_path / "run"), "epochs": 3, "hidden": (8,), **changes})


def lines(tmp_path):
    return [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def made(key):
    """An objective for 3 features, where it is, and 12 batches of 4 examples in three pieces."""
    config = TrainConfig(hidden=(5,), optimizer="sgd", batch_size=4)
    layout = make_layout()
    x = np.array(jax.random.normal(key, (12, 4, 3)))
    y = np.sin(x[..., :1])

    def pieces():
        return [(jnp.asarray(x[at : at + 4]), jnp.asarray(y[at : at + 4]), None) for at in (0, 4, 8)]

    return objective_of(config, PROBLEM, 3, 4, layout), layout, x, pieces


def test_where_all_is_finite_nothing_is_found_and_the_state_stays(made):
    objective, layout, _, pieces = made
    before = jax.device_get(objective.state.params)
    assert faults.find(objective, layout, objective.state, pieces()) is None
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(objective.state.params), before)


def test_the_first_faulty_batch_of_many_is_found(made):
    objective, layout, x, pieces = made
    told = "the inputs are the first that are not, for 1 of 4 examples"
    for batch in (11, 6, 3, 0):
        x[batch:, 2] = np.inf
        assert faults.find(objective, layout, objective.state, pieces()) == (batch, "the loss", told)


@pytest.mark.parametrize("changes", [
    {"optimizer": "adam", "clip_examples": 1.0, "noise_multiplier": 0.5},
    {"optimizer": "kfac", "on_nan": "skip"},
])  # fmt: skip
def test_the_batch_is_found_where_the_optimizer_keeps_a_random_key(changes, made):
    _, layout, x, pieces = made
    objective = objective_of(TrainConfig(hidden=(5,), batch_size=4, **changes), PROBLEM, 3, 4, layout)
    keys = [
        leaf for leaf in jax.tree.leaves(objective.state.opt_state) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    ]
    assert keys
    x[5:, 2] = np.inf
    told = "the inputs are the first that are not, for 1 of 4 examples"
    assert faults.find(objective, layout, objective.state, pieces()) == (5, "the loss", told)


@pytest.mark.parametrize(("changes", "told"), [
    (
        {"optimizer": "kfac", "learning_rate": 1e3},
        r"the loss is no longer finite in epoch 1, batch \d+ \(step \d+\): .+; lower --learning-rate \(1000\) or look ",
    ),
    (
        {"optimizer": "sgd", "learning_rate": 30.0, "on_nan": "skip"},
        r"the validation loss is not finite after epoch 1, of whose last 10 batches [1-9] were skipped: the loss is no "
        r"longer finite in epoch 1, batch \d+ \(step \d+\): the output of layer 2 \(dense 8-1\) is the first that is "
        r"not, for \d+ of 32 examples; lower --learning-rate \(30\) or look for extreme values in the data; ",
    ),
])  # fmt: skip
def test_a_run_that_diverges_says_where_and_how_much_was_skipped(changes, told, tmp_path):
    with pytest.raises(Fault, match=f"^{told}"):
        run(options(tmp_path, data="diabetes", **changes))


def test_a_test_part_whose_loss_is_not_finite_is_told(tmp_path, monkeypatch):
    judged = "jaxnet.experiment.commands.ending.make_predict_and_judge"
    monkeypatch.setattr(judged, lambda *arguments: lambda params: (None, np.inf))
    with pytest.raises(Failure) as error:
        run(options(tmp_path, data="iris", epochs=1))
    assert str(error.value) == (
        "the test part's loss is not finite, though the other parts' are; look for extreme values in the data; "
        f"{tmp_path}/run holds config.json, metrics.jsonl (1 epoch), model.npz, checkpoints/step-000000004; --resume "
        f"{tmp_path}/run goes on"
    )


def found(objective, x, y, weights=None):
    return faults.where(
        objective, objective.state.params, *(None if array is None else array[None] for array in (x, y, weights))
    )


def test_each_part_of_a_step_is_named_where_it_is_the_first(made):
    objective, _, x, _ = made
    x, y = jnp.asarray(x[0]), jnp.ones((4, 1))
    params = objective.state.params
    large = (params[0]._replace(W=jnp.full((5, 3), 1e30)), *params[1:])
    overflows = objective._replace(state=objective.state._replace(params=large))
    x_large = jnp.where(jnp.arange(4)[:, None] == 1, 1e20, jnp.abs(x))
    named = "the output of layer 1 (dense 3-5) is the first that is not, for 1 of 4 examples"
    assert found(overflows, x_large, y) == ("the loss", named)
    # What fills up a batch does not count.
    of_three = named.replace("of 4", "of 3")
    assert found(overflows, x_large, y, jnp.array([0.3, 0.3, 0.4, 0])) == ("the loss", of_three)

    told = "all outputs are, the loss of 2 of 4 examples is not"
    assert found(objective, x, jnp.array([[1.0], [1e30], [1e30], [1.0]])) == ("the loss", told)

    def with_nan(layer, params, x, y, weights=None):
        value, grads = objective.value_and_grad(params, x, y, weights)
        return value, tuple(
            of_layer if position > layer else jax.tree.map(lambda leaf: leaf * jnp.nan, of_layer)
            for position, of_layer in enumerate(grads)
        )

    for layer, name in ((0, "layer 1 (dense 3-5)"), (2, "layer 2 (dense 5-1)")):
        told = f"that of {name} is the first that is not"
        assert found(objective._replace(value_and_grad=partial(with_nan, layer)), x, y) == ("a gradient", told)
    assert found(objective, x, y) == ("an update", "the loss and all gradients are")


def of_network(objective, net, params):
    """The objective with another network."""
    value_and_grad = jn.value_and_grad(net, objective.loss)
    state = objective.state._replace(params=params)
    return objective._replace(net=net, trained_net=net, value_and_grad=value_and_grad, state=state)


BLOCK = jn.chain(jn.dense(3, 3), jn.relu)
X, Y = jnp.array([[1.0, 2, 3], [0, 0, 0], [3, 2, 1], [0, 0, 0]]), jnp.ones((4, 1))


def with_large_third_round(params):
    """Weights of ones, without biases; those of the third of four rounds make infinity of all that is not 0."""

    def value(leaf):
        if leaf.shape[-2:] != (3, 3):
            return jnp.ones_like(leaf) if leaf.shape == (1, 3) else jnp.zeros_like(leaf)
        return jnp.ones_like(leaf) if leaf.ndim == 2 else jnp.ones_like(leaf).at[2].set(1e38)

    return jax.tree.map(value, params)


AROUND = {
    "the layer alone": lambda layer: layer,
    "inside four others": lambda layer: jn.recompute(add_all(jn.residual(jn.mixed_precision(layer)))),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_inside_repeat_the_round_is_named_whatever_the_layer_is_made_of(around, made, key):
    net = jn.chain(BLOCK, jn.repeat(around(BLOCK), 4), jn.dense(3, 1))
    objective = of_network(made[0], net, with_large_third_round(net.init(key)))
    told = "the output of layer 2 (dense 3-3) in round 3 of repeat is the first that is not, for 2 of 4 examples"
    assert found(objective, X, Y) == ("the loss", told)


def test_what_a_combinator_itself_makes_is_named_by_it(made, key):
    net = jn.chain(jn.residual(jn.identity), jn.residual(jn.dense(3, 3)), jn.dense(3, 1))
    params = jax.tree.map(jnp.zeros_like, net.init(key))
    params = ((), params[1]._replace(W=jnp.eye(3)), params[2])
    # Four times that is beyond float32.
    large = X.at[2].set(1e38)
    told = "the output of residual after layer 1 is the first that is not, for 1 of 4 examples"
    assert found(of_network(made[0], net, params), large, Y) == ("the loss", told)
    larger = X.at[2].set(2e38)
    told = "the output of residual before layer 1 is the first that is not, for 1 of 4 examples"
    assert found(of_network(made[0], net, params), larger, Y) == ("the loss", told)


@pytest.mark.parametrize("around", [lambda layer: layer, lambda layer: jn.recompute(add_all(layer))])
def test_a_gradient_inside_repeat_is_named_with_its_round(around, made, key):
    net = jn.chain(BLOCK, jn.repeat(around(BLOCK), 4), jn.dense(3, 1))
    objective = of_network(made[0], net, net.init(key))

    def with_nan(params, x, y, weights=None):
        value, grads = objective.value_and_grad(params, x, y, weights)
        return value, (grads[0], jax.tree.map(lambda leaf: leaf.at[:2].set(jnp.nan), grads[1]), grads[2])

    told = "that of layer 2 (dense 3-3) in round 2 of repeat is the first that is not"
    assert found(objective._replace(value_and_grad=with_nan), X, Y) == ("a gradient", told)


def test_a_run_stops_with_the_step_and_the_layer(tmp_path):
    with pytest.raises(Fault) as error:
        run(options(tmp_path, data="diabetes", optimizer="sgd", learning_rate=30.0, hidden=(256,)))
    assert str(error.value) == (
        "the loss is no longer finite in epoch 1, batch 4 (step 4): the output of layer 2 (dense 256-1) is the first "
        "that is not, for 31 of 32 examples; lower --learning-rate (30) or look for extreme values in the data; "
        f"{tmp_path}/run holds config.json, metrics.jsonl (0 epochs), but no model"
    )
    assert error.value.status == 1


@pytest.fixture
def textbook(monkeypatch):
    """The cross-entropy's derivative as it is written: 0 / 0 where an output is its target to the last bit."""

    def make(problem):
        return loss_of(problem)._replace(backward=lambda a, y: (a - y) / (a * (1 - a)))

    monkeypatch.setattr("jaxnet.experiment.training.course.loss_of", make)


SATURATES = {"data": "breast_cancer", "loss": "binary_cross_entropy", "epochs": 8, "learning_rate": 0.05}


@pytest.mark.usefixtures("textbook")
def test_a_batch_whose_gradient_is_not_finite_is_skipped(tmp_path):
    with pytest.raises(
        Fault, match=r"^a gradient is no longer finite in .*: that of layer 2 \(dense 8-1\) is the first that"
    ):
        run(options(tmp_path, **SATURATES))
    run(options(tmp_path, **SATURATES, on_nan="skip", overwrite=True))
    told = lines(tmp_path)
    assert len(told) == 8
    totals = [0, *(line["skipped"] for line in told)]
    assert totals[-1] > 0
    assert all(0 <= after - before < 13 for before, after in pairwise(totals))


def test_a_skipped_batch_leaves_the_state_and_the_others_train_as_without_it(made):
    _, layout, _, pieces = made
    config = TrainConfig(hidden=(5,), optimizer="adam", batch_size=4, on_nan="skip")
    states = {}
    # A target whose loss overflows, while its gradient does not.
    for name, dropped in (("skipped", False), ("left out", True)):
        objective = objective_of(config, PROBLEM, 3, 4, layout)
        (xs, ys, _), *_ = pieces()
        xs, ys = (xs[jnp.array([0, 2, 3])], ys[jnp.array([0, 2, 3])]) if dropped else (xs, ys.at[1, 2].set(1e30))
        states[name], metrics = objective.steps(objective.state, xs, ys)
        assert np.isfinite(metrics["loss"]).tolist() == [True] * 3 if dropped else [True, False, True, True]
    skipped, left_out = states["skipped"], states["left out"]
    jax.tree.map(np.testing.assert_array_equal, skipped.params, left_out.params)
    assert (int(skipped.step), int(left_out.step)) == (4, 3)


@pytest.mark.usefixtures("textbook")
def test_an_epoch_of_skipped_batches_ends_the_run(tmp_path):
    told = r"^every batch of epoch \d+ was skipped: a gradient is no longer finite in epoch \d+, batch 1 \(step \d+\): "
    with pytest.raises(Fault, match=told):
        run(options(tmp_path, **SATURATES | {"epochs": 100, "learning_rate": 0.2}, on_nan="skip"))


def test_where_nothing_is_skipped_the_run_is_the_same(tmp_path):
    run(options(tmp_path, data="iris", dtype="float64"))
    plain = lines(tmp_path)
    run(options(tmp_path, data="iris", dtype="float64", on_nan="skip", overwrite=True))
    for line, other in zip(plain, lines(tmp_path), strict=True):
        np.testing.assert_allclose(other["train_loss"], line["train_loss"], rtol=1e-12)
        assert other["skipped"] == 0


def batches_of(examples, batch_size):
    part = Part(InMemory(np.zeros((examples, 2))), np.arange(examples)[:, None].astype(float))
    return Batches(part, PROBLEM, batch_size, "float32", make_layout(), jax.random.key(1))


def test_redrawn_orders_keep_what_was_seen_and_show_every_example_once():
    batches = batches_of(22, 4)
    plain = batches.order(3)
    redrawn = batches.order(3, [(2, 1)])
    again = batches.order(3, [(2, 1), (4, 2)])
    np.testing.assert_array_equal(redrawn[:2], plain[:2])
    np.testing.assert_array_equal(again[:4], redrawn[:4])
    for order in (plain, redrawn, again):
        assert sorted(order.ravel()[:22].tolist()) == list(range(22))
    assert len({tuple(order.ravel()[:22]) for order in (plain, redrawn, again, batches.order(3, [(2, 2)]))}) == 4


@pytest.fixture
def fragile(monkeypatch):
    """A loss that is infinite where a certain example is the first of its batch: another order helps."""

    def make(problem):
        loss = loss_of(problem)

        def forward(z, y):
            return loss.forward(z, y) + jnp.where(y[0] == fragile_target, jnp.inf, 0)

        return loss._replace(forward=forward)

    fragile_target = None

    def choose(target):
        nonlocal fragile_target
        fragile_target = target

    monkeypatch.setattr("jaxnet.experiment.training.course.loss_of", make)
    return choose


def test_a_run_goes_back_and_sees_the_examples_in_another_order(tmp_path, fragile, capsys):
    changes = {"data": "diabetes", "batch_size": 16, "checkpoint_every": "3", "keep": 1000, "dtype": "float64"}
    seen = first_targets_of_batches(options(tmp_path, **changes))
    fragile(seen[10])
    with pytest.raises(Fault, match=r"^the loss is no longer finite in epoch 1, batch 11 \(step 11\): all outputs are"):
        run(options(tmp_path, **changes))
    run(options(tmp_path, **changes, on_nan="rollback", overwrite=True))
    told = capsys.readouterr()
    assert told.err.startswith("rolled back: the loss is no longer finite in epoch 1, batch 11 (step 11): ")
    assert f"resumed    {tmp_path}/run.new/checkpoints/step-000000009: 0 epochs, 9 steps" in told.out
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 2, 3]
    # What comes after is resumed to the last bit too.
    whole = [{**line, "seconds": 0} for line in lines(tmp_path)]
    newest, *earlier = checkpoint.found(tmp_path / "run")
    for path in (newest, *earlier):
        step = int(path.name.removeprefix("step-"))
        if step > 15:
            [file.unlink() for file in path.rglob("*") if file.is_file()]
    (tmp_path / "run" / "result.json").unlink()
    run(options(tmp_path, **changes, on_nan="rollback", resume=str(tmp_path / "run")))
    assert "passed over" in capsys.readouterr().err
    assert [{**line, "seconds": 0} for line in lines(tmp_path)] == whole


def test_a_fault_ends_an_epoch_in_the_middle(tmp_path, monkeypatch):
    """At the next piece but one, not at its end."""
    monkeypatch.setattr("jaxnet.experiment.training.batches.PIECE_BYTES", 16 * 10 * 4)
    made = []
    pieces = Batches.pieces

    def counted(self, order, cuts):
        for piece in pieces(self, order, cuts):
            made.append(piece)
            yield piece

    monkeypatch.setattr(Batches, "pieces", counted)
    monkeypatch.setattr(faults, "find", lambda *arguments: None)
    changes = {"data": "diabetes", "optimizer": "sgd", "learning_rate": 30.0, "hidden": (256,), "batch_size": 16}
    with pytest.raises(Fault):
        run(options(tmp_path, **changes))
    assert len(made) < 10


def test_a_run_that_goes_back_in_vain_gives_up(tmp_path):
    changes = {"data": "diabetes", "optimizer": "sgd", "learning_rate": 30.0, "checkpoint_every": "2"}
    with pytest.raises(Failure) as error:
        run(options(tmp_path, **changes, hidden=(256,), on_nan="rollback"))
    assert "; 3 other orders from step 2 on did not help; " in str(error.value)


def test_a_run_that_finds_nothing_to_go_back_to_says_so(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise BadInput("no checkpoint is whole")

    monkeypatch.setattr(recording.resumption, "resume", refuse)
    changes = {"data": "diabetes", "optimizer": "sgd", "learning_rate": 30.0, "checkpoint_every": "2"}
    with pytest.raises(Failure, match=r"; there is nothing to go back to: no checkpoint is whole; ") as error:
        run(options(tmp_path, **changes, hidden=(256,), on_nan="rollback"))
    assert error.value.status == 1
    assert "no longer finite in epoch 1" in str(error.value)


def first_targets_of_batches(config):
    """The encoded target of the first example of each batch in the run's first epoch."""
    from jaxnet.experiment.data import named
    from jaxnet.experiment.data.posing import pose
    from jaxnet.experiment.data.split import split

    problem, table = pose(named.load(config.data))
    parts, problem = split(table, problem, config.seed)
    layout = make_layout()
    with jax.enable_x64(True):
        key = objective_of(config, problem, 10, config.batch_size, layout).order_key
        order = Batches(parts.train, problem, config.batch_size, "float32", layout, key).order(0)
    return problem.encode(parts.train.y, "float64")[order[:, 0]]


def test_what_is_not_finite_is_named_by_its_place():
    tree = [{"W": jnp.ones((2, 2)), "b": jnp.array([1.0, jnp.nan])}, jnp.array([jnp.inf]), jnp.arange(3)]
    assert faults.not_finite(tree) == ["[0]['b']", "[1]"]
    assert faults.not_finite(tree[0]["W"]) == []
