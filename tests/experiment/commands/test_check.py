"""The table of every signal and gradient beside jax.grad, differences and exact arithmetic."""

import re
from typing import get_args

import numpy as np
import pytest

from jaxnet import activations
from jaxnet.experiment.commands import check
from jaxnet.experiment.commands.check import CheckConfig, check_gradients
from jaxnet.experiment.commands.derivatives import Case, Row, derivatives
from jaxnet.experiment.commands.exact import exact_gradients
from jaxnet.experiment.console import screen
from jaxnet.experiment.console.errors import BadInput, Failure
from jaxnet.experiment.networks.choices import Activation
from jaxnet.layers.dense import Dense

LESSON = ["dA2", "dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1", "dX"]


def names_in(text):
    return re.findall(r"^(d[A-Z]\w*|db\d)\b", text, re.MULTILINE)


@pytest.mark.parametrize("activation", get_args(Activation))
def test_the_lessons_network_with_every_activation(activation, capsys, without_shape_annotations):
    # Two neurons, since exact arithmetic takes a number at a time.
    check_gradients(CheckConfig(hidden=(2,), activation=activation))
    shown = capsys.readouterr().out
    assert shown.startswith(f"3-2-1, {activation}, binary_cross_entropy, float64, 5 examples\n")
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


def values_in(text):
    """From the name of each signal or gradient to its index, number by hand, number by jax.grad and difference."""
    blocks = re.findall(r"^(d\w+) \(\d.*\n.*\n((?:\[.*\n)+)", text, re.MULTILINE)
    return {
        name: [(index, *map(float, cells.split())) for index, cells in re.findall(r"\[(.*?)\](.*)", lines)]
        for name, lines in blocks
    }


@pytest.fixture(scope="module")
def worked_out():
    """The lesson's network in float32, whose differences are not 0."""
    return derivatives(Case((3, 4, 1), "tanh", "binary_cross_entropy", "float32", 0), exact=False)


def made_up(*names):
    """Rows without any work."""
    ones = np.ones((1, 2))
    return [Row(name, ones, ones, ones, None) for name in names]


def equations_in(text):
    return dict(re.findall(r"^(d\w+) \(\d.*?\): (.+)$", text, re.MULTILINE))


def test_the_numbers_themselves_stand_side_by_side(worked_out, monkeypatch, capsys):
    monkeypatch.setattr(check, "derivatives", lambda case, exact: worked_out)
    check_gradients(CheckConfig(hidden=(4,), dtype="float32", values=True))
    shown = values_in(capsys.readouterr().out)
    assert list(shown) == [row.name for row in worked_out] == LESSON
    for row in worked_out:
        assert [index for index, *_ in shown[row.name]] == [str(list(k))[1:-1] for k in np.ndindex(row.hand.shape)]
        _, hand, other, difference = zip(*shown[row.name], strict=True)
        # Twelve digits behind the point are printed, and two of a difference.
        np.testing.assert_allclose(hand, row.hand.ravel(), rtol=0, atol=0.6e-12)
        np.testing.assert_allclose(other, row.autodiff.ravel(), rtol=0, atol=0.6e-12)
        np.testing.assert_allclose(difference, (row.hand - row.autodiff).ravel(), rtol=0.06)
        assert np.any(difference)


def test_the_numbers_are_those_of_the_first_network_alone(monkeypatch, capsys):
    monkeypatch.setattr(check, "derivatives", lambda case, exact: made_up("dX"))
    check_gradients(CheckConfig(values=True))
    first, *others = re.split("^3-", capsys.readouterr().out.removeprefix("3-"), flags=re.MULTILINE)
    assert list(values_in(first)) == ["dX"]
    assert len(others) == 2
    assert not any(values_in(text) for text in others)


@pytest.mark.parametrize(("hidden", "loss", "equations"), [
    ((4,), "binary_cross_entropy", {
        "dA2": "(A2 - Y) / (A2 (1 - A2))",
        "dZ2": "dA2 * A2 (1 - A2), which is A2 - Y",
        "dW2": "(1/m) dZ2^T A1",
        "db2": "(1/m) sum of dZ2 over the examples",
        "dA1": "dZ2 W2",
        "dZ1": "dA1 * g'(Z1)",
        "dW1": "(1/m) dZ1^T X",
        "db1": "(1/m) sum of dZ1 over the examples",
        "dX": "dZ1 W1",
    }),
    ((4, 4), "half_squared_error", {
        "dZ3": "Z3 - Y", "dW3": "(1/m) dZ3^T A2", "dA2": "dZ3 W3", "dZ2": "dA2 * g'(Z2)", "dW2": "(1/m) dZ2^T A1",
    }),
    ((4,), "softmax_cross_entropy", {"dZ2": "softmax(Z2) - Y"}),
    ((4,), "sigmoid_binary_cross_entropy", {"dZ2": "sigmoid(Z2) - Y"}),
])  # fmt: skip
def test_each_stands_below_its_equation(hidden, loss, equations, monkeypatch, capsys):
    monkeypatch.setattr(check, "derivatives", lambda case, exact: made_up(*equations))
    check_gradients(CheckConfig(hidden=hidden, loss=loss, values=True))
    assert equations_in(capsys.readouterr().out) == equations


def test_the_columns_say_relative_to_what_and_fit_sixty_columns(worked_out, monkeypatch, capsys):
    monkeypatch.setattr(screen, "width", lambda stream=None: 60)
    monkeypatch.setattr(check, "derivatives", lambda case, exact: worked_out)
    check_gradients(CheckConfig(hidden=(4,), loss="sigmoid_binary_cross_entropy", dtype="float32", values=True))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    header = next(at for at, line in enumerate(lines) if line.split() == ["shape", "jax.grad", "differences", "exact"])
    assert lines[header - 1] == "max |by hand - other| / max |other|, other being"
    assert "difference: by hand - jax.grad, of the numbers as they are" in lines
    for line, row in zip(lines[header + 1 :], worked_out, strict=False):
        off = [np.abs(row.hand - other).max() / np.abs(other).max() for other in (row.autodiff, row.differences)]
        assert line.split()[-2:] == [f"{value:.1e}" for value in off]


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
