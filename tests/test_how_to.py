"""The programs of docs/how-to run, and do what their pages say."""

import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
from trees import assert_trees_equal

import jaxnet as jn
from jaxnet.experiment.commands import predict, train
from jaxnet.experiment.options.parse import parse

PAGES = Path(__file__).parents[1] / "docs" / "how-to"


def program_of(page):
    (program,) = re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)
    return program


def printed_below(page):
    blocks = re.findall(r"```(\w*)\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)
    return [text for language, text in blocks if not language]


@pytest.mark.usefixtures("optax_promotion")
def test_the_networks_in_scikit_learn_print_what_is_written_below_them(capsys):
    exec(program_of("estimator.md"), {})
    assert capsys.readouterr().out in printed_below("estimator.md")


def test_an_ensemble_of_seeds_takes_the_mean_of_their_probabilities(monkeypatch):
    raw = np.zeros((3, 4))

    class Loaded:
        def __init__(self, path):
            self.seed = int(re.fullmatch(r"runs/digits-1/seeds/seed-(\d)\.npz", path)[1])

        def predict_proba(self, x):
            assert x is raw
            return np.full((3, 2), float(self.seed))

    monkeypatch.setattr(jn, "load", Loaded)
    held = {"raw": raw}
    exec(program_of("schedules-and-seeds.md"), held)
    np.testing.assert_array_equal(held["probabilities"], np.full((3, 2), 2.0))


@pytest.mark.usefixtures("optax_promotion")
def test_a_training_loop_of_your_own_stops_early_and_goes_on_from_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    held = {}
    with jax.numpy_rank_promotion("allow"):
        exec(program_of("training-loop.md"), held)
    assert held["metrics"]["noise scale"].shape == (44,)
    accuracy = (held["net"].apply(held["params"], held["x_validation"]).argmax(1) == held["y_validation"]).mean()
    assert accuracy > 0.9
    assert held["validate"](held["params"]) == held["best"]
    state = held["state"]
    jn.save("state.npz", state)
    again = jn.restore("state.npz", like=state)
    went_on, as_well = (held["epoch"](one, held["x"], held["y"])[0] for one in (state, again))
    assert_trees_equal(went_on.params, as_well.params)
    assert np.asarray(went_on.epoch) == np.asarray(as_well.epoch)


def test_a_layer_that_says_how_it_goes_on_gives_what_it_gives_at_once():
    held = {}
    exec(program_of("text.md"), held)
    expected = held["net"](held["params"], held["x"])
    np.testing.assert_array_equal(np.concatenate([held["first"], held["then"]], axis=1), expected)


@pytest.mark.usefixtures("optax_promotion")
def test_private_training_in_a_loop_of_your_own_learns_from_noisy_sums():
    held = {}
    with jax.numpy_rank_promotion("allow"):
        exec(program_of("private-training.md"), held)
    assert held["rows"].shape == (60, 400)
    # Chance is 0.1; the program draws from the system's entropy, and no run of it comes near this.
    assert (held["net"].apply(held["state"].params, held["x"]).argmax(1) == held["y"]).mean() > 0.5
    assert 1.5 < held["multiplier"] < 4


# What of a run's words is the same on every machine: what it found, not what came of it.
FOUND = re.compile(
    r"(data|groups|weights|problem|network|column|label|class) .*|\w+ +(date|number|yes or no|category) .*"
)


@pytest.mark.usefixtures("optax_promotion")
def test_a_folder_of_images_is_learnt_and_predicted_as_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(program_of("images.md"), {})
    blocks = printed_below("images.md")
    learnt, predicted = (blocks[k] for k in (0, 2))
    train.main([*shlex.split(learnt)[2:], "--no-compilation-cache"])
    told = " ".join(capsys.readouterr().out.split())
    assert all(" ".join(line.split()) in told for line in blocks[1].splitlines() if line != "...")
    drawn = {path.name for path in Path("runs/shapes/figures").iterdir()}
    assert drawn >= set(re.findall(r"`(\w+\.png)`", (PAGES / "images.md").read_text()))
    predict.predict(parse(predict.PredictConfig, shlex.split(predicted)[2:]))
    assert "40 examples of the test part: accuracy" in capsys.readouterr().err


@pytest.mark.usefixtures("optax_promotion", "without_figures")
def test_tables_with_groups_weights_and_labels_are_trained_on_as_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(program_of("tables.md"), {})
    fenced = re.findall(r"```(\w*)\n(.*?)```", (PAGES / "tables.md").read_text(), re.DOTALL)
    blocks = [block for language, block in fenced if not language]
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("jaxnet ")]
    tables, predicted, labels, _ = commands
    for command in (tables, labels):
        train.main([*shlex.split(command)[2:], "--no-compilation-cache"])
        told, printed = capsys.readouterr().out, blocks[blocks.index(f"{command}\n") + 1]
        expected = [line for line in printed.splitlines() if FOUND.fullmatch(line)]
        assert len(expected) > 8
        assert set(expected) <= set(told.splitlines())
    predict.predict(parse(predict.PredictConfig, shlex.split(predicted)[2:]))
    assert "52 examples of the test part: accuracy" in capsys.readouterr().err
    assert len(Path("predictions.csv").read_text().splitlines()) == 53
