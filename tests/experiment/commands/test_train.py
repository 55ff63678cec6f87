"""Whole runs: every option does what it says, and what cannot go on ends."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from on_disk import idx
from own_layers import gain
from short_runs import train

import jaxnet as jn
from jaxnet.experiment.commands.train import device
from jaxnet.experiment.console.errors import Failure
from jaxnet.experiment.options.optimizer_options import Optimizer
from jaxnet.experiment.options.train_config import Feedback, TrainConfig
from jaxnet.experiment.storage import model_file
from jaxnet.experiment.training import objective
from jaxnet.experiment.training.recipe import recipe_of
from jaxnet.experiment.training.updates import make_optimizer
from jaxnet.parameters import sides_of

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_figures")


@pytest.mark.parametrize(
    ("name", "start"),
    [("iris", {}), ("diabetes", {}), ("breast_cancer", {"init": "zeros", "hidden": ()})],
    ids=["iris", "diabetes", "from zero"],
)
def test_the_curves_of_hand_and_autodiff_coincide(name, start, tmp_path):
    curves = {}
    for backward in ("hand", "autodiff"):
        _, result, metrics = train(
            tmp_path / backward, data=name, backward=backward, dtype="float64", epochs=20, optimizer="momentum", **start
        )
        curves[backward] = [(line["train_loss"], line["validation_loss"]) for line in metrics] + [result["test_loss"]]
    # 20 epochs of 4 to 10 updates, each rounding at 1.1e-16.
    for hand, autodiff in zip(curves["hand"], curves["autodiff"], strict=True):
        np.testing.assert_allclose(hand, autodiff, rtol=1e-10)


def test_autodiff_really_is_autodiff(tmp_path, monkeypatch):
    monkeypatch.setattr(objective.gradient, "value_and_grad", None)
    train(tmp_path, data="iris", backward="autodiff")
    with pytest.raises(TypeError):
        train(tmp_path / "hand", data="iris", backward="hand")


def test_every_way_back_learns_and_they_differ(tmp_path):
    options = {"data": "iris", "epochs": 40, "hidden": (32,), "learning_rate": 0.01}
    losses = {}
    for feedback in get_args(Feedback):
        _, result, metrics = train(tmp_path / feedback, feedback=feedback, **options)
        assert metrics[-1]["train_loss"] < 0.5 * metrics[0]["train_loss"], feedback
        assert result["test_accuracy"] >= 0.8, feedback
        losses[feedback] = metrics[-1]["train_loss"]
    assert len(set(losses.values())) == len(losses)
    _, _, usual = train(tmp_path / "usual", **options)
    assert usual[-1]["train_loss"] == losses["transpose"]


def test_clipping_and_noise_change_the_training(tmp_path):
    losses = {}
    for clip, noise in ((None, 0.0), (1e6, 0.0), (0.1, 0.0), (0.1, 1.0)):
        options = {"data": "iris", "epochs": 20, "optimizer": "sgd", "clip_examples": clip, "noise_multiplier": noise}
        _, _, metrics = train(tmp_path / f"{clip}-{noise}", **options)
        losses[clip, noise] = metrics[-1]["train_loss"]
    # No gradient is as long as 10^6; what differs is the last batch, divided by the rows of a whole one.
    np.testing.assert_allclose(losses[1e6, 0.0], losses[None, 0.0], rtol=0.2)
    assert losses[0.1, 0.0] > 1.2 * losses[None, 0.0]
    assert losses[0.1, 1.0] != losses[0.1, 0.0]


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_every_optimizer_learns(optimizer, tmp_path):
    """With the weight decay that is its own; the next test has others."""
    _, _, metrics = train(tmp_path, data="iris", optimizer=optimizer, epochs=30)
    assert metrics[-1]["train_loss"] < 0.9 * metrics[0]["train_loss"]


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_weight_decay_shrinks_weights_and_spares_biases(optimizer):
    net, loss, key = jn.dense(3, 2), jn.losses.half_squared_error, jax.random.key(0)
    params = jn.Dense(W=jnp.ones((2, 3)), b=jnp.ones(2))
    gradient = jax.tree.map(jnp.zeros_like, params)
    # A batch at which K-FAC's factors are nearly multiples of the identity.
    x, y = jnp.concatenate([jnp.eye(3), -jnp.eye(3)]), jnp.zeros((6, 2))
    seen = {"x": x, "y": y, "value": jnp.zeros(()), "value_fn": lambda params, **_: jnp.zeros(())}
    for decay, shrinks in ((0.5, True), (0.0, False)):
        config = TrainConfig(optimizer=optimizer, weight_decay=decay)
        sides = sides_of(net, params, x)
        chosen = optax.with_extra_args_support(make_optimizer(recipe_of(config), net, loss, 6, key, sides))
        update, _ = chosen.update(gradient, chosen.init(params), params, **seen)
        assert (update.W < 0).all() == shrinks
        assert (update.b == 0).all()


def test_weight_decay_spares_what_has_a_weights_shape_and_is_none():
    net, loss, key = jn.repeat(gain(3), 2), jn.losses.half_squared_error, jax.random.key(0)
    params, x = net.init(key), jnp.ones((1, 3))
    chosen = make_optimizer(recipe_of(TrainConfig(weight_decay=0.5)), net, loss, 6, key, sides_of(net, params, x))
    update, _ = chosen.update(jnp.zeros_like(params), chosen.init(params), params)
    assert (update == 0).all()


@pytest.mark.parametrize("init", ["zeros", "small-normal", "he", "glorot", "lecun"])
def test_every_start_is_used(init):
    config = TrainConfig(data="iris", init=init, hidden=(300,), activation="tanh")
    W = config.network((4,), 3, "identity").net.init(jax.random.key(0))[0].W
    expected = {"zeros": 0, "small-normal": 0.01, "he": np.sqrt(2 / 4), "glorot": np.sqrt(2 / 304), "lecun": 0.5}[init]
    # 1,200 weights: a standard error of 2%.
    np.testing.assert_allclose(np.std(W), expected, rtol=0.1)


@pytest.mark.parametrize("activation", ["leaky_relu", "gelu_tanh", "log_sigmoid"])
def test_other_activations_learn(activation, tmp_path):
    """Of an activation a run knows the layer that its name stands for: tests/experiment/networks asks for each."""
    out, _, metrics = train(tmp_path, data="iris", activation=activation, epochs=15)
    assert metrics[-1]["train_loss"] < 0.95 * metrics[0]["train_loss"]
    assert model_file.load(out).network.options.activation == activation


@pytest.mark.parametrize(
    "loss",
    [
        "sigmoid_binary_cross_entropy",
        "softmax_cross_entropy",
        "softmax_cross_entropy_with_integer_labels",
        "binary_cross_entropy",
    ],
)
@pytest.mark.parametrize("name", ["moons", "iris"])
def test_every_loss_for_classes_learns(loss, name, tmp_path):
    _, result, _ = train(tmp_path, data=name, loss=loss, epochs=30, hidden=(16,), learning_rate=0.01)
    assert result["test_accuracy"] > 0.8


@pytest.mark.parametrize("output", ["relu", "softplus", "leaky_relu"])
def test_targets_that_are_never_negative_take_a_rectified_output(output, tmp_path):
    out, result, _ = train(tmp_path, data="diabetes", output_activation=output, epochs=60, hidden=(16,))
    assert result["test_r2"] > 0.1
    if output != "leaky_relu":
        assert (model_file.load(out).predict(1e3 * np.random.default_rng(0).normal(size=(50, 10))) >= 0).all()


def test_no_hidden_layer_is_logistic_regression(tmp_path):
    out, result, _ = train(tmp_path, data="breast_cancer", hidden=(), epochs=30, learning_rate=0.01)
    assert str(model_file.load(out).network) == "30-1, relu, output identity"
    assert result["test_accuracy"] > 0.9


def test_early_stopping_keeps_the_parameters_of_the_best_epoch(tmp_path):
    options = {"data": "diabetes", "hidden": (64,), "learning_rate": 0.01, "epochs": 200}
    out, result, metrics = train(tmp_path, early_stopping=3, **options)
    losses = [line["validation_loss"] for line in metrics]
    best = int(np.argmin(losses)) + 1
    assert result["kept_epoch"] == best
    assert result["epochs"] == best + 3 < 200
    # The same run without early stopping, ended at the best epoch, has the same parameters.
    other, _, _ = train(tmp_path / "again", **options | {"epochs": best})
    for kept, last in zip(
        jax.tree.leaves(model_file.load(out).params), jax.tree.leaves(model_file.load(other).params), strict=True
    ):
        np.testing.assert_array_equal(kept, last)


def test_the_same_seed_gives_the_same_run_and_the_largest_is_a_seed_too(tmp_path):
    seeds = {"a": 1, "b": 1, "c": 2**32 - 1, "d": 2**31 - 1}
    losses = {name: train(tmp_path / name, data="iris", seed=seed)[1]["test_loss"] for name, seed in seeds.items()}
    assert losses["a"] == losses["b"]
    assert len(set(losses.values())) == 3


@pytest.mark.parametrize(
    ("dtype", "of_parameters"), [("float32", "float32"), ("float64", "float64"), ("bfloat16", "float32")]
)
def test_the_dtype_is_that_of_the_parameters(dtype, of_parameters, tmp_path):
    out, _, _ = train(tmp_path, data="iris", dtype=dtype)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(model_file.load(out).params)} == {of_parameters}
    assert not jax.config.jax_enable_x64


def test_mixed_precision_learns_digits_as_float32_does_by_another_path(tmp_path):
    results = {
        dtype: train(tmp_path / dtype, dtype=dtype, hidden=(64,), epochs=15, learning_rate=0.01)
        for dtype in ("float32", "bfloat16")
    }
    short, long = results["bfloat16"], results["float32"]
    assert short[2][0]["train_loss"] != long[2][0]["train_loss"]
    # Of 359 test examples, three decided otherwise.
    assert short[1]["test_accuracy"] == pytest.approx(long[1]["test_accuracy"], abs=0.01)


def test_a_loss_that_is_no_longer_finite_ends_the_run(tmp_path):
    with pytest.raises(Failure) as error:
        train(tmp_path, data="diabetes", optimizer="sgd", learning_rate=1e18, epochs=50)
    assert error.value.status == 1
    message = str(error.value)
    assert message.startswith("the loss is no longer finite in epoch ")
    assert "; lower --learning-rate (1e+18) or look for extreme values in the data; " in message
    assert message.endswith("run holds config.json, metrics.jsonl (0 epochs), but no model")
    assert not (tmp_path / "run" / "result.json").exists()


def test_binary_cross_entropy_that_saturates_says_what_to_use_instead(tmp_path):
    with pytest.raises(Failure, match="use --loss sigmoid_binary_cross_entropy; "):
        train(tmp_path, data="breast_cancer", loss="binary_cross_entropy", epochs=100, learning_rate=3.0)


def test_a_platform_that_is_not_there_is_named(monkeypatch):
    def no_devices():
        raise RuntimeError("Unable to initialize backend 'cup'\nmore")

    monkeypatch.setattr(jax, "devices", no_devices)
    with pytest.raises(Failure) as error:
        device()
    assert str(error.value) == (
        "JAX finds no device to run on (Unable to initialize backend 'cup'); JAX_PLATFORMS=cpu takes the CPU"
    )


def test_a_csv_file_trains(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 3))
    rows = [f"{a:.6f},{b:.6f},5,{'up' if a + b > 0 else 'down'}" for a, b, _ in x]
    (tmp_path / "a.csv").write_text("\n".join(["a,b,constant,way", *rows]))
    out, result, _ = train(tmp_path, data=str(tmp_path / "a.csv"), target=("way",), epochs=40, learning_rate=0.02)
    assert result["test_accuracy"] >= 0.85
    assert model_file.load(out).problem.classes == ("down", "up")
    assert model_file.load(out).scaling.factor[2] == 0


def test_idx_files_train_and_their_test_part_is_the_test(tmp_path):
    rng = np.random.default_rng(0)
    for part, examples in (("train", 120), ("t10k", 33)):
        labels = (np.arange(examples) % 3).astype(np.uint8)
        images = (40 * labels[:, None, None] + rng.integers(0, 30, (examples, 4, 4))).astype(np.uint8)
        (tmp_path / f"{part}-images").write_bytes(idx(images))
        (tmp_path / f"{part}-labels").write_bytes(idx(labels))
    _, result, _ = train(tmp_path, data=str(tmp_path), epochs=30, learning_rate=0.01)
    assert result["test_accuracy"] > 0.9
    assert (result["test_accuracy"] * 33) % 1 == pytest.approx(0, abs=1e-9)
