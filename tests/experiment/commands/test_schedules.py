"""Runs whose learning rate changes, and whose gradients and labels are not taken as they are."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from short_runs import train

import jaxnet as jn
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import folder, model_file
from jaxnet.experiment.training.recipe import recipe_of
from jaxnet.experiment.training.updates import make_optimizer
from jaxnet.parameters import sides_of

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_figures")
FALL = {"data": "iris", "schedule": "cosine", "learning_rate": 0.01, "final_learning_rate": 0.001}


def test_more_epochs_leave_the_end_of_the_fall_where_it_was_and_go_on_at_the_final_rate(tmp_path):
    short, _, lines = train(tmp_path / "short", **FALL, epochs=2)
    # Updates 3 and 7 of 8.
    expected = [0.001 + 0.009 * (1 + np.cos(np.pi * k / 8)) / 2 for k in (3, 7)]
    assert [line["learning_rate"] for line in lines] == pytest.approx(expected, rel=1e-5)
    assert json.loads((short / folder.CONFIG).read_text())["decay_epochs"] == 2
    run(TrainConfig(**FALL, hidden=(8,), epochs=3, resume=str(short)))
    whole, _, expected = train(tmp_path / "whole", **FALL, epochs=3, decay_epochs=2)
    got = [json.loads(line) for line in (short / folder.METRICS).read_text().splitlines()]
    for line in (*got, *expected):
        del line["seconds"]
    assert got == expected
    assert expected[-1]["learning_rate"] == 0.001
    for one, other in zip(*(jax.tree.leaves(model_file.load(of).params) for of in (short, whole)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_gradients_of_several_batches_are_that_of_one_as_large(tmp_path):
    changes = {
        "data": "iris",
        "schedule": "cosine",
        "final_learning_rate": 0.01,
        "optimizer": "sgd",
        "clip_examples": 0.5,
        "noise_multiplier": 0.1,
        "clip_gradient": 0.4,
        "diagnostics": True,
    }
    (_, whole, lines), (_, parts, told) = (
        train(tmp_path / f"{size}", **changes, batch_size=size, accumulate=15 // size) for size in (15, 5)
    )
    for line, of_parts in zip(lines, told, strict=True):
        assert of_parts["learning_rate"] == line["learning_rate"]
        for name in ("train_loss", "validation_loss"):
            # In float32, summed in another order.
            assert of_parts[name] == pytest.approx(line[name], rel=1e-5)
        assert all(layer["update_to_weight"] > 0 for layer in of_parts["diagnostics"]["layers"])
    assert parts["test_loss"] == pytest.approx(whole["test_loss"], rel=1e-5)


def test_kfac_takes_the_mean_of_several_gradients_with_a_rate_of_ones_own(tmp_path):
    _, _, lines = train(tmp_path, data="iris", optimizer="kfac", learning_rate=0.1, accumulate=2, epochs=3)
    assert lines[-1]["train_loss"] < 0.95 * lines[0]["train_loss"]


def test_what_a_step_costs_is_told_of_the_program_that_is_compiled_anyway(tmp_path, capsys, compilations):
    train(tmp_path, data="iris", epochs=2, hidden=(8,), optimizer="sgd", backward="autodiff")
    (line,) = re.findall(r"^a step     (.*)$", capsys.readouterr().out, re.MULTILINE)
    told = re.fullmatch(
        r"([\d.]+) k operations; memory 268 B of parameters and optimizer and ([\d.]+) k?B for a time", line
    )
    # Products: forward 2 x 32 x (4 x 8 + 8 x 3), back as many for weights, and 8 x 3 for the signal.
    products = 2 * 32 * (3 * 8 * 3 + 2 * 4 * 8) / 1000
    assert products < float(told[1]) < 2 * products
    # Three of the four batches are whole, and the last is filled up: one program for all.
    assert compilations("steps") == 1


def test_where_nothing_would_be_learnt_the_run_does_not_go_on(tmp_path):
    out, _, _ = train(tmp_path, data="iris", schedule="cosine", epochs=1)
    before = (out / folder.CONFIG).read_bytes()
    for config in ({"decay_epochs": 1}, {}):
        with pytest.raises(
            BadInput, match=r"^--epochs 2: the learning rate is 0 after epoch 1, and nothing is learnt "
        ):
            run(TrainConfig(data="iris", schedule="cosine", epochs=2, hidden=(8,), resume=str(out), **config))
    assert (out / folder.CONFIG).read_bytes() == before


def test_numbers_have_no_labels_to_smooth(tmp_path):
    with pytest.raises(BadInput) as error:
        train(tmp_path, data="diabetes", label_smoothing=0.1)
    assert str(error.value) == (
        "--label-smoothing 0.1: is for classes, and --data diabetes has numbers to learn; leave it out"
    )
    assert not (tmp_path / "run").exists()


def test_smoothed_labels_are_those_of_training_alone(tmp_path):
    # Parameters that never move: each loss is that of the start.
    still = {"data": "iris", "optimizer": "sgd", "learning_rate": 1e-30, "weight_decay": 0.0, "epochs": 1}
    _, plain, (line,) = train(tmp_path / "plain", **still)
    _, result, (told,) = train(tmp_path / "smoothed", **still, label_smoothing=0.5)
    assert (told["validation_loss"], result["test_loss"]) == (line["validation_loss"], plain["test_loss"])
    assert told["train_loss"] != line["train_loss"]


def test_the_whole_gradient_is_shortened_before_the_optimizer_sees_it_and_betas_are_its_own():
    net, loss = jn.dense(3, 2), jn.losses.half_squared_error
    params = jn.Dense(W=jnp.ones((2, 3)), b=jnp.ones(2))
    grads = jn.Dense(W=jnp.full((2, 3), 3.0), b=jnp.full(2, 4.0))
    sides = sides_of(net, params, jnp.ones((1, 3)))

    def updated(**options):
        recipe = recipe_of(TrainConfig(weight_decay=0.0, **options))
        chosen = make_optimizer(recipe, net, loss, 6, jax.random.key(0), sides)
        return chosen.update(grads, chosen.init(params), params)

    length = optax.tree.norm(grads)
    for most, share in ((length / 2, 0.5), (2 * length, 1.0)):
        update, _ = updated(optimizer="sgd", learning_rate=1.0, clip_gradient=float(most))
        np.testing.assert_allclose(update.W, -share * grads.W, rtol=1e-6)
        np.testing.assert_allclose(update.b, -share * grads.b, rtol=1e-6)
    _, state = updated(optimizer="adam", beta1=0.5, beta2=0.75)
    np.testing.assert_allclose(optax.tree.get(state, "mu").W, 1.5, rtol=1e-6)
    np.testing.assert_allclose(optax.tree.get(state, "nu").W, 2.25, rtol=1e-6)
