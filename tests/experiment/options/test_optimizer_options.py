"""Options of the optimizer that do not go together, or are no numbers of theirs."""

import pytest

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.options.optimizer_options import read_warmup
from jaxnet.experiment.options.train_config import TrainConfig


@pytest.mark.parametrize(("options", "message"), [
    ({"warmup": "5"}, "--warmup: is for --schedule warmup-cosine, got --schedule constant"),
    ({"warmup": "5", "schedule": "cosine"}, "--warmup: is for --schedule warmup-cosine, got --schedule cosine"),
    (
        {"warmup": "0", "schedule": "warmup-cosine"},
        "--warmup: expected steps, as 500, or epochs, as 2epochs; got '0'",
    ),
    (
        {"final_learning_rate": 0.1},
        "--final-learning-rate: is for --schedule cosine and warmup-cosine, got --schedule constant",
    ),
    (
        {"final_learning_rate": -1.0, "schedule": "cosine"},
        "--final-learning-rate: expected a number from 0 to 1e+18, got -1.0",
    ),
    ({"decay_epochs": 0, "schedule": "cosine"}, "--decay-epochs: expected an integer of at least 1, got 0"),
    (
        {"decay_epochs": 5, "epochs": 6, "schedule": "cosine"},
        "--epochs 6: the learning rate is 0 after epoch 5, and nothing is learnt from there on; start a run with a "
        "--final-learning-rate or more --decay-epochs",
    ),
    (
        {"optimizer": "kfac", "schedule": "cosine"},
        "--schedule cosine: kfac chooses a learning rate for each step; give a --learning-rate",
    ),
    (
        {"optimizer": "kfac", "clip_gradient": 1.0},
        "--clip-gradient: kfac chooses its steps' lengths itself; use another --optimizer",
    ),
    (
        {"optimizer": "kfac", "accumulate": 2},
        "--accumulate: kfac chooses its learning rates by one batch; give a --learning-rate",
    ),
    ({"accumulate": 0}, "--accumulate: expected an integer of at least 1, got 0"),
    ({"clip_gradient": float("nan")}, "--clip-gradient: expected a positive number up to 1e+18, got nan"),
    ({"beta2": 1.0}, "--beta2: expected a number of at least 0 and below 1, got 1.0"),
    (
        {"beta1": 0.5, "optimizer": "sgd"},
        "--beta1: is for --optimizer adam, adamw, nadamw, lion; got --optimizer sgd",
    ),
    ({"label_smoothing": 1.0}, "--label-smoothing: expected a number of at least 0 and below 1, got 1.0"),
])  # fmt: skip
def test_what_does_not_go_together_is_named(options, message):
    with pytest.raises(BadInput) as error:
        TrainConfig(**options)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "warmup"), [("500", (500, "steps")), ("2epochs", (2, "epochs")), (" 1 step ", (1, "steps"))]
)
def test_a_warmup_is_in_steps_or_epochs(text, warmup):
    assert read_warmup(text) == warmup
