"""Whole private runs: what is told of epsilon, how one goes on, and what is left of its keys."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from on_disk import three_classes

from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console import packages
from jaxnet.experiment.console.errors import BadInput, Failure
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import checkpoint, folder
from jaxnet.experiment.training import budget

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_figures")
# Three epochs of six batches, with checkpoints inside of them.
OPTIONS = {
    "data": "iris",
    "hidden": (4,),
    "epochs": 3,
    "batch_size": 18,
    "learning_rate": 0.05,
    "clip_examples": 1.0,
    "private_epsilon": 2.0,
    "private_delta": 1e-4,
    "checkpoint_every": "4",
    "keep": 100,
}


def private(out, **changes):
    return TrainConfig(**{**OPTIONS, "out": str(out), **changes})


def words_from(monkeypatch, first):
    told = iter(range(first, first + 4))
    monkeypatch.setattr(budget.secrets, "randbits", lambda bits: next(told))


def outcome(where):
    """All that a finished run wrote but the times."""
    lines = [json.loads(line) for line in (where / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    result = json.loads((where / "result.json").read_text())
    del result["seconds"]
    with np.load(where / "model.npz") as archive:
        return lines, result, {name: archive[name].tobytes() for name in archive.files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run whose checkpoints were copied before they went, the copy, and what was printed."""
    out, kept = (tmp_path_factory.mktemp("private") / name for name in ("whole", "kept"))
    forget, said = folder.forget_keys, []

    def copy_and_forget(of):
        shutil.copytree(of / "checkpoints", kept)
        forget(of)

    with pytest.MonkeyPatch.context() as patched, jax.numpy_dtype_promotion("standard"):
        words_from(patched, 100)
        patched.setattr(folder, "forget_keys", copy_and_forget)
        patched.setattr("jaxnet.experiment.commands.ending.draw", lambda *arguments: None)
        patched.setattr("jaxnet.experiment.commands.announcement.say", lambda text, **_: said.append(text))
        run(private(out))
    return out, kept, said


def test_epsilon_is_told_after_every_epoch_and_ends_within_the_budget(whole):
    out, _, said = whole
    lines, result, _ = outcome(out)
    spent = [line["epsilon"] for line in lines]
    assert len(spent) == 3
    assert spent == sorted(spent)
    assert 1.98 < spent[-1] <= 2.0
    assert (result["epsilon"], result["delta"]) == (spent[-1], 1e-4)
    multiplier = json.loads((out / "config.json").read_text())["resolved"]["noise_multiplier"]
    assert f"examples   gradients clipped to length 1, noise of {multiplier:g} times that on their sum" in said
    assert [line for line in said if line.startswith(("privacy", "protected"))] == [
        "privacy    epsilon 2, delta 0.0001 after 3 epochs, for each training example, in a batch with probability "
        "0.171; a batch has room for 45",
        "protected  the parameters, whatever ends the run; not the scales of the features, not the training losses, "
        "not the validation and test examples; each of several runs to choose from spends as much; checkpoints hold "
        "the key of the noise, and go when the run is finished",
    ]


def test_a_run_that_goes_on_spends_what_the_one_did_that_never_stopped(whole, tmp_path, monkeypatch):
    """Bitwise: which examples were drawn, and the noise, come from the checkpoint, whatever the entropy is now."""
    out, kept, _ = whole
    again = tmp_path / "again"
    again.mkdir()
    for name in ("config.json", "metrics.jsonl"):
        shutil.copy(out / name, again)
    shutil.copytree(kept, again / "checkpoints")
    for path in checkpoint.found(again):
        # Inside of the second epoch.
        if int(path.name.removeprefix("step-")) > 8:
            shutil.rmtree(path)
    words_from(monkeypatch, 900)
    monkeypatch.setattr(budget, "multiplier_of", None)
    run(dataclasses.replace(private(again), resume=str(again), out=str(out)))
    assert outcome(again) == outcome(out)


def test_a_finished_run_keeps_no_key_and_does_not_go_on(whole):
    out, kept, _ = whole
    assert len(list(kept.iterdir())) >= 3
    assert not (out / "checkpoints").exists()
    with pytest.raises(BadInput) as error:
        run(private(out, resume=str(out)))
    assert str(error.value) == f"--resume {out}: the run is finished, and its privacy budget is spent; start another"


def test_other_epochs_are_refused_since_the_noise_is_made_for_those(whole, tmp_path):
    out, *_ = whole
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(out / "config.json", again)
    with pytest.raises(BadInput) as error:
        run(private(again, resume=str(again), epochs=4))
    assert str(error.value) == f"--epochs 4: the noise of the private run in {again} is made for 3; leave it out"


def test_streaming_and_a_mesh_draw_the_same_and_learn_as_much(tmp_path, monkeypatch):
    """Parameters that are clipped by themselves, examples on disk and over devices, early stopping."""
    changes = {
        "data": str(three_classes(tmp_path / "data", "float32")),
        "epochs": 2,
        "early_stopping": 1,
        "clip_layers": True,
        "checkpoint_every": "0",
    }
    losses = []
    for name, more in {"here": {}, "elsewhere": {"stream": True, "mesh": "data=2"}}.items():
        words_from(monkeypatch, 7)
        result = run(private(tmp_path / name, **changes, **more))
        lines, *_ = outcome(tmp_path / name)
        losses.append([line["train_loss"] for line in lines])
        assert result["epsilon"] == lines[-1]["epsilon"] <= 2.0
    # Sums in another order, through twelve steps of float32.
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_of_a_text_the_windows_are_private_and_no_token_is_in_two(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("the cat sat on the mat\n" * 20)
    said = []
    monkeypatch.setattr("jaxnet.experiment.commands.announcement.say", lambda text, **_: said.append(text))
    for name in ("commands.text_runs.draw", "storage.samples.Samples.add"):
        monkeypatch.setattr(f"jaxnet.experiment.{name}", lambda *arguments: None)
    text = {"model": "transformer", "width": 4, "heads": 2, "depth": 1, "context": 5, "data": str(tmp_path / "a.txt")}
    # What an mlp has by default is none of its options here.
    changes = text | {"hidden": TrainConfig.hidden, "batch_size": 20, "epochs": 1, "checkpoint_every": "0"}
    result = run(private(tmp_path / "run", **changes))
    assert 1.9 < result["epsilon"] <= 2.0
    # Of 460 characters 414 are to learn from.
    assert [line for line in said if line.startswith(("epoch", "privacy", "protected"))] == [
        "epoch      4 steps, which draw from 69 windows of 6 characters, none of which is in two",
        "privacy    epsilon 2, delta 0.0001 after 1 epochs, for each window of 6 characters, in a batch with "
        "probability 0.29; a batch has room for 44",
        "protected  the parameters, whatever ends the run; not which characters the text has, not what several windows "
        "have in common, not the training losses, not the validation and test examples; each of several runs to choose "
        "from spends as much; checkpoints hold the key of the noise, and go when the run is finished",
    ]
    with pytest.raises(BadInput) as error:
        private(tmp_path / "other", **changes, epoch_steps=2)
    assert str(error.value) == (
        "--epoch-steps: each step draws from all windows of the text; leave it out with --private-epsilon"
    )


def test_without_the_accountant_nothing_is_written(tmp_path, monkeypatch):
    there = packages.is_there
    monkeypatch.setattr(packages, "is_there", lambda name: name != "dp_accounting" and there(name))
    with pytest.raises(Failure) as error:
        run(private(tmp_path / "run"))
    assert str(error.value) == (
        "--private-epsilon: the package dp_accounting is not installed; pip install -e '.[privacy]' brings it"
    )
    assert not (tmp_path / "run").exists()
