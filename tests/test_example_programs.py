"""The programs of examples/ run, and what each prints is so."""

import re
import runpy
from pathlib import Path

import jax
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def numbers(pattern, text):
    """What the pattern's groups match, as numbers."""
    return [float(number) for number in re.search(pattern, text).groups()]


def own_layer(told):
    assert "the backward by hand is the derivative of forward" in told
    (by_tanh,), (by_sine,) = numbers(r"tanh (\S+)", told), numbers(r"loss with sine (\S+)", told)
    assert by_sine < 0.5 * by_tanh


def cnn(told):
    early, late = (numbers(rf"epoch {epoch}  loss (\S+)", told)[0] for epoch in (3, 9))
    assert late < 0.5 * early
    (accuracy,) = numbers(r"test accuracy (\S+)%", told)
    assert accuracy > 93
    assert all(digit != taken for digit, taken in re.findall(r"a (\d) taken for a (\d)", told))


def transformer(told):
    first, at_best = numbers(r"first half (\S+) nats, at best (\S+)", told)
    assert abs(first - at_best) < 0.1
    (second,) = numbers(r"second half (\S+) nats", told)
    assert second < 0.1
    given, written = (re.search(rf"^{word} +(.*)$", told, re.MULTILINE)[1] for word in ("given", "written"))
    assert given == written


def private_sgd(told):
    epsilon, accuracy = numbers(r"epsilon (\S+) at delta 1e-5.*test accuracy (\S+)%", told.replace("\n", " "))
    assert 7 < epsilon < 11
    # Chance is 10%; its keys are of the system's entropy, and no run of it comes near this.
    assert accuracy > 75


def kfac(told):
    (*of_adam, of_kfac) = (numbers(rf"{name} .*  (\S+)\n", told)[0] for name in (r"3\)", r"01\)", r"03\)", "kfac"))
    assert of_kfac < min(of_adam)
    assert "B (64, 64), A (32, 32)" in told


def feedback(told):
    before, after, accuracy = numbers(r"random +(\d+) degrees at the start, +(\d+) at the end; test (\S+)%", told)
    assert after < before - 10
    assert accuracy > 90
    assert numbers(r"backpropagation +(\d+) .* (\d+) at the end", told) == [0, 0]


def meta_learning(told):
    together, after_a_step = (numbers(rf"{name} .* (\S+) after it", told)[0] for name in ("at once", "later"))
    assert after_a_step < 0.6 * together


def influence(told):
    (found,) = numbers(r"(\d+) are wrongly labelled", told)
    assert found > 35
    before, after = numbers(r"accuracy (\S+)%; trained again without them (\S+)%", told)
    assert after >= before


CLAIMS = (own_layer, cnn, transformer, private_sgd, kfac, feedback, meta_learning, influence)


@pytest.mark.usefixtures("optax_promotion", "without_shape_annotations")
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_an_example_prints_what_is_so(claim, capsys):
    with jax.numpy_rank_promotion("allow"):
        runpy.run_path(str(EXAMPLES / f"{claim.__name__}.py"), run_name="__main__")
    claim(capsys.readouterr().out)


def test_every_example_is_run_and_has_fewer_than_80_lines():
    programs = {path.stem: path.read_text().splitlines() for path in EXAMPLES.glob("*.py")}
    assert set(programs) == {claim.__name__ for claim in CLAIMS}
    assert all(len(lines) < 80 for lines in programs.values())
