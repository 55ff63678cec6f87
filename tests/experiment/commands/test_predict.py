"""Predictions of a saved run."""

import csv
import io
import json
import re

import numpy as np
import pytest
from on_disk import idx, three_classes

from jaxnet.experiment.commands.predict import PredictConfig, predict
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data import named
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import model_file

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_figures")


@pytest.fixture(scope="module")
def classes_run(tmp_path_factory):
    """A network trained on a .csv file with three classes, the file, and its rows."""
    import jax

    where = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(0)
    kinds = np.array(["low", "middle", "top"])[np.arange(90) % 3]
    height = np.select([kinds == "low", kinds == "middle"], [1.0, 2.0], 3.0) + rng.normal(0, 0.1, 90)
    rows = [[f"{a:.6f}", f"{b:.6f}", kind] for a, b, kind in zip(height, rng.normal(size=90), kinds, strict=True)]
    write(where / "a.csv", ["height", "weight", "kind"], rows)
    with jax.numpy_dtype_promotion("standard"):
        run(TrainConfig(data=str(where / "a.csv"), target=("kind",), epochs=60, hidden=(8,), learning_rate=0.02,
                        batch_size=16, out=str(where / "run")))  # fmt: skip
    return where / "run", where / "a.csv", rows


def write(path, header, rows):
    path.write_text("\n".join(",".join(line) for line in [header, *rows]))


def predictions(capsys, run_folder, source, **options):
    predict(PredictConfig(str(run_folder), str(source), **options))
    out, err = capsys.readouterr()
    return list(csv.reader(io.StringIO(out))), err


def test_classes_come_with_their_probabilities(classes_run, capsys):
    run_folder, source, rows = classes_run
    (header, *lines), err = predictions(capsys, run_folder, source)
    assert header == ["kind", "P(low)", "P(middle)", "P(top)"]
    assert len(lines) == 90
    probabilities = np.array([line[1:] for line in lines], float)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    right = np.mean([line[0] == row[2] for line, row in zip(lines, rows, strict=True)])
    assert right > 0.9
    assert f"accuracy {100 * right:.2f}%" in err
    assert "device" in err


def test_without_the_target_and_in_another_order_the_predictions_are_the_same(classes_run, capsys, tmp_path):
    run_folder, source, rows = classes_run
    expected, _ = predictions(capsys, run_folder, source)
    write(tmp_path / "b.csv", ["weight", "height"], [[b, a] for a, b, _ in rows])
    actual, err = predictions(capsys, run_folder, tmp_path / "b.csv")
    assert actual == expected
    assert "accuracy" not in err


def test_a_class_that_was_not_learnt_is_not_scored(classes_run, capsys, tmp_path):
    run_folder, _, rows = classes_run
    write(tmp_path / "b.csv", ["height", "weight", "kind"], [[a, b, "new"] for a, b, _ in rows])
    lines, err = predictions(capsys, run_folder, tmp_path / "b.csv")
    assert len(lines) == 91
    told = err.splitlines()[-1]
    assert told == "predicted  90 examples; not scored, since the run has learnt no class 'new'"


def test_predictions_go_into_a_file_that_is_not_replaced_unasked(classes_run, capsys, tmp_path):
    run_folder, source, _ = classes_run
    expected, _ = predictions(capsys, run_folder, source)
    out = tmp_path / "p.csv"
    printed, _ = predictions(capsys, run_folder, source, out=str(out))
    assert printed == []
    assert list(csv.reader(io.StringIO(out.read_text()))) == expected
    with pytest.raises(BadInput, match=r"p.csv: exists already; choose another name, or replace it with --overwrite$"):
        predictions(capsys, run_folder, source, out=str(out))
    predictions(capsys, run_folder, source, out=str(out), overwrite=True)
    with pytest.raises(BadInput, match=r"no/p.csv: there is no folder .*/no; make it, or choose another$"):
        predictions(capsys, run_folder, source, out=str(tmp_path / "no" / "p.csv"))
    with pytest.raises(BadInput, match=r"--out .*: is a folder; expected the name of a file$"):
        predictions(capsys, run_folder, source, out=str(tmp_path))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["height"], "but it lacks 'weight'"),
        (["height", "weight", "age"], "but it has also 'age'"),
        (["hight", "weight"], "but it lacks 'height' and has also 'hight'"),
    ],
)
def test_other_columns_are_refused(classes_run, header, message, capsys, tmp_path):
    write(tmp_path / "b.csv", header, [["1"] * len(header)])
    with pytest.raises(BadInput) as error:
        predictions(capsys, classes_run[0], tmp_path / "b.csv")
    expected = f"--data {tmp_path / 'b.csv'}: expected the 2 columns of the training data, {message}"
    assert str(error.value) == expected


def test_a_run_that_is_not_there_or_damaged_is_named(classes_run, capsys, tmp_path, without_shape_annotations):
    source = classes_run[1]
    with pytest.raises(BadInput, match="none: no such folder; expected the folder of a finished run$"):
        predictions(capsys, tmp_path / "none", source)
    with pytest.raises(BadInput, match="csv: is a file; expected the folder of a finished run$"):
        predictions(capsys, source, source)
    with pytest.raises(BadInput, match=r"holds no trained model \(model.npz\); expected the folder of a finished run$"):
        predictions(capsys, tmp_path, source)
    whole = (classes_run[0] / "model.npz").read_bytes()
    with np.load(classes_run[0] / "model.npz") as archive:
        arrays = dict(archive)
    flipped = bytearray(whole)
    flipped[whole.index(arrays["params[0].W"].tobytes())] ^= 1
    damaged = [whole[:100], whole[: len(whole) // 2], b"", b"text", bytes(flipped)]
    for arrays_damaged in (
        {name: array for name, array in arrays.items() if name != "params[0].W"},
        arrays | {"params[0].W": arrays["params[0].W"].T},
        arrays | {"params[0].W": arrays["params[0].W"] * np.nan},
        arrays | {"params[0].W": arrays["params[0].W"].astype(np.float64)},
        arrays | {"features_shift": arrays["features_shift"][:1]},
        # As before there were bounds.
        {name: array for name, array in arrays.items() if name != "features_bounds"},
        arrays | {"features_bounds": arrays["features_bounds"][::-1]},
        arrays | {"features_bounds": arrays["features_bounds"] * np.nan},
        arrays | {"features_bounds": arrays["features_bounds"][:1]},
        arrays | {"features_factor": arrays["features_factor"] * np.inf},
        arrays | {"description": np.array("{}")},
        arrays | {"description": np.array("}")},
        arrays | {"description": np.array(str(arrays["description"]).replace('"softmax', '"hard'))},
        arrays | {"description": np.array(re.sub('"kind": "[^"]*"', '"kind": 3', str(arrays["description"])))},
        arrays | {"description": np.array(str(arrays["description"]).replace('"identity"', "3"))},
        arrays | {"description": np.array(str(arrays["description"]).replace('"seed": 0', '"seed": "0"'))},
        arrays | {"description": np.array(str(arrays["description"]).replace('"model": "mlp", ', ""))},
        arrays
        | {"description": np.array(str(arrays["description"]).replace('"activation": "relu"', '"activation": "rleu"'))},
        arrays | {"description": np.array(str(arrays["description"]).replace('"init": "auto"', '"width": 3'))},
        arrays | {"description": np.array(str(arrays["description"]).replace('"hidden": [8]', '"hidden": [-8]'))},
        arrays | {"description": np.array(str(arrays["description"]).replace('"shape": [2]', '"shape": [3]'))},
    ):
        np.savez(tmp_path / "damaged.npz", **arrays_damaged)
        damaged.append((tmp_path / "damaged.npz").read_bytes())
    told = r"model.npz: is damaged, or of another version of jaxnet; train again, or restore it from a copy$"
    for content in damaged:
        (tmp_path / "model.npz").write_bytes(content)
        with pytest.raises(BadInput, match=told):
            predictions(capsys, tmp_path, source)


def test_targets_that_cannot_be_read_do_not_stop_predictions(classes_run, capsys, tmp_path):
    run_folder, _, rows = classes_run
    write(tmp_path / "b.csv", ["height", "weight", "kind"], [[a, b, ""] for a, b, _ in rows[:1]])
    lines, err = predictions(capsys, run_folder, tmp_path / "b.csv")
    assert len(lines) == 2
    assert err.splitlines()[-1] == "predicted  1 example"


def test_numbers_beyond_those_of_the_training_part_count_as_at_the_bounds(classes_run, capsys, tmp_path):
    scaling = model_file.load(classes_run[0]).scaling
    most = scaling.bounds[1] / scaling.factor + scaling.shift
    write(tmp_path / "b.csv", ["height", "weight"], [["1e39", "-1e39"], [f"{most[0] + 1}", f"{-most[1] - 99}"]])
    (_, far, beyond), _ = predictions(capsys, classes_run[0], tmp_path / "b.csv")
    assert far == beyond


def test_numbers_beyond_the_networks_arithmetic_are_named_where_nothing_scales_them(tmp_path, capsys):
    run(TrainConfig(data="moons", epochs=1, hidden=(2,), scale="none", out=str(tmp_path / "run")))
    write(tmp_path / "b.csv", ["x1", "x2"], [["1", "1"], ["1", "1e39"]])
    with pytest.raises(BadInput) as error:
        predictions(capsys, tmp_path / "run", tmp_path / "b.csv")
    assert str(error.value) == (
        f"--data {tmp_path}/b.csv, row 2, column 'x2': expected a number up to 1e+15, since --scale none leaves it as "
        "it is; got 1e+39"
    )


def told_of(capsys, run_folder, source, part=None):
    lines, err = predictions(capsys, run_folder, source, part=part)
    return len(lines) - 1, err.splitlines()[-1]


def test_the_runs_own_data_is_known_again_and_its_parts_are_those_of_the_run(classes_run, capsys, tmp_path):
    run_folder, _, rows = classes_run
    result = json.loads((run_folder / "result.json").read_text())
    for name, order in (("same.csv", [0, 1, 2]), ("other order.csv", [2, 1, 0])):
        # Wherever it lies and however its columns are ordered.
        header = np.array(["height", "weight", "kind"])[order]
        write(tmp_path / name, header, [[row[column] for column in order] for row in rows])
        count, told = told_of(capsys, run_folder, tmp_path / name)
        assert count == 90
        assert told.endswith("; the network was trained on 63 of them, --part test leaves these out")
        assert told_of(capsys, run_folder, tmp_path / name, "all") == (count, told)
        accuracy = f"accuracy {100 * result['test_accuracy']:.2f}%"
        expected = 18, f"predicted  18 examples of the test part: {accuracy}"
        assert told_of(capsys, run_folder, tmp_path / name, "test") == expected
        for part, many in (("validation", 9), ("train", 63)):
            count, told = told_of(capsys, run_folder, tmp_path / name, part)
            assert count == many
            assert told.startswith(f"predicted  {many} examples of the {part} part: accuracy ")


@pytest.mark.parametrize("trained_on", ["digits", "digits.csv"])
def test_images_are_the_table_of_their_pixels(trained_on, tmp_path, capsys):
    """In any order of the columns, and as the run's own data."""
    images, order = named.load("digits"), np.random.default_rng(0).permutation(64)
    pixels = images.x.values.reshape(-1, 64)[:, order].astype(int).astype(str)
    rows = [[*row, name] for row, name in zip(pixels, images.y, strict=True)]
    write(tmp_path / "digits.csv", [*np.array(images.features)[order], "class"], rows)
    sources = {"digits": "digits", "digits.csv": str(tmp_path / "digits.csv")}
    target = ("class",) if trained_on == "digits.csv" else ()
    run(TrainConfig(data=sources[trained_on], target=target, epochs=1, hidden=(8,), out=str(tmp_path / "run")))
    capsys.readouterr()
    (own, told), (other, told_of_other) = (predictions(capsys, tmp_path / "run", path) for path in sources.values())
    assert own == other
    assert len(own) == 1798
    assert told == told_of_other
    assert told.endswith("the network was trained on 1258 of them, --part test leaves these out\n")


def test_the_parts_share_no_example(classes_run, capsys):
    run_folder, source, _ = classes_run
    every, *of_parts = (
        [tuple(line) for line in predictions(capsys, run_folder, source, part=part)[0][1:]]
        for part in (None, "train", "validation", "test")
    )
    assert sorted(line for lines in of_parts for line in lines) == sorted(every)


def test_other_data_has_no_parts_of_the_run(classes_run, capsys, tmp_path):
    run_folder, _, rows = classes_run
    changed = [[rows[0][0] + "1", *rows[0][1:]], *rows[1:]]
    without = [row[:2] for row in rows]
    relabelled = [[*rows[0][:2], "top"], *rows[1:]]
    header = ["height", "weight", "kind"]
    for content in ([header, *changed], [header, *rows[:-1]], [header[:2], *without], [header, *relabelled]):
        write(tmp_path / "b.csv", content[0], content[1:])
        _, told = told_of(capsys, run_folder, tmp_path / "b.csv")
        assert "trained" not in told
        with pytest.raises(BadInput) as error:
            predictions(capsys, run_folder, tmp_path / "b.csv", part="test")
        assert str(error.value) == (
            f"--part test: {tmp_path}/b.csv is not what {run_folder} was trained on; leave it out"
        )


@pytest.mark.parametrize(
    "options",
    [
        {"data": "diabetes", "seed": 3, "scale": "range"},
        {"data": "folder", "stream": True, "seed": 5},
        {"data": "below_zero.csv", "target": ("sum", "difference")},
        {"data": "below_zero.npz"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_the_test_part_is_scored_as_the_run_scored_it(options, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Fewer than there are: the data of a run that streams are known by some of their rows.
    monkeypatch.setattr("jaxnet.experiment.data.fingerprint.STREAMED_ROWS", 20)
    three_classes(tmp_path / "folder", "float32")
    a, b = np.random.default_rng(0).normal(size=(2, 40)).round(6)
    write(tmp_path / "below_zero.csv", ["a", "b", "sum", "difference"], np.stack([a, b, a + b, a - b], 1).astype(str))
    np.savez(tmp_path / "below_zero.npz", x=np.stack([a, b], 1), y=a - b)
    result = run(TrainConfig(epochs=3, hidden=(8,), out="run", **options))
    capsys.readouterr()
    count, told = told_of(capsys, "run", options["data"], "test")
    name, score = ("test_rmse", "RMSE {:.4g}") if "test_rmse" in result else ("test_accuracy", "accuracy {:.2f}%")
    value = result[name] * (1 if name == "test_rmse" else 100)
    assert told.startswith(f"predicted  {count} examples of the test part: {score.format(value)}")


def test_a_test_part_that_was_set_apart_is_the_one_predicted_for(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (60, 2, 2)).astype(np.uint8)
    for part, many in (("train", 48), ("t10k", 12)):
        (tmp_path / f"{part}-images").write_bytes(idx(images[-many:]))
        (tmp_path / f"{part}-labels").write_bytes(idx((np.arange(60) % 3).astype(np.uint8)[-many:]))
    result = run(TrainConfig(data=str(tmp_path), epochs=1, hidden=(4,), out=str(tmp_path / "run")))
    capsys.readouterr()
    score = f": accuracy {100 * result['test_accuracy']:.2f}%"
    assert told_of(capsys, tmp_path / "run", tmp_path) == (12, f"predicted  12 examples{score}")
    assert told_of(capsys, tmp_path / "run", tmp_path, "test") == (
        12,
        f"predicted  12 examples of the test part{score}",
    )
    assert told_of(capsys, tmp_path / "run", tmp_path, "train")[0] == 43
    assert told_of(capsys, tmp_path / "run", tmp_path, "all")[1].endswith(
        "trained on 43 of them, --part test leaves these out"
    )


@pytest.mark.parametrize(
    ("source", "classes"),
    [("a.csv", ["01234", "1234", "99999"]), ("a.npz", ["761762492475842560", "791557233689870338"])],
)
def test_predictions_are_the_very_names_of_the_file(source, classes, tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(60, 2))
    labels = [classes[row % len(classes)] for row in range(60)]
    if source == "a.csv":
        rows = [[*map(str, row), name] for row, name in zip(x, labels, strict=True)]
        write(tmp_path / source, ["a", "b", "y"], rows)
    else:
        np.savez(tmp_path / source, x=x, y=np.array(labels).astype(np.int64))
    target = ("y",) if source == "a.csv" else ()
    run(TrainConfig(data=str(tmp_path / source), target=target, epochs=1, hidden=(8,), out=str(tmp_path / "run")))
    capsys.readouterr()
    (header, *lines), err = predictions(capsys, tmp_path / "run", tmp_path / source)
    assert header == ["y", *(f"P({name})" for name in classes)]
    assert {line[0] for line in lines} <= set(classes)
    right = np.mean([line[0] == name for line, name in zip(lines, labels, strict=True)])
    assert f": accuracy {100 * right:.2f}%;" in err


def test_a_single_number_is_scored_without_r2(tmp_path, capsys):
    run(TrainConfig(data="diabetes", epochs=2, hidden=(8,), out=str(tmp_path / "run")))
    table = named.load("diabetes")
    write(tmp_path / "b.csv", [*table.features, *table.targets], [[str(v) for v in [*table.x.values[0], *table.y[0]]]])
    capsys.readouterr()
    _, err = predictions(capsys, tmp_path / "run", tmp_path / "b.csv")
    assert "RMSE" in err
    assert "R2" not in err


def test_numbers_come_in_the_targets_own_units(tmp_path, capsys):
    result = run(TrainConfig(data="linnerud", epochs=5, hidden=(8,), out=str(tmp_path / "run"), dtype="float64"))
    capsys.readouterr()
    (header, *lines), err = predictions(capsys, tmp_path / "run", "linnerud")
    assert header == ["Weight", "Waist", "Pulse"]
    assert np.abs(np.array(lines, float).mean(0) - named.load("linnerud").y.mean(0)).max() < 30
    assert "RMSE" in err
    assert set(result["targets"]) == set(header)


def test_a_saved_model_predicts_what_the_trained_one_did(tmp_path):
    result = run(TrainConfig(data="moons", epochs=5, hidden=(8,), out=str(tmp_path / "run")))
    from jaxnet.experiment.data.posing import pose
    from jaxnet.experiment.data.split import split

    problem, table = pose(named.load("moons"))
    parts, _ = split(table, problem, seed=0)
    trained = model_file.load(tmp_path / "run")
    predicted = trained.predict(parts.test.x.values).argmax(1)
    assert (predicted == parts.test.y).mean() == result["test_accuracy"]
