"""What runs write, what they keep, and what is left of those that were stopped."""

import dataclasses
import json
import os
import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import jax
import numpy as np
import pytest
from short_runs import train

import jaxnet
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console.errors import BadInput, Failure
from jaxnet.experiment.data import named
from jaxnet.experiment.options.resumed import restored
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import folder
from jaxnet.experiment.storage.metrics_file import Metrics

pytestmark = pytest.mark.usefixtures("optax_promotion")


OF_CLASSES = {f"test_{name}" for name in ("accuracy", "log_loss", "precision", "recall", "f1", "auc")}


def png(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("name", named.NAMES)
def test_every_data_set_gives_a_whole_folder(name, tmp_path):
    out, result, metrics = train(tmp_path, data=name)
    config = json.loads((out / "config.json").read_text())
    resolved, versions = config.pop("resolved"), config.pop("versions")
    assert config == json.loads(
        json.dumps(dataclasses.asdict(TrainConfig(data=name, out=str(out), epochs=3, hidden=(8,))))
    )
    losses = dict.fromkeys(("digits", "iris", "wine"), "softmax_cross_entropy_with_integer_labels")
    losses |= dict.fromkeys(("diabetes", "linnerud"), "half_squared_error")
    assert resolved == {
        "loss": losses.get(name, "sigmoid_binary_cross_entropy"),
        "output_activation": "identity",
        "init": ["he", "glorot"],
        "learning_rate": 0.001,
        "weight_decay": 0.3,
        "batch_size": 14 if name == "linnerud" else 32,
    }
    assert (versions["jaxnet"], versions["jax"]) == (jaxnet.__version__, jax.__version__)
    assert json.loads((out / "result.json").read_text()) == result
    regression = name in ("diabetes", "linnerud")
    measures = {"test_rmse", "test_r2"} if regression else {*OF_CLASSES, "classes"}
    common = {"test_loss", "epochs", "kept_epoch", "seconds", "device"}
    assert set(result) == common | measures | ({"targets"} if name == "linnerud" else set())
    assert result["epochs"] == 3
    assert result["device"] == "cpu" or jax.default_backend() != "cpu"
    metric = "validation_rmse" if regression else "validation_accuracy"
    of_epoch = {"epoch", "train_loss", "validation_loss", metric, "learning_rate", "seconds"}
    assert [set(line) for line in metrics] == [of_epoch] * 3
    assert [line["epoch"] for line in metrics] == [1, 2, 3]
    expected = {"loss.png", *({"predictions.png"} if regression else {"confusion.png", "roc.png", "calibration.png"})}
    expected |= {"boundary.png"} if name in ("moons", "circles", "spirals") else set()
    assert {path.name for path in (out / "figures").iterdir()} == expected
    assert all(png(path) for path in (out / "figures").iterdir())
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "result.json",
        "model.npz",
        "figures",
        "checkpoints",
    }


def test_a_run_that_goes_on_keeps_what_its_options_came_to_and_tells_the_versions_of_now(tmp_path):
    config = TrainConfig(data="iris", out=str(tmp_path / "run"))
    path = tmp_path / "run" / "config.json"
    with ExitStack() as stack:
        out = folder.make(dataclasses.asdict(config), {"loss": "chosen"}, stack)
        before = json.loads(path.read_text())
        assert before["resolved"] == {"loss": "chosen"}
        folder.write_json(path, before | {"versions": {"jax": "0.1"}})
        more = dataclasses.replace(config, resume=str(out), epochs=1000, out=None)
        folder.go_on(out, dataclasses.asdict(more))
    assert json.loads(path.read_text()) == before | {"epochs": 1000}
    assert folder.read_options(out, restored) == dataclasses.replace(config, epochs=1000)


def test_what_the_options_came_to_is_what_was_trained_with(tmp_path, without_figures):
    options = {"activation": "leaky_relu", "hidden": (8, 8), "optimizer": "kfac", "batch_size": 10**6}
    out, _, _ = train(tmp_path, data="iris", epochs=1, **options)
    resolved = json.loads((out / "config.json").read_text())["resolved"]
    assert resolved["init"] == ["he", "he", "glorot"]
    assert resolved["learning_rate"] is None
    assert resolved["batch_size"] == 105


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sklearn", {}, "the package sklearn is not installed; pip install -e '.[train]' brings it"),
        ("matplotlib", {}, "the package matplotlib is not installed; pip install -e '.[train]' brings it"),
        ("filelock", {}, "the package filelock is not installed; pip install -e '.[train]' brings it"),
        ("rich", {}, "the package rich is not installed; pip install -e '.[train]' brings it"),
        ("orbax.checkpoint", {}, "the package orbax is not installed; pip install -e '.[train]' brings it"),
        (
            "tensorboardX",
            {"tensorboard": True},
            "--tensorboard: the package tensorboardX is not installed; pip install -e '.[tensorboard]' brings it",
        ),
    ],
)
def test_a_missing_package_is_named_before_a_folder_is_made(name, options, message, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises((Failure, ModuleNotFoundError)) as error:
        train(tmp_path, data="iris", **options)
    assert str(error.value) == message
    assert not list(tmp_path.iterdir())


def ctrl_c_after(monkeypatch, epochs, number=signal.SIGINT):
    """Sends this process a signal when so many epochs are done, as a person would."""
    add = Metrics.add

    def added(self, epoch):
        add(self, epoch)
        if epoch.number == epochs:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Metrics, "add", added)


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    with jax.numpy_dtype_promotion("standard"):
        return train(tmp_path_factory.mktemp("iris"), data="iris")[0]


@pytest.fixture
def of_iris(trained_once, tmp_path, without_figures):
    """The folder of a finished run, the test's own."""
    return Path(shutil.copytree(trained_once, tmp_path / "run"))


def test_ctrl_c_saves_and_says_what_the_folder_holds(tmp_path, monkeypatch):
    ctrl_c_after(monkeypatch, epochs=2)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(tmp_path, data="iris", batch_size=15)
    run = tmp_path / "run"
    assert str(stopped.value) == (
        f"{run} holds config.json, metrics.jsonl (2 epochs), checkpoints/step-000000014, but no model; "
        f"--resume {run} goes on"
    )
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2


def test_ctrl_c_without_checkpoints_says_so(tmp_path, monkeypatch):
    ctrl_c_after(monkeypatch, epochs=2)
    with pytest.raises(KeyboardInterrupt, match=r"run holds config.json, metrics.jsonl \(2 epochs\), but no model$"):
        train(tmp_path, data="iris", checkpoint_every="0")


def test_an_existing_run_is_kept_unless_told_otherwise(of_iris, tmp_path):
    before = (of_iris / "result.json").read_bytes()
    with pytest.raises(
        BadInput, match=r"run: holds a run already; choose another name, or replace it with --overwrite$"
    ):
        train(tmp_path, data="iris")
    with pytest.raises(BadInput, match="no such data set"):
        train(tmp_path, data="irs", overwrite=True)
    assert (of_iris / "result.json").read_bytes() == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_run_is_never_replaced(overwrite, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(
        BadInput, match=r"run: is not empty and holds no run; expected a run's folder, or a name that is free$"
    ):
        train(tmp_path, data="iris", overwrite=overwrite)
    assert (tmp_path / "run" / "thesis.tex").read_text() == "years of work"
    with pytest.raises(BadInput, match=r"thesis.tex: is a file; expected a folder, or a name that is free$"):
        run(TrainConfig(data="iris", out=str(tmp_path / "run" / "thesis.tex"), overwrite=overwrite))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"--out .*file/run: cannot be written \(Not a directory\)$"):
        run(TrainConfig(data="iris", out=str(tmp_path / "file" / "run")))


def test_without_a_name_the_first_free_number_is_taken_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "digits-2").mkdir(parents=True)
    with ExitStack() as stack:
        made = [str(folder.make(dataclasses.asdict(TrainConfig()), {}, stack)) for _ in range(3)]
        assert made == ["runs/digits-1", "runs/digits-3", "runs/digits-4"]
        assert (
            str(folder.make(dataclasses.asdict(TrainConfig(data="../some where/my data.csv")), {}, stack))
            == "runs/my-data-1"
        )
        assert len(folder.make(dataclasses.asdict(TrainConfig(data=200 * "n")), {}, stack).name) == 52


def test_a_replaced_run_stays_until_the_new_one_is_finished(of_iris, tmp_path):
    out = of_iris
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(Failure, match=r"run.new holds config.json, metrics.jsonl \(0 epochs\), but no model$"):
        train(tmp_path, data="diabetes", optimizer="sgd", learning_rate=1e18, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    train(tmp_path, data="wine", overwrite=True)
    assert json.loads((out / "config.json").read_text())["data"] == "wine"
    assert not (tmp_path / "run.new").exists()


def test_what_no_run_wrote_is_never_removed(of_iris, tmp_path):
    (of_iris / "thesis.txt").write_text("years of work")
    message = r"run: holds 'thesis.txt', which no run wrote; move it away, or choose another name$"
    with pytest.raises(BadInput, match=message):
        train(tmp_path, data="iris", overwrite=True)
    assert (of_iris / "thesis.txt").exists()


def test_an_empty_folder_may_be_filled_and_a_link_to_it_is_followed(tmp_path, without_figures):
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "real")
    train(tmp_path, data="iris")
    train(tmp_path, data="wine", overwrite=True)
    assert json.loads((tmp_path / "real" / "config.json").read_text())["data"] == "wine"


def test_ctrl_c_while_the_figures_are_drawn_says_that_the_model_is_there(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxnet.experiment.figures.curves.draw_curves", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(tmp_path, data="iris")
    run = tmp_path / "run"
    assert str(stopped.value) == (
        f"{run} holds config.json, metrics.jsonl (3 epochs), model.npz, checkpoints/step-000000012; --resume {run} "
        "goes on"
    )


def test_names_of_any_kind_are_drawn(tmp_path):
    """Dollars, underscores, letters that no font has, long and many names."""
    rng = np.random.default_rng(0)
    names = ["_yes", r"$\\bad{$", "\u5206\u7c7b", *(f"a very long class name number {k} indeed" for k in range(27))]
    rows = [f"{rng.normal()},{rng.normal()},{names[row % 30]}" for row in range(300)]
    (tmp_path / "a.csv").write_text("\n".join(["$x_{$,_b,\u7c7b", *rows]))
    out, _, _ = train(tmp_path, data=str(tmp_path / "a.csv"), target=("\u7c7b",), epochs=1)
    assert png(out / "figures" / "boundary.png")
    assert png(out / "figures" / "confusion.png")
