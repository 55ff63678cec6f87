"""Models of runs that have not come to their end, and exports of models that have changed since."""

import os
import signal

import numpy as np
import pytest
from short_runs import train

from jaxnet.experiment.commands.export import ExportConfig, export
from jaxnet.experiment.commands.predict import PredictConfig, predict
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console.errors import BadInput, Terminated
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import checkpoint, exports, model_file, newest
from jaxnet.experiment.storage.metrics_file import Metrics

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_figures")


@pytest.fixture
def stop_after(monkeypatch):
    """Has a run stopped after an epoch."""

    def after(epoch):
        add = Metrics.add

        def added(self, done):
            add(self, done)
            if done.number == epoch:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(Metrics, "add", added)

    return after


def parameters(place):
    return [leaf.tobytes() for layer in model_file.load(place).params for leaf in layer]


@pytest.mark.parametrize("early_stopping", [0, 2])
def test_a_stopped_run_has_the_model_that_it_would_have_ended_with(early_stopping, tmp_path, stop_after, capsys):
    """With early stopping that of the best epoch, which is not the last one."""
    changes = {"data": "iris", "early_stopping": early_stopping, "learning_rate": 20.0 if early_stopping else 0.001}
    (tmp_path / "ended").mkdir()
    ended, result, metrics = train(tmp_path / "ended", epochs=2, **changes)
    assert early_stopping == 0 or result["kept_epoch"] == 1, metrics
    stop_after(2)
    with pytest.raises(Terminated):
        train(tmp_path, epochs=9, **changes)
    out = tmp_path / "run"
    assert not (out / model_file.FILE).exists()
    capsys.readouterr()
    place = newest.place(out)
    assert place == out / "checkpoints" / "step-000000008"
    told = f"model      {place}/model.npz: the run is not finished; `jaxnet train --resume {out}` goes on\n"
    assert capsys.readouterr().err == told
    assert parameters(place) == parameters(ended)
    # The scripts take it too, and say so.
    predict(PredictConfig(str(ended), "iris"))
    expected = capsys.readouterr()
    predict(PredictConfig(str(out), "iris"))
    printed = capsys.readouterr()
    assert printed.out == expected.out
    assert printed.err == told + expected.err
    with np.load(export(ExportConfig(str(out), to="npz"))) as arrays:
        assert arrays["W1"].tobytes() == parameters(ended)[0]
    assert capsys.readouterr().err == told


def test_a_damaged_checkpoint_is_passed_over_and_without_one_there_is_no_model(tmp_path, stop_after, capsys):
    stop_after(2)
    with pytest.raises(Terminated):
        train(tmp_path, data="iris")
    out = tmp_path / "run"
    second, first = checkpoint.found(out)
    (second / model_file.FILE).write_bytes(b"")
    capsys.readouterr()
    assert newest.place(out) == first
    passed_over, told = capsys.readouterr().err.splitlines()
    size = (first / model_file.FILE).stat().st_size
    assert passed_over.startswith(f"passed over {second}: model.npz has 0 bytes, expected ")
    assert abs(int(passed_over.split()[-1]) - size) < 100
    assert told.startswith(f"model      {first}/model.npz: ")
    (first / "manifest.json").unlink()
    with pytest.raises(BadInput) as error:
        predict(PredictConfig(str(out), "iris"))
    assert str(error.value) == f"{out}: holds no trained model (model.npz); expected the folder of a finished run"


def test_a_run_that_went_on_since_says_of_when_its_model_is(tmp_path, stop_after, capsys):
    out, _, _ = train(tmp_path, data="iris", epochs=1)
    stop_after(2)
    with pytest.raises(Terminated):
        run(TrainConfig(data="iris", out=str(out), epochs=5, hidden=(8,), resume=str(out)))
    capsys.readouterr()
    assert newest.place(out) == out
    assert capsys.readouterr().err == (
        f"model      {out}/model.npz: after epoch 1; the run went on to epoch 2 since, and is not finished\n"
    )


def test_exports_beside_a_model_that_has_changed_are_named(tmp_path, capsys):
    out, _, _ = train(tmp_path, data="iris", epochs=1)
    export(ExportConfig(str(out), to="npz"))
    export(ExportConfig(str(out), to="npz", out=str(out / "other.npz")))
    export(ExportConfig(str(out), to="npz", out=str(tmp_path / "elsewhere.npz")))
    export(ExportConfig(str(out), to="safetensors"))
    assert exports.stale(out) == []
    (out / "other.npz").unlink()
    again = TrainConfig(data="iris", out=str(out), epochs=2, hidden=(8,), resume=str(out))
    capsys.readouterr()
    run(again)
    stale = [
        f"stale      {out}/{name}: was exported from an earlier model.npz; export it again"
        for name in ("arrays.npz", "model.safetensors")
    ]
    assert capsys.readouterr().out.splitlines()[-2:] == stale
    export(ExportConfig(str(out), to="npz", overwrite=True))
    capsys.readouterr()
    predict(PredictConfig(str(out), "iris"))
    assert [line for line in capsys.readouterr().err.splitlines() if "stale" in line] == stale[1:]
    # What tells of no exports is as good as nothing.
    for content in ("{", "[1]", "3"):
        (out / exports.FILE).write_text(content)
        assert exports.stale(out) == []
