"""The benchmarks on problems so small that they end at once: what they write, and how they judge."""

import json
import re
import sys

import numpy as np
import pytest
from benchmarks import kfac, readings, report, ways_back
from benchmarks.beside_kfac_jax import comparison
from benchmarks.clipping import networks
from benchmarks.program import BenchmarkConfig, benchmark
from refusals import refused

import jaxnet as jn
from jaxnet.experiment.console import screen
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.options.parse import parse

pytestmark = pytest.mark.usefixtures("optax_promotion")


def results(out):
    return json.loads((out / "results.json").read_text())


def picture(path):
    return path.with_suffix(".png").read_bytes()[:4] == b"\x89PNG" and "<svg" in path.with_suffix(".svg").read_text()


def test_per_example_counts_and_times_every_reading(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(readings, "PROBLEMS", {"tiny": ((4, 3), 8, (2,))})
    monkeypatch.setattr(readings, "LEAST_SECONDS", 1e-9)
    monkeypatch.setattr(networks, "NETS", {})
    benchmark(BenchmarkConfig("per-example", out=str(tmp_path / "out"), seeds=1))
    written = results(tmp_path / "out")
    programs = written["problems"]["tiny"]
    assert set(programs) == {"jax.grad", *readings.READINGS, "squared norms by vmap(jax.grad)"}
    assert all(cost["seconds"] > 0 and cost["flops"] > 0 for cost in programs.values())
    assert {"device", "jax", "cores"} <= written.keys()
    printed = capsys.readouterr().out
    assert re.search(r"tiny: jax\.grad takes \d+ us; in units of that\nreading +time +operations +memory\n", printed)


def test_kfac_tunes_both_arms_on_the_same_grid_and_draws_them(tmp_path, monkeypatch, capsys):
    problem = kfac.classification()
    small = problem._replace(
        net=jn.mlp((64, 10)),
        x=problem.x[:100],
        y=problem.y[:100],
        epochs={"Adam": 3, "K-FAC": 2},
        judged={"Adam": 2, "K-FAC": 1},
    )
    monkeypatch.setattr(kfac, "autoencoder", lambda: small._replace(name="first"))
    monkeypatch.setattr(kfac, "classification", lambda: small)
    monkeypatch.setattr(kfac, "BATCH_SIZES", (50,))
    monkeypatch.setattr(kfac, "GRID", (0.01, 0.03))
    monkeypatch.setattr(kfac, "TUNING_SEEDS", (1000,))
    kfac.run(tmp_path, seeds=2)
    arms = results(tmp_path)["problems"]["classification"]["arms"]
    assert [[point["number"] for point in arm["tuning"]] for arm in arms.values()] == [[0.01, 0.03]] * 2
    assert [np.shape(arm["losses"]) for arm in arms.values()] == [(2, 4), (2, 3)]
    assert arms["Adam"]["losses"][0][0] > arms["Adam"]["losses"][0][3]
    assert picture(tmp_path / "kfac")
    assert "epochs to the mark" in capsys.readouterr().out


def test_kfac_jax_gets_the_same_starts_and_batches(tmp_path, monkeypatch, capsys):
    """A program in its place looks at what it is given."""
    program = tmp_path / "theirs.py"
    program.write_text(
        "import sys, numpy as np\n"
        "given = np.load(sys.argv[1])\n"
        "assert given['W0'].shape == (2, 8, 64) and given['b1'].shape == (2, 64)\n"
        "assert given['rows'].shape == (2, 2, 3, 32)\n"
        "np.savez(sys.argv[2], losses=np.full((1, 2, 3), given['rows'].max()))\n"
    )
    problem = kfac.autoencoder()
    monkeypatch.setattr(comparison, "THEIRS", program)
    monkeypatch.setattr(
        comparison, "autoencoder", lambda: problem._replace(net=jn.mlp((64, 8, 64), jn.tanh), x=problem.x[:100])
    )
    for name, value in {"BATCH_SIZE": 32, "LEAST_DAMPINGS": (0.01,), "EPOCHS": 2, "TOLD": (1, 2, 33)}.items():
        monkeypatch.setattr(comparison, name, value)
    comparison.run(tmp_path, 2, sys.executable)
    runs = results(tmp_path)["runs"]
    assert [(run["optimizer"], run["least damping"]) for run in runs] == [
        ("jaxnet", "by default"),
        ("kfac-jax", "0.01"),
        ("jaxnet", "0.01"),
    ]
    assert all(np.shape(run["losses"]) == (2, 3) for run in runs)
    assert all(of_seed[2] < 0.5 * of_seed[0] for of_seed in runs[0]["losses"])
    assert re.search(r"^optimizer +least damping +epoch 1 +epoch 2$", capsys.readouterr().out, re.MULTILINE)
    program.write_text("raise SystemExit('kfac_jax: none here')")
    with pytest.raises(BadInput) as error:
        comparison.run(tmp_path, 1, sys.executable)
    assert str(error.value) == f"--kfac-jax {sys.executable}: kfac_jax: none here"
    with pytest.raises(BadInput) as error:
        comparison.run(tmp_path, 1, str(tmp_path / "none"))
    none = "No such file or directory; name the Python of an environment with it"
    assert str(error.value) == f"--kfac-jax {tmp_path / 'none'}: {none}"


def test_the_first_epoch_that_reaches_the_mark():
    assert kfac.first_at_most(np.array([5.0, 3.0, 2.0, 1.0]), 2.5) == 2
    assert kfac.first_at_most(np.array([5.0, np.inf]), 2.5) == np.inf


def test_feedback_measures_angles_that_start_at_those_of_the_ways_back(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ways_back, "LEARNING_RATES", (0.1,))
    monkeypatch.setattr(ways_back, "TUNING_SEEDS", (1000,))
    monkeypatch.setattr(ways_back, "NET", jn.mlp((64, 8, 10), jn.tanh))
    digits = ways_back.digits()
    few = tuple(tuple(ways_back.Part(part.x[:64], part.y[:64]) for part in parts) for parts in digits)
    monkeypatch.setattr(ways_back, "digits", lambda: few)
    ways_back.run(tmp_path, seeds=2, epochs=2)
    text = json.dumps(results(tmp_path))
    assert all(f'"{name}"' in text for name in ways_back.ARMS)
    assert picture(tmp_path / "feedback")
    printed = capsys.readouterr().out
    assert all(re.search(rf"^{name} ", printed, re.MULTILINE) for name in ways_back.ARMS)


def test_a_table_stands_in_columns():
    assert screen.table(("name", "value"), (("a", "10"), ("long", "2"))) == "name  value\na        10\nlong      2"


def test_numbers_that_are_not_finite_are_told_as_never():
    assert report.Spread.of([1.0, 3.0, np.inf]).text(".0f") == "3 [1-never]"
    assert report.Spread.of([np.inf, np.inf]).text(".0f") == "never"


def test_a_wrong_command_line_is_named(capsys):
    assert "WHAT" in refused(BenchmarkConfig, [], capsys)
    assert "--seeds" in refused(BenchmarkConfig, ["kfac", "--seed", "1"], capsys)
    with pytest.raises(BadInput) as error:
        parse(BenchmarkConfig, ["feedback", "--seeds", "0"])
    assert str(error.value) == "--seeds: expected an integer from 1 to 1000, got 0"


def test_an_existing_folder_is_left_alone(tmp_path):
    with pytest.raises(BadInput) as error:
        benchmark(BenchmarkConfig("kfac", out=str(tmp_path)))
    assert str(error.value) == f"--out {tmp_path}: exists already; name another folder or give --overwrite"
