"""The table of every signal and gradient beside jax.grad, differences and exact arithmetic."""

import re
from typing import get_args

import numpy as np
import pytest

from jaxnet import activations
from jaxnet.experiment.config import Activation
from jaxnet.experiment.errors import BadInput, Failure
from jaxnet.experiment.exact import exact_gradients
from jaxnet.experiment.gradients import CheckConfig, check_gradients
from jaxnet.layers.dense import Dense

LESSON = ["dA2", "dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1", "dX"]


def names_in(text):
    return re.findall(r"^(d[A-Z]\w*|db\d)\b", text, re.MULTILINE)


@pytest.mark.parametrize("activation", get_args(Activation))
def test_the_lessons_network_with_every_activation(activation, capsys):
    check_gradients(CheckConfig(hidden=(4,), activation=activation))
    shown = capsys.readouterr().out
    assert shown.startswith(f"3-4-1, {activation}, binary_cross_entropy, float64, 5 examples\n")
    assert names_in(shown) == LESSON
    # Three numbers in each row, none of them left out.
    assert len(re.findall(r"^d\w+ +\([\d, ]+\)( +\d\.\de[+-]\d\d){3}$", shown, re.MULTILINE)) == 9


@pytest.mark.parametrize("loss", ["sigmoid_binary_cross_entropy", "softmax_cross_entropy", "half_squared_error"])
def test_losses_from_z_have_no_last_activation(loss, capsys):
    check_gradients(CheckConfig(hidden=(4,), loss=loss))
    assert names_in(capsys.readouterr().out) == LESSON[1:]


def test_float32_and_deeper_networks(capsys):
    check_gradients(CheckConfig(hidden=(5, 4, 3), dtype="float32", seed=3))
    shown = capsys.readouterr().out
    assert "3-5-4-3-1, tanh" in shown
    assert len(names_in(shown)) == 17


def test_a_wrong_derivative_is_a_failure_that_names_the_rows(monkeypatch, capsys):
    wrong = activations.tanh._replace(backward=lambda params, a, da: (params, da * (1 - a)))
    monkeypatch.setattr(activations, "tanh", wrong)
    with pytest.raises(Failure) as error:
        check_gradients(CheckConfig(hidden=(4,)))
    network = "3-4-1, tanh, binary_cross_entropy"
    expected = ", ".join(f"{name} of {network}" for name in ("dZ1", "dW1", "db1", "dX"))
    assert str(error.value) == f"over the bound: {expected}"
    assert error.value.status == 1
    assert names_in(capsys.readouterr().out) == LESSON


def test_exact_arithmetic_is_exact():
    """One neuron without activation, by hand: J = (w x + b - y)^2 / 2 with w = 3, x = 2, b = 1, y = 5."""
    params = (Dense(W=np.array([[3.0]]), b=np.array([1.0])),)
    found = exact_gradients("identity", "half_squared_error", params, np.array([[2.0]]), np.array([[5.0]]))
    values = {name: value.item() for name, value in found.items()}
    assert values == {"dW1": 4.0, "db1": 2.0, "dZ1": 2.0, "dX": 6.0}


@pytest.mark.parametrize(("options", "message"), [
    ({"hidden": (4, 0)}, "--hidden: expected widths of at least 1, got 4 0"),
    ({"seed": -1}, "--seed: expected an integer of at least 0, got -1"),
])  # fmt: skip
def test_bad_options_are_named(options, message):
    with pytest.raises(BadInput, match=message):
        CheckConfig(**options)
