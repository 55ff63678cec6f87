"""jaxnet beside other packages: on networks so small that they end at once, and with contestants that misbehave."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.contest import contest, contestants, curve, peak, plain, problems, process, rounds
from benchmarks.contest.contestants import Contestant
from benchmarks.program import BenchmarkConfig, benchmark
from refusals import refused

from jaxnet.experiment.console.errors import BadInput, Failure
from jaxnet.experiment.options.parse import parse

ROOT = Path(__file__).parent.parent.parent
STRAYS = """
import os, sys, time
from benchmarks.contest import plain

def faster(problem):
    return plain.prepare(problem._replace(net=problem.net._replace(learning_rate=1.01 * problem.net.learning_rate)))

def raises(problem):
    raise ValueError("no such layer")

def silent(problem):
    return lambda: time.sleep(60)

def talks_and_dies_later(problem):
    print("on standard output")
    passes = iter(range(2))
    one_pass = plain.prepare(problem)
    return lambda: os._exit(3) if next(passes, None) is None else one_pass()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small networks, short turns, and NumPy alone for the peak."""
    nets = {
        "3-4-1": problems.NETS["3-4-1"]._replace(batch=20, steps=30),
        "30-16-2": problems.NETS["30-16-2"]._replace(batch=8, steps=25, batches=25),
    }
    monkeypatch.setattr(problems, "NETS", nets)
    monkeypatch.setattr(peak, "NET", peak.NET._replace(sizes=(8, 8), batch=8))
    monkeypatch.setattr(contestants, "PEAKS", {"numpy": contestants.PEAKS["numpy"]})
    monkeypatch.setattr(rounds, "PAUSE", 0.0)
    monkeypatch.setattr(rounds, "LEAST_SECONDS", 1e-9)


@pytest.fixture
def enter(monkeypatch, tmp_path):
    """Has only these contestants take part: functions of `STRAYS`, and in jaxnet's place NumPy, which starts sooner."""
    (tmp_path / "strays.py").write_text(STRAYS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def enter(*strays):
        entered = {name: Contestant(f"strays:{name}", "numpy", "numpy") for name in strays}
        ours = Contestant("benchmarks.contest.plain:prepare", "numpy", "numpy")
        monkeypatch.setattr(contestants, "CONTESTANTS", {"jaxnet": ours, **entered})

    return enter


def results(out):
    return json.loads((out / "results.json").read_text())


def states(out, net="3-4-1"):
    return {name: (c["state"], c["reason"]) for name, c in results(out)["nets"][net]["contestants"].items()}


def test_all_contestants_learn_the_same_and_are_told_of(tmp_path, monkeypatch, capsys):
    absent = contestants.CONTESTANTS["haiku"]._replace(package="no_such_package")
    monkeypatch.setitem(contestants.CONTESTANTS, "haiku", absent)
    out = tmp_path / "out"
    benchmark(BenchmarkConfig("training", str(out), seeds=2, against=("haiku", "scikit-learn"), nets=("3-4-1",)))
    told = results(out)["nets"]["3-4-1"]["contestants"]
    measured = {"jaxnet", "jax.grad, scanned", "jax.grad", "scikit-learn", "numpy"}
    assert told.keys() == {"haiku", *measured}
    for name in measured:
        c = told[name]
        assert c["state"] == "measured"
        assert c["deviation"] <= curve.TOLERANCE
        assert 0 < c["microseconds"]["least"] <= c["microseconds"]["median"] <= c["microseconds"]["most"]
        assert c["ratio"] == c["microseconds"]["median"] / told["jaxnet"]["microseconds"]["median"]
        assert c["memory"] > 1e7
    assert told["haiku"]["state"] == "not installed"
    # What XLA compiles shows; NumPy's memory is without JAX's.
    assert told["jaxnet"]["compilation"] > 0.05
    assert told["numpy"]["memory"] < 0.5 * told["jaxnet"]["memory"]
    # What a compiled program takes, the compiler tells.
    assert told["jaxnet"]["temporaries"] > 0
    assert told["jaxnet"]["memory_ratio"] == 1
    ours, theirs = (told[name]["temporaries"] for name in ("jaxnet", "jax.grad, scanned"))
    assert told["jax.grad, scanned"]["memory_ratio"] == theirs / ours
    assert told["numpy"]["temporaries"] is told["scikit-learn"]["memory_ratio"] is None
    assert (out / "training.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (out / "training.svg").read_text()
    printed = capsys.readouterr().out
    assert "\n3-4-1, batch 20: 6 contestants, rounds: 2\ncontestant  " in printed
    assert "\nhaiku: not installed: pip install -e '.[bench]'\n" in printed


def test_in_minibatches_scikit_learn_is_judged_by_the_network_that_it_knows(tmp_path, monkeypatch, capsys):
    chosen = {name: contestants.CONTESTANTS[name] for name in ("jaxnet", "scikit-learn")}
    monkeypatch.setattr(contestants, "CONTESTANTS", chosen)
    contest.run(tmp_path, 1, ("scikit-learn",), ("30-16-2",))
    told = results(tmp_path)["nets"]["30-16-2"]["contestants"]
    assert [c["state"] for c in told.values()] == ["measured", "measured"]
    assert [c["sizes"] for c in told.values()] == [[30, 16, 2], [30, 16, 1]]
    assert "\nscikit-learn (30-16-1)  " in capsys.readouterr().out


def test_a_learning_rate_that_is_a_hundredth_off_is_another_curve(tmp_path, enter, capsys):
    enter("faster")
    with pytest.raises(Failure) as error:
        contest.run(tmp_path, 1, (), ("3-4-1",))
    assert str(error.value) == (
        f"losses that are not the reference's: faster on 3-4-1; {tmp_path}/results.json has the rest"
    )
    assert error.value.status == 1
    told = results(tmp_path)["nets"]["3-4-1"]["contestants"]
    assert told["jaxnet"]["ratio"] == 1
    assert told["faster"]["ratio"] is None
    assert told["faster"]["deviation"] > 10 * curve.TOLERANCE
    assert "another curve: its losses are off by" in capsys.readouterr().out


def test_contestants_that_end_or_fall_silent_are_told_and_the_others_go_on(tmp_path, enter, monkeypatch, capsys):
    monkeypatch.setattr(process, "PATIENCE", 5.0)
    enter("raises", "silent", "talks_and_dies_later")
    contest.run(tmp_path, 2, (), ("3-4-1",))
    assert states(tmp_path) == {
        "jaxnet": ("measured", None),
        "raises": ("failed", "ValueError: no such layer"),
        "silent": ("failed", "no answer in 5 s"),
        "talks_and_dies_later": ("failed", "ended with status 3: on standard output"),
    }
    assert "\nraises: failed: ValueError: no such layer\n" in capsys.readouterr().out


def test_a_worker_ends_with_its_with_statement_and_when_nobody_asks_any_more():
    net = problems.NETS["3-4-1"]
    with process.Worker("benchmarks.contest.plain:prepare", net) as worker:
        assert len(worker.answer()["losses"]) == net.steps
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)
    command = [
        sys.executable,
        "-P",
        "-m",
        "benchmarks.contest.worker",
        "benchmarks.contest.plain:prepare",
        json.dumps(net._asdict()),
    ]
    done = subprocess.run(command, env=process.environment(), input="", capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout.splitlines()[-1])) == {"memory", "temporaries"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="workers are found in /proc")
def test_ctrl_c_is_one_line_and_leaves_no_worker(tmp_path):
    heed = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    script = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "training", "--out", "out", "--seeds", "1000"]
    with subprocess.Popen(
        [sys.executable, "-c", heed, *script], cwd=tmp_path, stdout=-1, stderr=-1, text=True
    ) as running:
        try:
            assert running.stdout.readline().startswith("device")
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
            while not children.read_text():
                assert running.poll() is None
            workers = children.read_text().split()
            running.send_signal(signal.SIGINT)
            _, stderr = running.communicate(timeout=30)
        finally:
            running.kill()
    assert running.returncode == 130
    assert stderr == "interrupted: nothing was written\n"
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_workers_are_not_pinned_to_a_slower_kernel(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "512")
    assert not {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"} & process.environment().keys()
    assert process.environment()["HOME"] == os.environ["HOME"]


def test_a_step_is_counted_without_the_product_that_nobody_needs():
    # Forward and dW of 3-4 and of 4-1, and back through 4-1 alone.
    net = problems.NETS["3-4-1"]._replace(batch=10)
    assert problems.operations(net) == 2 * 10 * (2 * 3 * 4 + 3 * 4 * 1)


@pytest.mark.parametrize(("losses", "infinite"), [([np.nan] * 30, True), ([0.5] * 29, True), ([0.5] * 30, False)])
def test_a_curve_that_is_not_finite_or_of_another_length_is_never_the_same(losses, infinite):
    problem = problems.make(problems.NETS["3-4-1"])
    assert np.isinf(curve.deviation(np.array(losses), problem)) == infinite
    assert curve.deviation(plain.losses(problem, 30), problem) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("kfac --against torch", "--against: an option of training, per-example, largest only; kfac has none"),
        (
            "devices --seeds 3",
            "--seeds: an option of training, scale, stream, shell, accelerator, per-example, forming, kfac, feedback, "
            "private only; devices has none",
        ),
        ("feedback --nets 3-4-1", "--nets: an option of training only; feedback has none"),
        ("training --kinds cnn", "--kinds: an option of per-example, largest only; training has none"),
        ("largest --kinds", "--kinds: expected at least one of dense, cnn, resnet, transformer, gru"),
        ("scale --kfac-jax python", "--kfac-jax: an option of kfac only; scale has none"),
        (
            "training --nets",
            "--nets: expected at least one of 3-4-1, 30-16-2, 64-64-10, 784-512-512-10, 784-1024-1024-1024-10, cnn, "
            "resnet, nanogpt, gru",
        ),
    ],
)
def test_a_wrong_command_line_is_one_line(line, message):
    with pytest.raises(BadInput) as error:
        parse(BenchmarkConfig, line.split())
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("line", "named"), [("--nets 3-4-2", "'3-4-1'"), ("--against flx", "'flax'"), ("--agains torch", "--against")]
)
def test_a_wrong_choice_is_named_beside_the_others(line, named, capsys):
    text = refused(BenchmarkConfig, ["training", *line.split()], capsys)
    assert line.split()[0 if "against" in named else 1] in text
    assert named in text
