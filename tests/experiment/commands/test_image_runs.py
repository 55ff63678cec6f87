"""Runs on folders of images, from training to the predictions of other folders."""

import csv

import numpy as np
import pytest
from PIL import Image
from short_runs import train

import jaxnet as jn
from jaxnet.experiment.commands.predict import PredictConfig, predict
from jaxnet.experiment.console.errors import BadInput

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_figures")
SMALL = {"model": "cnn", "channels": (2,), "epochs": 2, "batch_size": 16, "learning_rate": 0.01}


def draw(path, name, number, size=(8, 6)):
    """A picture of a class, red to the left or green to the right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 60, (*size, 3)).astype(np.uint8)
    half = slice(None, size[1] // 2) if name == "red" else slice(size[1] // 2, None)
    pixels[:, half, 0 if name == "red" else 1] += 190
    Image.fromarray(pixels).save(path)


def test_a_folder_is_learnt_and_others_are_predicted_by_the_names_of_its_classes(tmp_path, capsys):
    for name in ("red", "green"):
        for number in range(15):
            size = (8, 6) if number else (9, 12)
            draw(tmp_path / "colours" / name / f"{number}.png", name, number, size)
        draw(tmp_path / "new" / f"{name}.png", name, 100, (20, 10))
    (tmp_path / "colours" / ".hidden").write_text("")
    out, _, _ = train(tmp_path, data=str(tmp_path / "colours"), image_size=(8, 6), **SMALL)
    told = " ".join(capsys.readouterr().out.split())
    assert "note images are resized to 8 x 6 pixels" in told
    assert "note 1 file is no image in a folder of a class, and left out: .hidden" in told
    assert "network 8x6x3, convolutions 2, dense 8-1, relu" in told
    predict(PredictConfig(run=str(out), data=str(tmp_path / "new")))
    header, *rows = csv.reader(capsys.readouterr().out.splitlines())
    assert header == ["file", "class", "P(green)", "P(red)"]
    assert [row[0] for row in rows] == ["green.png", "red.png"]
    assert {row[1] for row in rows} <= {"green", "red"}
    # The same from an array of what the files become.
    images = [Image.open(tmp_path / "new" / name).resize((6, 8), Image.Resampling.BILINEAR) for name, *_ in rows]
    probabilities = jn.load(out).predict_proba(np.stack([np.asarray(image) for image in images]))
    np.testing.assert_allclose(probabilities, [[float(p) for p in row[2:]] for row in rows], rtol=1e-6)
    predict(PredictConfig(run=str(out), data=str(tmp_path / "colours"), part="test", out=str(tmp_path / "p.csv")))
    assert "6 examples of the test part: accuracy" in capsys.readouterr().err
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 7


def test_parts_of_a_folder_are_the_runs(tmp_path, capsys):
    for name in ("red", "green"):
        for part, many in {"train": 8, "val": 2, "test": 3}.items():
            for number in range(many):
                draw(tmp_path / "parts" / part / name / f"{number}.png", name, number)
        draw(tmp_path / "others" / f"{name}.png", name, 1, (4, 4))
    source = str(tmp_path / "parts")
    out, _, _ = train(tmp_path, data=source, **SMALL)
    assert "16 training, 4 validation, 6 test examples" in " ".join(capsys.readouterr().out.split())
    for part, many in {"train": 16, "validation": 4, "test": 6}.items():
        predict(PredictConfig(run=str(out), data=source, part=part))
        assert f"{many} examples of the {part} part: accuracy" in capsys.readouterr().err
    with pytest.raises(BadInput) as error:
        predict(PredictConfig(run=str(out), data=str(tmp_path / "others")))
    where = tmp_path / "others" / "green.png"
    assert str(error.value) == f"--data {where}: is 4 x 4 pixels, and the run's images are 8 x 6 pixels"
    with pytest.raises(BadInput) as error:
        train(tmp_path, data=source, validation_fraction=0.2, overwrite=True, **SMALL)
    told = f"--validation-fraction: {source} comes with a validation part of its own; leave it out"
    assert str(error.value) == told
