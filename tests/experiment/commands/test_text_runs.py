"""Runs that learn a text: from the file to a network that writes."""

import dataclasses
import json
import math
import re
import shutil

import jax
import numpy as np
import pytest

import jaxnet as jn
from jaxnet.experiment.commands.export import ExportConfig, export
from jaxnet.experiment.commands.generate import GenerateConfig, generate
from jaxnet.experiment.commands.predict import PredictConfig, predict
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import checkpoint

TEXT = "the cat sat on the mat, and the dog sat on the log\n" * 12
SMALL = {"model": "transformer", "width": 8, "heads": 2, "depth": 2, "context": 8, "batch_size": 16, "epochs": 2}


@pytest.fixture(autouse=True)
def _surroundings(optax_promotion, monkeypatch):
    monkeypatch.setattr("jaxnet.experiment.commands.text_runs.draw", lambda *arguments: None)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with a checkpoint after each epoch, and what it printed."""
    where = tmp_path_factory.mktemp("text")
    (where / "a.txt").write_text(TEXT)
    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxnet.experiment.commands.text_runs.draw", lambda *arguments: None)
        options = TrainConfig(
            data=str(where / "a.txt"),
            out=str(where / "run"),
            checkpoint_every="1epoch",
            tied=True,
            dropout=0.1,
            **SMALL,
        )
        run(options)
    return where / "run", options


def files(where):
    """What two runs that are one have alike, but for the times."""
    lines = [json.loads(line) for line in (where / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((where / "result.json").read_text())
    for told in (*lines, result):
        del told["seconds"]
    with np.load(where / "model.npz") as archive:
        arrays = {name: archive[name].tobytes() for name in archive.files}
    return lines, result, arrays, (where / "samples.txt").read_text()


def test_a_run_tells_nats_and_bits_for_each_character_and_samples_after_each_epoch(made):
    lines, result, _, samples = files(made[0])
    assert lines[1]["validation_loss"] < lines[0]["validation_loss"] < math.log(15) + 0.5
    assert result["unit"] == "character"
    assert result["test_bits"] == result["test_loss"] / math.log(2)
    assert result["validation_bits"] == lines[1]["validation_loss"] / math.log(2)
    assert re.findall(r"^==== epoch (\d) =+$", samples, re.MULTILINE) == ["1", "2"]


def test_a_run_that_was_cut_short_goes_on_as_if_it_never_had(made, tmp_path):
    whole, options = made
    again = tmp_path / "again"
    shutil.copytree(whole, again)
    (again / "result.json").unlink()
    shutil.rmtree(checkpoint.found(again)[0])
    config = json.loads((again / "config.json").read_text())
    (again / "config.json").write_text(json.dumps(config | {"out": str(again)}))
    run(dataclasses.replace(options, out=str(again), resume=str(again)))
    assert files(again) == files(whole)


def test_tokens_on_disk_over_a_mesh_are_learnt_as_those_in_memory_on_one_device(made, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxnet.experiment.storage.samples.Samples.add", lambda *arguments: None)
    whole, options = made
    changes = {"stream": True, "mesh": "data=4", "epochs": 1, "checkpoint_every": "0", "out": str(tmp_path / "a")}
    run(dataclasses.replace(options, **changes))
    one, many = (json.loads((where / "metrics.jsonl").read_text().splitlines()[0]) for where in (whole, tmp_path / "a"))
    # Sums in float32 in another order.
    assert many | {"seconds": 0} == pytest.approx(one | {"seconds": 0}, rel=1e-5)


def test_a_trained_network_predicts_on_ids_and_writes_what_the_program_prints(made, capsys):
    trained = jn.load(made[0])
    ids = trained.encode("the cat ")[None]
    probabilities = trained.predict_proba(ids)
    assert probabilities.shape == (1, 8, len(set(TEXT)))
    np.testing.assert_array_equal(trained.predict(ids)[0], np.array(trained.classes)[probabilities[0].argmax(-1)])
    # The prompt is longer than the context, and what is written fills it more than once.
    options = {"length": 20, "temperature": 0.7, "top_k": 5, "seed": 3}
    generate(GenerateConfig(str(made[0]), "the dog sat on", **options))
    assert capsys.readouterr().out == f"the dog sat on{trained.generate('the dog sat on', **options)}\n"
    # Without a cache: what is most probable behind all that it has seen.
    seen = "the cat"
    for _ in range(2):
        seen += trained.predict(trained.encode(seen[-8:])[None])[0, -1]
    assert trained.generate("the cat", 2, temperature=0.0) == seen[7:]


def test_exports_take_ids(made, tmp_path):
    path = export(ExportConfig(str(made[0]), out=str(tmp_path / "a.stablehlo")))
    exported, trained = jax.export.deserialize(bytearray(path.read_bytes())), jn.load(made[0])
    ids = trained.encode(TEXT[:16]).reshape(2, 8)
    np.testing.assert_allclose(exported.call(ids), trained.predict_proba(ids), rtol=1e-5, atol=1e-7)
    arrays = export(ExportConfig(str(made[0]), to="npz", out=str(tmp_path / "a.npz")))
    np.testing.assert_array_equal(jn.load(arrays).predict(ids), trained.predict(ids))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            lambda run: generate(GenerateConfig(run, "a cät")),
            "--prompt: expected only characters that are one of the 15 characters that the network has learnt, "
            "got 'ä' at place 4",
        ),
        (
            lambda run: generate(GenerateConfig(run, length=-1)),
            "--length: expected an integer from 0 to 1,000,000,000, got -1",
        ),
        (lambda run: generate(GenerateConfig(run, top_k=0)), "--top-k: expected an integer of at least 1, got 0"),
        (
            lambda run: generate(GenerateConfig(run, temperature=math.nan)),
            "--temperature: expected a number of at least 0, got nan",
        ),
        (
            lambda run: predict(PredictConfig(run, "iris")),
            "RUN: learnt text, and predicts what follows; `jaxnet generate` writes with it",
        ),
    ],
    ids=["prompt", "length", "top-k", "temperature", "predict"],
)
def test_what_cannot_be_is_said_in_one_line(made, asked, message):
    with pytest.raises(BadInput) as refused:
        asked(str(made[0]))
    assert str(refused.value) == message.replace("RUN", str(made[0]))


@pytest.mark.parametrize(
    "changes",
    [{"model": "gru", "label_smoothing": 0.1}, {"model": "lstm", "tied": True, "tokens": "bytes", "stream": True}],
)
def test_recurrences_learn_and_write(changes, tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    options = {**SMALL, "epochs": 1, "depth": 1, "data": str(tmp_path / "a.txt"), "out": str(tmp_path / "run")}
    del options["heads"]
    result = run(TrainConfig(**{**options, "checkpoint_every": "0", **changes}))
    assert result["unit"] == ("byte" if "tokens" in changes else "character")
    # It goes on beyond the context of training.
    assert len(jn.load(tmp_path / "run").generate("the", 12, seed=1).encode()) >= 12
