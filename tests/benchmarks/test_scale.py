"""The benchmarks of growth, streaming, the shell and accelerators, on problems so small that they end at once."""

import json
import re

import jax
import numpy as np
import pytest
from benchmarks import accelerator, from_disk, scale
from benchmarks.shell import timing

from jaxnet.experiment.console.errors import Failure
from jaxnet.experiment.training import blocks

pytestmark = pytest.mark.usefixtures("optax_promotion")


def results(out):
    return json.loads((out / "results.json").read_text())


def test_exponents_are_those_of_powers():
    sizes = (1, 2, 4, 8, 16)
    assert scale.exponent(sizes, [1e9, *(3.0 * n**1.5 for n in sizes[1:])]) == pytest.approx(1.5)


def test_scale_measures_every_curve_and_draws_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scale, "LEAST_SECONDS", 1e-9)
    monkeypatch.setattr(scale, "WIDTH", 4)
    monkeypatch.setattr(scale, "DEPTH", 2)
    monkeypatch.setattr(scale, "STEPS", 2)
    small = tuple(curve._replace(sizes=(4, 8)) for curve in scale.CURVES)
    monkeypatch.setattr(scale, "CURVES", small)
    scale.run(tmp_path, seeds=1)
    curves = results(tmp_path)["curves"]
    assert [(curve["along"], curve["network"]) for curve in curves] == [
        ("width", "chain"),
        ("depth", "chain"),
        ("depth", "repeat"),
        ("depth", "repeat, recompute"),
        ("batch", "chain"),
    ]
    for curve in curves:
        assert [point["size"] for point in curve["points"]] == [4, 8]
        assert all(min(point.values()) > 0 for point in curve["points"])
    assert "<svg" in (tmp_path / "scale.svg").read_text()
    assert re.search(r"^depth: repeat +4 +8 ", capsys.readouterr().out, re.MULTILINE)


def test_streaming_is_compared_on_the_same_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(from_disk, "EXAMPLES", 400)
    monkeypatch.setattr(from_disk, "HIDDEN", (8,))
    from_disk.run(tmp_path, seeds=2)
    types = results(tmp_path)["types"]
    assert set(types) == {"uint8", "float32"}
    for of in types.values():
        assert of["ratio"]["least"] <= of["ratio"]["median"] <= of["ratio"]["most"]
    assert "streamed, s/epoch" in capsys.readouterr().out


def test_streaming_that_trains_something_else_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(from_disk, "EXAMPLES", 400)
    monkeypatch.setattr(from_disk, "HIDDEN", (8,))
    whole = blocks.pieces

    def the_first_example_only(*arguments):
        *others, order, cuts = arguments
        return whole(*others, np.zeros_like(order), cuts)

    monkeypatch.setattr(blocks, "pieces", the_first_example_only)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        from_disk.run(tmp_path, seeds=1)


def test_commands_are_timed_and_absent_packages_named(tmp_path, monkeypatch, capsys):
    commands = {
        timing.WARM: timing.Command(("-c", "print('test accuracy 97.50%')"), cache=lambda own: own),
        "torch": timing.Command(("-c", ""), "no_such_package"),
        timing.IMPORTS: timing.Command(("-c", "")),
        f"{timing.IMPORTS}, jaxnet": timing.Command(("-c", "")),
    }
    monkeypatch.setattr(timing, "commands", lambda warm: commands)
    timing.run(tmp_path, seeds=1)
    written = results(tmp_path)
    assert written["absent"] == ["torch"]
    assert written["seconds"][timing.WARM]["median"] > 0
    assert written["said"][timing.WARM] == "97.50"
    assert re.search(r"^torch +not installed: pip install", capsys.readouterr().out, re.MULTILINE)


def test_a_command_that_fails_ends_the_benchmark_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "commands", lambda warm: {"bad": timing.Command(("-c", "raise SystemExit('no')"))})
    with pytest.raises(Failure) as error:
        timing.run(tmp_path, seeds=1)
    assert str(error.value) == "bad: ended with status 1: no"


def test_the_scripts_of_the_table_are_there(tmp_path):
    for command in timing.commands(tmp_path).values():
        script = command.arguments[0]
        assert script == "-c" or (timing.HERE / script).exists()


def test_without_an_accelerator_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert accelerator.run(tmp_path)["measured"] is None
    assert capsys.readouterr().out == "no accelerator: JAX finds the CPU alone, so nothing was measured\n"


def test_what_an_accelerator_is_asked_runs_on_any_device(monkeypatch):
    monkeypatch.setattr(accelerator, "WIDTH", 16)
    monkeypatch.setattr(accelerator, "BATCH", 8)
    for dtype in accelerator.DTYPES:
        measured = accelerator.measure(dtype, 1)
        assert measured["share"] == pytest.approx(measured["step"] / measured["peak"])
        assert measured["torch_step"] is None
        assert f"{dtype} " in accelerator._table({dtype: measured})
    assert all(value > 0 for value in accelerator.measure_readings(1).values())


def test_operations_of_a_step_are_counted_product_by_product(monkeypatch):
    for name, value in (("WIDTH", 2), ("BATCH", 3), ("LAYERS", 2), ("CLASSES", 5)):
        monkeypatch.setattr(accelerator, name, value)
    forward = 2 * 3 * (2 * 2 + 2 * 2 + 2 * 5)
    backward_to_parameters, backward_to_inputs = forward, 2 * 3 * (2 * 2 + 2 * 5)
    assert accelerator.step_operations() == forward + backward_to_parameters + backward_to_inputs
