"""Runs of two real processes with two devices each, on this machine: what one process computes, and how they end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from on_disk import three_classes

from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console.errors import option
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.training import budget

pytestmark = pytest.mark.usefixtures("optax_promotion")
ROOT = Path(__file__).parents[3]
# As scripts/train.py, without figures and samples, with known keys, and with a count of the rows read from disk.
PROGRAM = """
import sys
from jaxnet.experiment.commands import ending, text_runs, train as module
from jaxnet.experiment.console.errors import exit_status
from jaxnet.experiment.data.source import OnDisk
from jaxnet.experiment.data.windows import Windows
from jaxnet.experiment.storage.samples import Samples
from jaxnet.experiment.training import budget
ending.draw = text_runs.draw = Samples.add = lambda *arguments: None
rows = 0
read = OnDisk.read
def counted(self, at, dtype):
    global rows
    values = read(self, at, dtype)
    # Raw rows are looked at before training.
    rows += len(values) if self.scaling is not None else 0
    return values
OnDisk.read = counted
taken = Windows.__getitem__
def counted_windows(self, at):
    global rows
    # Slices are of the first one, for its shape.
    rows += 0 if isinstance(at, slice) else len(at)
    return taken(self, at)
Windows.__getitem__ = counted_windows
# Of a private run: no secret, and another in each process.
words = iter(range(1000 * ("--process-id=1" in sys.argv), 9999))
budget.secrets.randbits = lambda bits: next(words)
status = exit_status(module.main)
print("rows", rows, file=sys.stderr)
sys.exit(status)
"""
# Four batches an epoch, and checkpoints in the middle of epochs and at their ends: programs of two lengths.
OPTIONS = {
    "hidden": (8, 4),
    "activation": "tanh",
    "batch_size": 27,
    "dtype": "float64",
    "checkpoint_every": "10",
    "epochs": 40,
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return three_classes(tmp_path_factory.mktemp("source") / "data")


def start(slurm=False, **options):
    """Two processes of a run, told by options, or by what Slurm tells its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = []
    for name, value in options.items():
        values = () if value is True else value if isinstance(value, tuple) else (value,)
        line += [option(name), *map(str, values)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    if slurm:
        environment |= {"SLURM_JOB_ID": str(port), "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": "2"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *line, "--distributed"]
            + ([] if slurm else [f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--process-id={number}"]),
            cwd=ROOT,
            env=environment | ({"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)} if slurm else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (0, 1)
    ]


def ended(processes):
    """The statuses, and the lines of stderr that are a program's and not JAX's."""
    told = [process.communicate(timeout=300) for process in processes]
    beginnings = ("error: ", "terminated: ", "rows ")
    lines = [[line for line in err.splitlines() if line.startswith(beginnings)] for _, err in told]
    return [process.returncode for process in processes], lines, [out for out, _ in told]


def wait_for_epoch(out, number, processes):
    """Until the run's metrics have so many lines."""
    metrics, deadline = out / "metrics.jsonl", time.monotonic() + 200
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < number:
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes), ended(processes)
        time.sleep(0.02)


def outcome(out, epochs=OPTIONS["epochs"]):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, epochs + 1))
    with np.load(out / "model.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if archive[name].dtype.kind == "f"}
    return arrays | {"losses": np.array([[line["train_loss"], line["validation_loss"]] for line in lines])}


def assert_the_same(actual, expected):
    """But for sums in another order, 160 steps long."""
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=0, atol=1e-12 * np.abs(array).max(initial=1), err_msg=name)


@pytest.fixture(scope="module")
def expected(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("expected") / "one"
    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as patched:
        patched.setattr("jaxnet.experiment.commands.ending.draw", lambda *arguments: None)
        run(TrainConfig(**OPTIONS, data=str(source), out=str(out)))
    return outcome(out)


def test_two_processes_train_as_one_and_each_reads_only_its_rows(source, expected, tmp_path):
    out = tmp_path / "two"
    statuses, lines, printed = ended(start(data=source, out=out, stream=True, mesh="data=2,model=2", **OPTIONS))
    assert statuses == [0, 0], lines
    assert_the_same(outcome(out), expected)
    # Half of 40 epochs of 4 batches of 28 rows and of 16 rows of validation, and of 30 rows of the test.
    read = [int(of_process[-1].split()[1]) for of_process in lines]
    assert read == [40 * (4 * 14 + 8) + 15] * 2
    assert "2 for examples x 2 for neurons, in 2 processes" in printed[0]
    assert "validation loss" not in printed[1]


def test_two_processes_train_a_transformer_on_tokens_as_one_does_and_each_reads_only_its_windows(tmp_path, monkeypatch):
    tokens = tmp_path / "tokens.npy"
    np.save(tokens, np.random.default_rng(0).integers(256, size=1200).astype(np.uint16))
    sizes = {"model": "transformer", "context": 8, "width": 8, "heads": 2, "depth": 1}
    told = {"tokens": "bytes", "batch_size": 30, "dtype": "float64", "epochs": 1, "optimizer": "sgd", "stream": True}
    told |= sizes
    processes = start(data=tokens, out=tmp_path / "two", mesh="data=4", shard_state=True, **told)
    monkeypatch.setattr("jaxnet.experiment.commands.text_runs.draw", lambda *arguments: None)
    monkeypatch.setattr("jaxnet.experiment.storage.samples.Samples.add", lambda *arguments: None)
    run(TrainConfig(**told, data=str(tokens), out=str(tmp_path / "one")))
    statuses, lines, _ = ended(processes)
    assert statuses == [0, 0], lines
    assert_the_same(outcome(tmp_path / "two", epochs=1), outcome(tmp_path / "one", epochs=1))
    # Windows and those that follow: half of 5 batches of 32, of 8 of validation, and of 8 of the test.
    read = [int(of_process[-1].split()[1]) for of_process in lines]
    assert read == [2 * (5 * 16 + 4 + 4)] * 2


def test_two_processes_of_a_private_run_draw_the_same_examples_and_add_one_noise(source, tmp_path, monkeypatch):
    """By the keys of the first: the other's would draw other examples, and a second noise would be seen."""
    told = {**OPTIONS, "epochs": 1, "private_epsilon": 2.0, "private_delta": 1e-4, "clip_examples": 1.0}
    processes = start(data=source, out=tmp_path / "two", **told)
    words = iter(range(4))
    monkeypatch.setattr(budget.secrets, "randbits", lambda bits: next(words))
    monkeypatch.setattr("jaxnet.experiment.commands.ending.draw", lambda *arguments: None)
    run(TrainConfig(**told, data=str(source), out=str(tmp_path / "one")))
    statuses, lines, _ = ended(processes)
    assert statuses == [0, 0], lines
    assert_the_same(outcome(tmp_path / "two", epochs=1), outcome(tmp_path / "one", epochs=1))


def test_a_run_is_terminated_at_one_step_then_killed_and_goes_on_as_if_nothing_had_been(source, expected, tmp_path):
    out = tmp_path / "two"
    processes = start(data=source, out=out, **OPTIONS)
    wait_for_epoch(out, 3, processes)
    processes[1].terminate()
    statuses, lines, _ = ended(processes)
    assert statuses == [143, 143], lines
    # The same line, with the same checkpoint, from both.
    assert lines[0][0] == lines[1][0]
    assert lines[0][0].startswith(f"terminated: {out} holds config.json, metrics.jsonl (")
    assert lines[0][0].endswith(f"but no model; --resume {out} goes on")
    stopped = (out / "metrics.jsonl").read_bytes().count(b"\n")
    assert f"({stopped} epochs)" in lines[0][0]
    assert stopped < OPTIONS["epochs"]

    processes = start(resume=out)
    wait_for_epoch(out, stopped + 3, processes)
    processes[1].kill()
    killed = time.monotonic()
    statuses, lines, _ = ended(processes)
    assert time.monotonic() - killed < 30
    # JAX aborts what is left, unless a sum over the processes fails before.
    assert statuses[0] in (-signal.SIGABRT, 1)
    assert statuses[1] == -signal.SIGKILL
    for (line,) in lines:
        assert re.fullmatch(
            r"error: this process, or another one of the run, was ended from outside( \(.*\))?; start all processes "
            f"again with --resume {out}, which goes on from the newest checkpoint",
            line,
        )

    statuses, lines, _ = ended(start(resume=out))
    assert statuses == [0, 0], lines
    assert_the_same(outcome(out), expected)


def test_what_is_wrong_is_told_by_both_of_slurms_processes(tmp_path):
    statuses, lines, _ = ended(start(slurm=True, data="nosuch.csv", out=tmp_path / "two"))
    assert statuses == [2, 2]
    assert [of_process[0] for of_process in lines] == ["error: --data nosuch.csv: no such file or folder"] * 2
    assert not (tmp_path / "two").exists()
