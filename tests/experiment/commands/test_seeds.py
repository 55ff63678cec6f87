"""Several seeds at once: each is what it would be alone, and what is told of all of them."""

import json

import jax
import numpy as np
import pytest
from objectives import objective_of
from short_runs import train

import jaxnet as jn
from jaxnet.experiment.commands.outcome import print_each
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data.problem import Problem, loss_of
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.split import Part
from jaxnet.experiment.devices.mesh import make_layout
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import model_file
from jaxnet.experiment.training.batches import Batches
from jaxnet.experiment.training.faults import Fault
from jaxnet.experiment.training.interval import beside, interval, through
from jaxnet.experiment.training.recipe import recipe_of
from jaxnet.experiment.training.seeds import of_seed, together

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_figures")
# All that a seed decides: start, order, noise, weights of the way back.
OPTIONS = {
    "data": "iris",
    "batch_size": 16,
    "optimizer": "sgd",
    "clip_examples": 1.0,
    "noise_multiplier": 0.5,
    "feedback": "random",
    "diagnostics": True,
    "schedule": "cosine",
    "final_learning_rate": 0.01,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The run of one seed, and that of it and the next one."""
    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as patched:
        patched.setattr("jaxnet.experiment.commands.ending.draw", lambda *arguments: None)
        return [train(tmp_path_factory.mktemp("seeds"), **OPTIONS, seeds=seeds) for seeds in (1, 2)]


def test_the_first_seed_is_the_run_without_the_others_and_the_numbers_are_means(runs):
    (_, alone, lines), (_, result, told) = runs
    for line, of_both in zip(lines, told, strict=True):
        for name in ("train_loss", "validation_loss", "validation_accuracy"):
            # In float32 vmap's products round otherwise.
            assert of_both["seeds"][name][0] == pytest.approx(line[name], rel=1e-5)
            assert of_both[name] == pytest.approx(np.mean(of_both["seeds"][name]), rel=1e-12)
            assert name == "validation_accuracy" or len(set(of_both["seeds"][name])) == 2
        assert of_both["learning_rate"] == line["learning_rate"]
        assert of_both["diagnostics"]["gradient_norm"] == pytest.approx(line["diagnostics"]["gradient_norm"], rel=1e-4)
    assert result["seeds"]["test_loss"][0] == pytest.approx(alone["test_loss"], rel=1e-5)
    assert result["seeds"]["seed"] == [0, 1]
    assert "seeds" not in alone
    # t with one degree of freedom: 12.7062 s / sqrt(2), and s = |a - b| / sqrt(2).
    low, high = result["seeds"]["test_loss"]
    middle, half = (low + high) / 2, 12.7062 * abs(low - high) / 2
    assert result["test_loss"] == pytest.approx(middle)
    assert result["interval"]["test_loss"] == pytest.approx([middle - half, middle + half], rel=1e-4)


def test_predict_takes_the_seed_of_the_least_validation_loss_and_each_seeds_model_is_kept(runs):
    _, (out, result, told) = runs
    best = int(np.argmin(told[-1]["seeds"]["validation_loss"]))
    assert result["predicts"] == best
    files = [model_file.load_file(out / "seeds" / f"seed-{seed}.npz") for seed in (0, 1)]
    kept, chosen, other = (jax.tree.leaves(of.params) for of in (model_file.load(out), files[best], files[1 - best]))
    for one, same, another in zip(kept, chosen, other, strict=True):
        np.testing.assert_array_equal(one, same)
        assert (one != another).any()
    x = np.ones((1, 4))
    assert (jn.load(out).predict_proba(x) == jn.load(out / "seeds" / f"seed-{best}.npz").predict_proba(x)).all()


def test_weights_go_with_the_examples_of_each_seed_piece_after_piece():
    numbers = np.arange(1.0, 6.0)
    part = Part(InMemory(numbers[:, None]), numbers[:, None], loss_weights=numbers)
    problem = Problem("regression", ("y",), (), "half_squared_error", "identity", np.zeros(1), np.ones(1))
    batches = Batches(part, problem, 2, "float32", make_layout(), jax.random.split(jax.random.key(0), 3))
    order = batches.order(0)
    assert (order[0] != order[1]).any()
    for x, _, weights in batches.pieces(order, [(0, 2), (2, 3)]):
        # What fills up the last batch, of one example, counts 0.
        shares = [[0.5, 0.5]] * 2 if x.shape[1] == 2 else [[1.0, 0.0]]
        np.testing.assert_array_equal(weights, np.asarray(x)[..., 0] * np.array(shares))


def test_examples_of_a_class_are_counted_whole_however_many_they_are(capsys):
    scores = {"precision": 0.5, "recall": 0.5, "f1": 0.5, "auc": None}
    overall = {f"test_{name}": value for name, value in {**scores, "log_loss": 0.25}.items()}
    print_each({**overall, "classes": {"a": {**scores, "examples": 12345678.0}}})
    assert capsys.readouterr().out.splitlines()[1].split() == ["a", "0.500", "0.500", "0.500", "-", "12345678"]


def test_the_first_seed_has_the_weights_that_it_has_alone(tmp_path):
    options = {"data": "breast_cancer", "class_weights": "balanced", "batch_size": 100, "epochs": 2, "hidden": (4,)}
    (_, _, lines), (_, _, told) = (train(tmp_path / f"{seeds}", **options, seeds=seeds) for seeds in (1, 2))
    for line, of_both in zip(lines, told, strict=True):
        # In float32 vmap's products round otherwise.
        assert of_both["seeds"]["train_loss"][0] == pytest.approx(line["train_loss"], rel=1e-5)


def test_each_seed_starts_as_it_does_alone():
    problem = Problem("regression", ("y",), (), "half_squared_error", "identity", np.zeros(1), np.ones(1))
    layout, config = make_layout(), TrainConfig(hidden=(4,), seed=7, seeds=2, optimizer="adam")
    first = objective_of(config, problem, 3, 5, layout)
    x = jax.ShapeDtypeStruct((1, 3), np.float32)
    both = together(recipe_of(config), first.net, loss_of(problem), x, 5, layout, 1, first)
    alone = [
        objective_of(TrainConfig(hidden=(4,), seed=seed, optimizer="adam"), problem, 3, 5, layout) for seed in (7, 8)
    ]
    for number, one in enumerate(alone):
        for leaf, expected in zip(
            jax.tree.leaves(of_seed(both.state.params, number)), jax.tree.leaves(one.state.params), strict=True
        ):
            np.testing.assert_array_equal(leaf, expected)
        assert (jax.random.key_data(both.order_key[number]) == jax.random.key_data(one.order_key)).all()


def test_what_is_not_finite_names_its_seed(tmp_path):
    with pytest.raises(Fault, match=r"^the loss is no longer finite in epoch 1, batch \d+ \(step \d+\) of seed [56]: "):
        train(tmp_path, data="diabetes", optimizer="sgd", learning_rate=1e18, seed=5, seeds=2)


@pytest.mark.parametrize(("options", "message"), [
    ({"mesh": "data=2"}, "does not go with --mesh; start a run for each --seed"),
    ({"stream": True}, "does not go with --stream; start a run for each --seed"),
    ({"optimizer": "kfac"}, "does not go with --optimizer kfac; start a run for each --seed"),
    ({"private_epsilon": 3.0, "clip_examples": 1.0}, "does not go with --private-epsilon; start a run for each --seed"),
    ({"model": "gru"}, "does not go with --model gru, whose samples and figures follow one network; start a run for "
     "each --seed"),
    ({"on_nan": "skip"}, "does not go with --on-nan skip; start a run for each --seed"),
    ({"seed": 2**32 - 1}, "with --seed 4294967295 the last one is not below 2^32"),
])  # fmt: skip
def test_what_several_seeds_do_not_go_with_is_named(options, message):
    with pytest.raises(BadInput) as error:
        run(TrainConfig(seeds=2, **options))
    assert str(error.value) == f"--seeds 2: {message}"


def test_scores_lie_beside_one_another_also_within():
    lists = beside([{"a": 1.0, "targets": {"t": {"b": 2.0}}}, {"a": 3.0, "targets": {"t": {"b": 2.0}}}])
    assert lists == {"a": [1.0, 3.0], "targets": {"t": {"b": [2.0, 2.0]}}}
    assert json.loads(json.dumps(through(np.mean, lists))) == {"a": 2.0, "targets": {"t": {"b": 2.0}}}
    assert through(np.mean, {"auc": [None, None]}) == {"auc": None}
    assert interval([2.0, 2.0, 2.0]) == [2.0, 2.0]
