"""The command line: what is understood, what tyro says of the rest, and the one line for values that are refused."""

import dataclasses

import pytest
from refusals import refused

from jaxnet.experiment.commands.draw import DrawConfig
from jaxnet.experiment.commands.export import ExportConfig
from jaxnet.experiment.commands.generate import GenerateConfig
from jaxnet.experiment.commands.predict import PredictConfig
from jaxnet.experiment.commands.runs import RunsConfig
from jaxnet.experiment.console.errors import BadInput, did_you_mean, option
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.options.train_config import TrainConfig


def test_no_options_are_the_defaults():
    assert parse(TrainConfig, []) == TrainConfig()


def test_every_option_is_read():
    options = {
        "data": "a.csv",
        "target": ("y", "z"),
        "features": ("a", "b"),
        "drop": ("c",),
        "categorical": ("b",),
        "validation": "v.csv",
        "test": "t.csv",
        "group": "g",
        "weights": "w",
        "class_weights": "balanced",
        "model": "mlp",
        "hidden": (32, 16),
        "activation": "tanh",
        "output_activation": "relu",
        "loss": "half_squared_error",
        "init": "small-normal",
        "optimizer": "momentum",
        "learning_rate": 0.5,
        "weight_decay": 0.25,
        "batch_size": 7,
        "epochs": 3,
        "early_stopping": 2,
        "seed": 11,
        "seeds": 1,
        "dtype": "float64",
        "backward": "hand",
        "feedback": "random",
        "schedule": "warmup-cosine",
        "warmup": "2epochs",
        "final_learning_rate": 0.001,
        "decay_epochs": 3,
        "clip_gradient": 1.5,
        "accumulate": 4,
        "label_smoothing": 0.1,
        "scale": "range",
        "stream": True,
        "out": "somewhere",
        "overwrite": True,
        "checkpoint_every": "2epochs",
        "keep": 5,
        "resume": "elsewhere",
        "on_nan": "rollback",
        "diagnostics": True,
        "tensorboard": True,
        "profile": True,
        "mesh": "data=4,model=2",
        "shard_state": True,
        "distributed": True,
        "coordinator": "localhost:1234",
        "processes": 3,
        "process_id": 2,
        "compilation_cache": False,
    }
    of_kfac = {"optimizer": "kfac", "kfac_interval": 3, "kfac_factor_interval": 2, "kfac_one_block": False}
    of_positions = {"optimizer": "kfac", "kfac_positions": "reduce", "model": "cnn"}
    of_cnn = {
        "model": "cnn",
        "channels": (4, 8),
        "groups": 2,
        "shift": 1,
        "crop": 2,
        "flip": True,
        "window": 5,
        "dropout": 0.5,
    }
    of_cnn["image_size"] = (24, 32)
    of_resnet = {"model": "resnet", "blocks": 3}
    of_parts = {"validation_fraction": 0.25, "test_fraction": 0.5, "clip_examples": 2.5, "noise_multiplier": 1.5}
    of_private = {"clip_examples": 1.0, "clip_layers": True, "private_epsilon": 3.0, "private_delta": 1e-6}
    of_adam = {"optimizer": "adam", "beta1": 0.8, "beta2": 0.99}
    of_text = {"tokens": "bytes", "context": 8, "width": 16, "depth": 2, "tied": True, "epoch_steps": 3, "dropout": 0.5}
    of_transformer = {"model": "transformer", "heads": 2, "positions": "rotary", **of_text}
    each = (options, of_parts, of_adam, of_kfac, of_positions, of_cnn, of_resnet, of_private, of_transformer)
    assert {name for of_one in each for name in of_one} == {field.name for field in dataclasses.fields(TrainConfig)}
    for chosen in each:
        line = []
        for name, value in chosen.items():
            line.append(option(name).replace("--", "--no-", 1) if value is False else option(name))
            values = value if isinstance(value, tuple) else () if isinstance(value, bool) else (value,)
            line.extend(map(str, values))
        assert parse(TrainConfig, line) == TrainConfig(**chosen)


def test_no_hidden_layer_is_a_linear_model():
    assert parse(TrainConfig, ["--hidden", "--seed", "1"]).hidden == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--epochs 0", "--epochs: expected an integer of at least 1, got 0"),
        ("--batch-size -5", "--batch-size: expected an integer of at least 1, got -5"),
        ("--early-stopping -1", "--early-stopping: expected an integer of at least 0, got -1"),
        ("--seed -1", "--seed: expected an integer of at least 0, got -1"),
        ("--seed 4294967296", "--seed: expected an integer below 2^32, got 4294967296"),
        ("--hidden 64 0", "--hidden: expected widths from 1 to 2^24 - 1, got 64 0"),
        ("--learning-rate 0", "--learning-rate: expected a positive number up to 1e+18, got 0.0"),
        ("--learning-rate nan", "--learning-rate: expected a positive number up to 1e+18, got nan"),
        ("--weight-decay -1", "--weight-decay: expected a number from 0 to 1e+18, got -1.0"),
        ("--weight-decay inf", "--weight-decay: expected a number from 0 to 1e+18, got inf"),
        ("--clip-examples 0", "--clip-examples: expected a positive number up to 1e+18, got 0.0"),
        ("--clip-examples 1.1e18", "--clip-examples: expected a positive number up to 1e+18, got 1.1e+18"),
        ("--clip-examples 1 --noise-multiplier -1", "--noise-multiplier: expected a number from 0 to 1e+18, got -1.0"),
        ("--test-fraction 1", "--test-fraction: expected a share between 0 and 1, as 0.2; got 1"),
        (
            "--validation-fraction 0.1 --validation a.csv",
            "--validation-fraction: --validation names the whole part already; leave one of them out",
        ),
        (
            "--validation-fraction 0.5 --test-fraction 0.5",
            "--test-fraction: with --validation-fraction it is 1; expected less than 1",
        ),
        ("--group w --weights w", "--group w: is given as --weights too; expected two columns"),
        (
            "--class-weights balanced --clip-examples 1 --noise-multiplier 1",
            "--class-weights: the noise of --noise-multiplier is for examples that count alike; leave one of them out",
        ),
        ("--noise-multiplier 1", "--noise-multiplier: is in units of --clip-examples, which is missing"),
        (
            "--noise-multiplier 1 --clip-examples 1 --optimizer kfac",
            "--noise-multiplier: kfac sees the examples beside the noise; use another --optimizer",
        ),
        ("--clip-layers", "--clip-layers: shares out --clip-examples, which is missing"),
        ("--private-delta 1e-6", "--private-delta: goes with --private-epsilon, which is missing"),
        (
            "--private-epsilon 3 --clip-examples 1 --private-delta 0",
            "--private-delta: expected a number between 0 and 1, got 0.0",
        ),
        ("--private-epsilon nan --clip-examples 1", "--private-epsilon: expected a number from 0.01 to 100, got nan"),
        (
            "--private-epsilon 3",
            "--private-epsilon: needs a length that no example's gradient exceeds; add --clip-examples 1",
        ),
        (
            "--private-epsilon 3 --clip-examples 1 --noise-multiplier 2",
            "--noise-multiplier: it is found from --private-epsilon; leave it out with --private-epsilon",
        ),
        (
            "--private-epsilon 3 --clip-examples 1 --optimizer kfac",
            "--optimizer kfac: sees the examples beside the noise; leave it out with --private-epsilon",
        ),
        (
            "--private-epsilon 3 --clip-examples 1 --weights w",
            "--weights: what an example counts depends on the others', by the mean; leave it out with "
            "--private-epsilon",
        ),
        (
            "--private-epsilon 3 --clip-examples 1 --class-weights balanced",
            "--class-weights: they tell how many examples each class has; leave it out with --private-epsilon",
        ),
        (
            "--private-epsilon 3 --clip-examples 1 --diagnostics",
            "--diagnostics: tells of single layers' gradients without noise; leave it out with --private-epsilon",
        ),
        (
            "--private-epsilon 3 --clip-examples 1 --accumulate 2",
            "--accumulate: an example may be in several batches of one update; leave it out with --private-epsilon",
        ),
        (
            "--private-epsilon 3 --clip-examples 1 --on-nan skip",
            "--on-nan skip: what is done then depends on the examples, and steps made twice are paid twice; leave it "
            "out with --private-epsilon",
        ),
        ("--optimizer kfac --kfac-interval 0", "--kfac-interval: expected an integer of at least 1, got 0"),
        ("--no-kfac-one-block", "--kfac-one-block: is for --optimizer kfac, got --optimizer adamw"),
        ("--kfac-positions reduce", "--kfac-positions: is for --optimizer kfac, got --optimizer adamw"),
        (
            "--optimizer kfac --kfac-positions reduce",
            "--kfac-positions reduce: is for convolutions, as of --model cnn; mlp has no positions",
        ),
        (
            "--optimizer kfac --loss sigmoid_focal_loss",
            "--loss sigmoid_focal_loss: gives kfac no labels to draw; use another --loss or --optimizer",
        ),
        (
            "--feedback sign --backward autodiff",
            "--feedback sign: needs --backward hand; jax.grad knows only the transpose",
        ),
        (
            "--clip-examples 1 --backward autodiff",
            "--clip-examples: needs --backward hand; jax.grad gives no example's gradient",
        ),
        (
            "--on-nan rollback --checkpoint-every 0",
            "--on-nan rollback: goes back to checkpoints, and --checkpoint-every 0 writes none",
        ),
        ("--mesh data=4,nodes=2", "--mesh: expected numbers of devices, as data=4,model=2; got 'data=4,nodes=2'"),
        ("--mesh data=2,data=2", "--mesh: expected numbers of devices, as data=4,model=2; got 'data=2,data=2'"),
        ("--mesh 8", "--mesh: expected numbers of devices, as data=4,model=2; got '8'"),
        ("--processes 2", "--processes: is for a run of several processes; add --distributed"),
        ("--distributed --processes 0", "--processes: expected an integer of at least 1, got 0"),
        (
            "--distributed --processes 2 --process-id 2",
            "--process-id: expected an integer from 0 to --processes - 1, got 2",
        ),
        ("--distributed --coordinator here", "--coordinator: expected HOST:PORT, as 10.0.0.1:1234; got 'here'"),
    ],
)
def test_a_value_that_is_refused_is_named_in_one_line(line, message):
    with pytest.raises(BadInput) as error:
        parse(TrainConfig, line.split())
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--optimzer adam", ["Unrecognized options: --optimzer", "Perhaps you meant:", "--optimizer {sgd,momentum"]),
        ("--learning_rat=1", ["Unrecognized options: --learning_rat=1", "Perhaps you meant:", "--learning-rate"]),
        ("--zzz", ["Unrecognized options: --zzz"]),
        ("-seed 3", ["Unrecognized options: -seed"]),
        ("--optimizer adamm", ["'adamm'", "--optimizer", "'adamw'", "'kfac'"]),
        ("--dtype=int8", ["'int8'", "--dtype", "'bfloat16'"]),
        ("--epochs 3.5", ["'3.5'", "--epochs INT"]),
        ("--learning-rate fast", ["'fast'", "--learning-rate"]),
        ("--hidden 64 wide", ["'wide'", "--hidden"]),
        ("--data", ["Missing value for argument '--data'"]),
    ],
)
def test_tyro_says_what_it_does_not_understand_and_what_comes_near_it(line, told, capsys):
    text = refused(TrainConfig, line.split(), capsys)
    for phrase in told:
        assert phrase in text


def test_no_name_is_near_one_as_long_as_a_page_and_few_are_searched():
    assert did_you_mean("sead", ["seed", "s" * 10_000]) == "; did you mean seed?"
    assert did_you_mean("s" * 101, ["s" * 100]) == ""
    assert did_you_mean("seed", [*map(str, range(1000)), "sead"]) == ""


def test_a_missing_argument_is_named(capsys):
    text = refused(PredictConfig, [], capsys)
    assert "RUN" in text
    assert "required" in text


@pytest.mark.parametrize(
    ("config", "line", "message"),
    [
        (
            PredictConfig,
            ["run", "a.csv"],
            "--data is missing; expected what to predict for, as in: jaxnet predict RUN --data FILE",
        ),
        (
            PredictConfig,
            ["run", "a.csv", "--data", "b.csv"],
            "'a.csv': is no option's; did you mean --data a.csv?; --help lists the options",
        ),
        (
            TrainConfig,
            ["my file.csv", "--epoch", "3"],
            "'my file.csv': is no option's; did you mean --data 'my file.csv'?; --help lists the options",
        ),
        (
            ExportConfig,
            ["run", "a.npz"],
            "'a.npz': is no option's; did you mean --out a.npz?; --help lists the options",
        ),
        (
            GenerateConfig,
            ["run", "To be"],
            "'To be': is no option's; did you mean --prompt 'To be'?; --help lists the options",
        ),
        (
            DrawConfig,
            ["run", "page.html"],
            "'page.html': is no option's; did you mean --html page.html?; --help lists the options",
        ),
        (RunsConfig, ["runs", "more"], "'more': is no option's; --help lists the options"),
    ],
)
def test_a_word_without_an_option_is_told_with_the_one_it_was_probably_meant_for(config, line, message):
    with pytest.raises(BadInput) as error:
        parse(config, line)
    assert str(error.value) == message


def test_help_lists_every_option(capsys):
    with pytest.raises(SystemExit) as exit_:
        parse(TrainConfig, ["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(TrainConfig):
        assert option(field.name) in text
