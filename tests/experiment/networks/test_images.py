"""`--model cnn` and `--model resnet`: networks for images."""

import jax
import numpy as np
import pytest
from short_runs import train

import jaxnet as jn
from jaxnet.experiment.commands import train as train_command
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.options.train_config import TrainConfig

SMALL = {"channels": (4, 8), "groups": 2, "hidden": (8,)}


@pytest.mark.usefixtures("optax_promotion", "without_figures")
@pytest.mark.parametrize(
    "options",
    [
        {"model": "cnn", **SMALL, "shift": 1, "dropout": 0.2},
        {"model": "resnet", "channels": (4,), "groups": 2, "blocks": 1, "crop": 1},
    ],
    ids=["cnn", "resnet"],
)
def test_digits_are_learnt_and_predicted(options, tmp_path):
    hidden = {} if options["model"] == "cnn" else {"hidden": TrainConfig.hidden}
    out, _, metrics = train(tmp_path, data="digits", epochs=2, batch_size=100, **{**options, **hidden})
    assert metrics[1]["train_loss"] < metrics[0]["train_loss"]
    model = jn.load(out)
    assert model.model.network.shape == (8, 8, 1)
    raw = np.random.default_rng(0).uniform(0, 16, (5, 64))
    # After training nothing moves, and nothing is left out.
    np.testing.assert_array_equal(model.predict_proba(raw), model.predict_proba(raw.reshape(5, 8, 8, 1)))


@pytest.mark.parametrize(
    ("line", "epochs", "schedule", "shift"),
    [
        ("--model cnn", 20, "cosine", 1),
        ("--model=cnn --final-learning-rate 1e-5 --shift 0", 20, "cosine", 0),
        ("--epochs 3 --schedule constant --model cnn", 3, "constant", 1),
        ("--model cnn --optimizer kfac", 20, "constant", 1),
        ("--model resnet", 100, "constant", 0),
        ("", 100, "constant", 0),
    ],
)
def test_what_suits_a_network_holds_where_nothing_else_is_given(line, epochs, schedule, shift, monkeypatch):
    monkeypatch.setattr(train_command, "run", lambda config: {"config": config})
    config = train_command.main([*line.split(), "--no-compilation-cache"])["config"]
    assert (config.epochs, config.schedule, config.shift) == (epochs, schedule, shift)


@pytest.mark.parametrize(
    ("options", "shape", "described"),
    [
        (SMALL, (8, 8), "8x8x1, convolutions 4-8, dense 8-3, relu"),
        ({}, (28, 28, 3), "28x28x3, convolutions 32-64, dense 256-3, relu"),
        (
            {**SMALL, "shift": 2, "crop": 3, "flip": True},
            (4, 4, 1),
            "4x4x1, convolutions 4-8, dense 8-3, relu, moved by up to 2, cropped after padding by 3, mirrored",
        ),
    ],
)
def test_an_image_without_channels_has_one(options, shape, described):
    network = TrainConfig(model="cnn", **options).network(shape, 3, "identity")
    assert str(network) == f"{described}, output identity"
    z = jax.eval_shape(
        network.net.apply, jax.eval_shape(network.net.init, jax.random.key(0)), network.inputs(2, np.float32)
    )
    assert z.shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        (
            {"model": "cnn"},
            (30,),
            "--model: cnn and resnet expect images (height, width) or (height, width, channels), as digits, IDX files "
            "and x with these axes are; got examples of shape (30); use --model mlp",
        ),
        (
            {"model": "cnn"},
            (2, 2),
            "--model cnn: expected at least 4 positions along each axis for 2 blocks, each of which halves them, "
            "got (2, 2)",
        ),
        (
            {"model": "cnn", "channels": (6,), "groups": 8},
            (8, 8),
            "--model cnn: expected groups to divide each of the channels (6,), got 8",
        ),
        ({"model": "resnet", "shift": -1}, (8, 8), "--shift: expected an integer of at least 0, got -1"),
        ({"model": "resnet", "crop": -1}, (8, 8), "--crop: expected an integer of at least 0, got -1"),
        (
            {"model": "resnet", "crop": 4},
            (8, 4, 3),
            "--crop: expected fewer pixels than the images have along each axis, 8 x 4; got 4",
        ),
        (
            {"model": "resnet", "window": 5},
            (8, 8),
            "--window: is an option of --model cnn, not of resnet; leave it out",
        ),
        (
            {"model": "mlp", "flip": True},
            (8, 8),
            "--flip: is an option of --model cnn or resnet, not of mlp; leave it out",
        ),
    ],
)
def test_what_cannot_be_is_one_line(options, shape, message):
    with pytest.raises(BadInput) as error:
        _ = TrainConfig(**options).network(shape, 3, "identity").net
    assert str(error.value) == message
