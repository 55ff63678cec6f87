"""A trained network in a program, by `jn.load`."""

import csv
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from short_runs import train

import jaxnet as jn
from jaxnet.experiment.commands.export import ExportConfig, export
from jaxnet.experiment.commands.predict import PredictConfig, predict
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data import named


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of classes and of numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxnet.experiment.commands.ending.draw", lambda *arguments: None)
        trained = {}
        for data in ("iris", "diabetes"):
            trained[data], *_ = train(tmp_path_factory.mktemp(data), data=data, epochs=1, optimizer="sgd")
        return trained


def by_the_command(run, data, tmp_path):
    """What `jaxnet predict` writes: the header and the rows."""
    predict(PredictConfig(str(run), data, part="all", out=str(tmp_path / "predictions.csv"), overwrite=True))
    header, *rows = csv.reader((tmp_path / "predictions.csv").read_text().splitlines())
    return header, rows


@pytest.mark.parametrize("kind", ["run", "checkpoint", "npz", "safetensors"])
@pytest.mark.parametrize("data", ["iris", "diabetes"])
def test_predictions_of_raw_features_are_the_commands_own(data, kind, runs, tmp_path):
    run, place = runs[data], runs[data]
    if kind == "checkpoint":
        (place,) = (run / "checkpoints").iterdir()
    elif kind != "run":
        place = export(ExportConfig(str(run), kind, out=str(tmp_path / f"exported.{kind}")))
    model = jn.load(str(place))
    table = named.load(data)
    raw = table.x.read(slice(None), np.float64)
    header, rows = by_the_command(run, data, tmp_path)
    assert model.features == table.features
    columns = {"other": raw[:, 0]} | {name: raw[:, k] for k, name in reversed(list(enumerate(model.features)))}
    np.testing.assert_array_equal(model.predict(columns), model.predict(raw))
    if data == "iris":
        assert header == [model.targets[0], *(f"P({name})" for name in model.classes)]
        assert model.predict(raw.tolist()).tolist() == [row[0] for row in rows]
        written = np.array([row[1:] for row in rows], float)
        np.testing.assert_allclose(model.predict_proba(raw), written, rtol=1e-8, atol=0)
        of_scaled = model.net.apply(model.params, jnp.asarray(model.scaled(raw), jnp.float32))
        np.testing.assert_array_equal(of_scaled.argmax(1), model.predict_proba(raw).argmax(1))
    else:
        assert (header, model.classes) == (list(model.targets), ())
        np.testing.assert_allclose(model.predict(raw), np.array(rows, float), rtol=1e-8, atol=0)
    result = json.loads((run / "result.json").read_text())
    assert model.metrics == (result if kind == "run" else {})


def test_raw_features_that_are_none_are_named(runs):
    model = jn.load(runs["iris"])
    first = model.features[0]
    for raw, told in (
        (np.zeros(4), "predict: expected raw features (m, 4), got shape (4,)"),
        ({first: [1.0]}, "predict: expected the columns of the training data, lacks "),
        ([["a", "b", "c", "d"]], "predict: expected raw features to be numbers, got others"),
        ([[1.0, 2.0, 3.0, 4.0], [np.nan] * 4], f"predict: expected finite numbers, got nan in row 1, {first!r}"),
    ):
        with pytest.raises(ValueError) as error:
            model.predict(raw)
        assert str(error.value).startswith(told)
    with pytest.raises(ValueError) as error:
        jn.load(runs["diabetes"]).predict_proba(np.zeros((1, 10)))
    assert str(error.value) == "predict_proba: the network predicts values, and no classes; call predict"


TABLE = "when,colour,paid,size,y\n" + "".join(
    f"2024-01-{day:02},{('red', 'green', '')[day % 3]},{('yes', 'no')[day % 2]},{('7', '$9')[day % 2]},"
    f"{'ab'[day % 2]}\n"
    for day in range(1, 29)
)


@pytest.mark.usefixtures("without_figures")
def test_columns_of_a_table_are_encoded_in_a_program_as_by_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text(TABLE)
    run, *_ = train(tmp_path, data="a.csv", target=("y",), epochs=1, optimizer="sgd")
    _, rows = by_the_command(run, "a.csv", tmp_path)
    written = np.array([row[1:] for row in rows], float)
    header, *lines = csv.reader(TABLE.splitlines())
    columns = {name: list(cells) for name, cells in zip(header, zip(*lines, strict=True), strict=True)}
    columns["paid"] = [cell == "yes" for cell in columns["paid"]]
    columns["size"] = [float(cell.strip("$")) for cell in columns["size"]]
    exported = export(ExportConfig(str(run), "npz", out=str(tmp_path / "exported.npz")))
    for place in (run, exported):
        model = jn.load(place)
        assert model.features == ("when", "colour", "paid", "size")
        np.testing.assert_allclose(model.predict_proba(columns), written, rtol=1e-8, atol=0)
    with pytest.raises(ValueError) as error:
        model.predict({**columns, "when": ["soon"] * 28})
    assert str(error.value) == "predict: expected dates, as 2024-01-31, got 'soon' in row 0, 'when'"
    with pytest.raises(ValueError) as error:
        model.predict([["2024-01-31", "red"]])
    assert str(error.value) == "predict: expected raw columns (m, 4), got shape (1, 2)"


def test_what_is_no_model_is_one_line(runs, tmp_path):
    compiled = export(ExportConfig(str(runs["iris"]), out=str(tmp_path / "model.stablehlo")))
    broken = tmp_path / "model.safetensors"
    broken.write_bytes(b"nothing")
    for path, told in (
        (tmp_path / "nowhere", "no such folder; expected the folder of a finished run"),
        (broken, "is damaged, or of another version of jaxnet; export it again"),
        (
            compiled,
            "expected a run's folder, or an exported .npz or .safetensors file; what `jaxnet export` compiles, "
            "jax.export.deserialize reads",
        ),
    ):
        with pytest.raises(BadInput) as error:
            jn.load(path)
        assert str(error.value) == f"{path}: {told}"
