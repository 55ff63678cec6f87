"""Runs that stop and go on: as if they had never stopped, whatever happened in between."""

import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from filelock import FileLock
from jax.experimental.compilation_cache import compilation_cache

import jaxnet as jn
from jaxnet.experiment import checkpoint, durable, folder
from jaxnet.experiment.config import TrainConfig
from jaxnet.experiment.errors import BadInput, Failure, Terminated
from jaxnet.experiment.run import run
from jaxnet.experiment.schedule import Schedule

pytestmark = pytest.mark.usefixtures("optax_promotion")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def without_figures(monkeypatch):
    """They take longer than the runs."""
    monkeypatch.setattr("jaxnet.experiment.run._draw", lambda *arguments: None)


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
    """Programs are compiled once for all runs here, in this process and in others."""
    kept = str(tmp_path_factory.mktemp("compiled"))
    jax.config.update("jax_compilation_cache_dir", kept)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    yield kept
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1)
    compilation_cache.reset_cache()


def outcome(where):
    """All that a finished run wrote but the times, as it is to the last bit."""
    lines = [json.loads(line) for line in (where / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((where / "result.json").read_text())
    for told in (*lines, result):
        del told["seconds"]
    with np.load(where / "model.npz") as archive:
        return lines, result, {name: archive[name].tobytes() for name in archive.files}


def options(where, **changes):
    return TrainConfig(**{"data": "iris", "hidden": (8,), "epochs": 3, "batch_size": 16, "out": str(where), **changes})


def copy_at(whole, where, step):
    """A run's folder as a kill after that step would have left it."""
    shutil.copytree(whole, where)
    for name in ("result.json", "model.npz", "figures"):
        path = where / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in checkpoint.found(where):
        if int(path.name.removeprefix("step-")) > step:
            shutil.rmtree(path)


CASES = {
    "adamw": {},
    "a whole epoch in a batch": {"batch_size": 500, "epochs": 4, "checkpoint_every": "1"},
    "kfac": {"optimizer": "kfac"},
    "noise": {"optimizer": "sgd", "clip_examples": 1.0, "noise_multiplier": 0.5},
    "feedback": {"feedback": "direct"},
    "early stopping": {"early_stopping": 2, "epochs": 12, "learning_rate": 0.1, "checkpoint_every": "7"},
    "bfloat16": {"dtype": "bfloat16"},
    "float64": {"dtype": "float64"},
    "epochs": {"checkpoint_every": "1epoch"},
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_goes_on_is_the_one_that_never_stopped(case, tmp_path):
    changes = {"checkpoint_every": "5", **CASES[case], "keep": 1000}
    whole = tmp_path / "whole"
    run(options(whole, **changes))
    steps = [int(path.name.removeprefix("step-")) for path in checkpoint.found(whole)]
    assert len(steps) >= 3
    # Of each kind of run from one place in the middle; of the plainest, from its first and its last too.
    for step in {steps[len(steps) // 2]} if CASES[case] else {steps[0], steps[len(steps) // 2], steps[-1]}:
        again = tmp_path / f"from-{step}"
        copy_at(whole, again, step)
        run(dataclasses.replace(options(whole, **changes), resume=str(again)))
        assert outcome(again) == outcome(whole), step


def test_from_disk_too(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxnet.experiment.stream.BLOCK_BYTES", 800)
    source = tmp_path / "data"
    source.mkdir()
    x = np.random.default_rng(0).normal(size=(150, 4)).astype(np.float32)
    np.save(source / "x.npy", x)
    np.save(source / "y.npy", x[:, :3].argmax(axis=1))
    changes = {"data": str(source), "stream": True, "checkpoint_every": "4", "keep": 1000}
    run(options(tmp_path / "whole", **changes))
    copy_at(tmp_path / "whole", tmp_path / "again", 12)
    run(options(tmp_path / "whole", **changes, resume=str(tmp_path / "again")))
    assert outcome(tmp_path / "again") == outcome(tmp_path / "whole")


def test_a_finished_run_goes_on_with_more_epochs(tmp_path):
    run(options(tmp_path / "long", checkpoint_every="1epoch"))
    run(options(tmp_path / "short", checkpoint_every="1epoch", epochs=2))
    run(options(tmp_path / "short", checkpoint_every="1epoch", resume=str(tmp_path / "short")))
    assert outcome(tmp_path / "short") == outcome(tmp_path / "long")
    assert json.loads((tmp_path / "short" / "config.json").read_text())["epochs"] == 3


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_saves_inside_of_an_epoch_and_the_run_goes_on(number, kind, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxnet.experiment.batches.PIECE_BYTES", 16 * 4 * 4 * 3)
    run(options(tmp_path / "whole"))
    cuts, handed_out = Schedule.cuts, []

    def cut(*arguments):
        for piece in cuts(*arguments):
            handed_out.append(piece)
            if len(handed_out) == 5:
                os.kill(os.getpid(), number)
        return cuts(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Schedule, "cuts", cut)
        with pytest.raises(kind, match=r"checkpoints/step-0000000\d\d, but no model; --resume .* goes on$"):
            run(options(tmp_path / "run"))
    (saved,) = checkpoint.found(tmp_path / "run")
    assert int(saved.name.removeprefix("step-")) % 7 != 0
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    run(options(tmp_path / "run", resume=str(tmp_path / "run")))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


FORKED = """
import os, random, signal, sys, time, warnings
warnings.simplefilter("ignore")
from jaxnet.experiment import durable
from jaxnet.experiment.config import TrainConfig
from jaxnet.experiment import run as module
import orbax.checkpoint, sklearn.datasets, sklearn.model_selection, matplotlib.pyplot, filelock

sys.stdout = open(os.devnull, "w")

def fork(child):
    number = os.fork()
    if number == 0:
        try:
            child()
        finally:
            os._exit(0)
    return number
"""


def forked(program, *arguments):
    """Runs a program that forks children which share its imports, so that many may be started and killed."""
    command = [sys.executable, "-c", FORKED + program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_up_to_fifty_kills_at_random_times_leave_a_run_that_finishes_as_if_there_had_been_none(compiled, tmp_path):
    done = forked(
        """
whole, where, kept, seed = sys.argv[1:]
import jax
jax.config.update("jax_compilation_cache_dir", kept)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
random.seed(int(seed))
module._draw = lambda *arguments: None
# Long enough for many kills, however fast the machine is.
options = dict(data="iris", hidden=(8,), epochs=1000, batch_size=16, checkpoint_every="37", keep=2)

def go(out):
    resume = out if os.path.exists(os.path.join(out, "config.json")) else None
    module.run(TrainConfig(**options, out=out, resume=resume))

os.waitpid(fork(lambda: go(whole)), 0)
kills = 0
while kills < 50 and not os.path.exists(os.path.join(where, "result.json")):
    child = fork(lambda: go(where))
    time.sleep(random.uniform(0.3, 1.3))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    kills += 1
if not os.path.exists(os.path.join(where, "result.json")):
    os.waitpid(fork(lambda: go(where)), 0)
print(kills, file=sys.stderr)
""",
        tmp_path / "whole",
        tmp_path / "run",
        compiled,
        random.Random(2026).randrange(10**6),
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[-1]) > 10
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


OPERATIONS = ("write_bytes", "fsync", "rename")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_any_write_fsync_or_rename_leaves_a_whole_checkpoint(when, tmp_path):
    """The second checkpoint is killed at its first operation, at its second, and so on, until it is written."""
    done = forked(
        """
from pathlib import Path
from jaxnet.experiment import checkpoint
import numpy as np
where, when = Path(sys.argv[1]), sys.argv[2]

def save(run, step):
    checkpoint.save(run, step, {"state": np.full(5, step)}, {"told": step}, keep=1)

def killed_at(number):
    left = [number]
    def wrap(operation):
        def wrapped(*arguments):
            left[0] -= 1
            if left[0] == 0 and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            operation(*arguments)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return wrapped
    for name in ("write_bytes", "fsync", "rename"):
        setattr(durable, name, wrap(getattr(durable, name)))

number, status = 0, 1
while status:
    number += 1
    run = where / str(number)
    run.mkdir()
    def child():
        save(run, 1)
        killed_at(number)
        save(run, 2)
    _, status = os.waitpid(fork(child), 0)
print(number, file=sys.stderr)
""",
        tmp_path,
        when,
    )
    assert done.returncode == 0, done.stderr
    count = int(done.stderr.split()[-1])
    # The arrays' files, the manifest, the folders, and the old checkpoint that goes.
    assert count > 15
    steps = []
    for number in range(1, count + 1):
        restored = checkpoint.restore(tmp_path / str(number), lambda told: {"state": np.zeros(5, int)})
        (step,) = set(restored.arrays["state"].tolist())
        assert restored.about["told"] == step
        assert restored.passed_over == ()
        steps.append(step)
    assert steps == sorted(steps)
    assert set(steps) == {1, 2}


@pytest.fixture
def two(tmp_path):
    """A run's folder with the checkpoints of two steps."""
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"W": np.full((30, 40), step, np.float32)}, {}, keep=2)
    return tmp_path


def restored(where, like=None):
    return checkpoint.restore(where, lambda told: {"W": np.zeros((30, 40), np.float32)} if like is None else like)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-2])


@pytest.mark.parametrize(("damage", "told"), [
    (flip, "is not as it was written"), (cut, "has N bytes, expected N"), (Path.unlink, "is missing"),
])  # fmt: skip
def test_a_damaged_file_is_named_and_the_checkpoint_before_is_used(damage, told, two):
    newest, _ = checkpoint.found(two)
    whole = {path: path.read_bytes() for path in newest.rglob("*") if path.is_file()}
    assert len(whole) > 5
    for path, content in whole.items():
        damage(path)
        name = str(path.relative_to(newest))
        found = restored(two)
        assert (found.arrays["W"] == 1).all()
        (line,) = found.passed_over
        expected = "is not as it was written" if name == "manifest.json" and damage is cut else told
        assert re.sub(r"\d+", "N", line.removeprefix(f"{newest}: ")) == re.sub(r"\d+", "N", f"{name} {expected}")
        path.write_bytes(content)
    assert (restored(two).arrays["W"] == 2).all()


def test_without_a_whole_checkpoint_nothing_is_used(two):
    for path in checkpoint.found(two):
        flip(path / "manifest.json")
    with pytest.raises(Failure) as error:
        restored(two)
    second, first = checkpoint.found(two)
    assert str(error.value) == (
        f"{two}: holds no whole checkpoint to go on from: {second}: manifest.json is not as it was written; "
        f"{first}: manifest.json is not as it was written; start the run anew with --overwrite"
    )


@pytest.mark.parametrize(("like", "told"), [
    ({"W": np.zeros((30, 41), np.float32)}, "['W'] is [30, 40] float32 there, and [30, 41] float32 in this run"),
    ({"W": np.zeros((30, 40), np.float64)}, "['W'] is [30, 40] float32 there, and [30, 40] float64 in this run"),
    ({"V": np.zeros((30, 40), np.float32)}, "['V'] is nothing there, and [30, 40] float32 in this run"),
])  # fmt: skip
def test_other_shapes_types_and_names_are_refused(like, told, two):
    with pytest.raises(Failure) as error:
        restored(two, like)
    assert str(error.value) == f"{checkpoint.found(two)[0]}: {told}"


def test_a_disk_that_is_full_is_told_and_the_checkpoint_before_stays(two):
    """Files of this process may not grow over 2,000 bytes, as if there were no more room."""
    done = forked(
        """
import resource
from pathlib import Path
from jaxnet.experiment import checkpoint
from jaxnet.experiment.errors import Failure
import numpy as np
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    checkpoint.save(Path(sys.argv[1]), 3, {"W": np.random.rand(30, 40).astype("f")}, {}, keep=2)
except Failure as failure:
    print(failure, file=sys.stderr)
""",
        two,
    )
    assert f"{two}/checkpoints/step-000000003: the checkpoint cannot be written (" in done.stderr
    assert done.stderr.strip().endswith(f"); {two}/checkpoints/step-000000002 is as it was")
    assert [path.name for path in sorted((two / "checkpoints").iterdir())] == ["step-000000001", "step-000000002"]
    assert (restored(two).arrays["W"] == 2).all()


def test_a_folder_that_cannot_be_written_is_told(two, monkeypatch):
    def refuse(path, content):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(durable, "write_bytes", refuse)
    with pytest.raises(Failure) as error:
        checkpoint.save(two, 3, {"W": np.zeros(3)}, {}, keep=2)
    new, old = (two / "checkpoints" / f"step-00000000{step}" for step in (3, 2))
    assert str(error.value) == (f"{new}: the checkpoint cannot be written (Read-only file system); {old} is as it was")


def test_a_folder_in_use_is_refused_and_a_lock_left_behind_is_not(tmp_path):
    out = tmp_path / "run"
    run(options(out, epochs=1, checkpoint_every="1epoch"))
    assert (out / folder.LOCK).exists()
    with FileLock(out / folder.LOCK):
        for again in (options(out, overwrite=True), options(out, epochs=2, checkpoint_every="1epoch", resume=str(out))):
            with pytest.raises(BadInput) as error:
                run(again)
            assert str(error.value) == (
                f"{out}: another run is writing there; wait for its end, or choose another folder"
            )
    run(options(out, epochs=2, checkpoint_every="1epoch", resume=str(out)))


def test_what_cannot_be_resumed_is_named(tmp_path):
    out = tmp_path / "run"
    changes = {"checkpoint_every": "1epoch", "epochs": 2}
    run(options(out, **changes))
    other = {"resume": str(out), "epochs": 3, "checkpoint_every": "1epoch"}
    for config, message in (
        (
            options(out, resume=str(out), **changes),
            f"--resume {out}: the run is finished; give it more --epochs than 2 to go on",
        ),
        (
            options(out, **{**other, "batch_size": 8}),
            f"--batch-size 8: the run in {out} was started with 16; leave it out",
        ),
        (options(out, **{**other, "hidden": ()}), f"--hidden none: the run in {out} was started with 8; leave it out"),
        (
            options(out, **{**other, "resume": str(tmp_path)}),
            f"--resume {tmp_path}: holds no run (config.json: No such file or directory)",
        ),
    ):
        with pytest.raises(BadInput) as error:
            run(config)
        assert str(error.value) == message
    (out / "config.json").write_text("{")
    with pytest.raises(BadInput, match=r"config\.json is damaged, or of another version of jaxnet$"):
        folder.read_config(out)


def test_other_data_is_refused(tmp_path):
    source = tmp_path / "a.csv"
    rows = [f"{x},{x * x % 7},{'ab'[x % 2]}" for x in range(60)]
    source.write_text("\n".join(["p,q,y", *rows]))
    changes = {"data": str(source), "target": ("y",), "checkpoint_every": "1epoch"}
    run(options(tmp_path / "run", **changes, epochs=1))
    rows[7] = rows[7].replace("7,", "8,", 1)
    source.write_text("\n".join(["p,q,y", *rows]))
    with pytest.raises(
        Failure, match=r"step-\d+: was trained on other data than --data .*a\.csv holds now; .*run holds"
    ):
        run(options(tmp_path / "run", **changes, resume=str(tmp_path / "run")))


def test_a_second_signal_ends_the_process_at_once():
    done = forked(
        """
from jaxnet.experiment.stopping import on_signals
def child():
    with on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
_, status = os.waitpid(fork(child), 0)
print(os.waitstatus_to_exitcode(status), file=sys.stderr)
"""
    )
    assert done.stderr.splitlines()[-2:] == ["stopped at once", "130"]


def test_no_checkpoint_holds_what_is_not_finite(tmp_path):
    changes = {"data": "diabetes", "optimizer": "sgd", "checkpoint_every": "1", "keep": 1000}
    with pytest.raises(Failure, match=r"no longer finite (in epoch 1, batch \d+|after step \d+)"):
        run(options(tmp_path / "run", **changes, learning_rate=30.0))
    kept = checkpoint.found(tmp_path / "run")
    assert kept
    state = jn.TrainState.create(jn.mlp((10, 8, 1)).init(jax.random.key(0)), optax.sgd(1.0))
    for path in kept:
        (tmp_path / "one" / "checkpoints").mkdir(parents=True)
        shutil.copytree(path, tmp_path / "one" / "checkpoints" / path.name)
        found = checkpoint.restore(
            tmp_path / "one", lambda told: {"state": state, "best": (), "losses": np.zeros(told["losses"], np.float32)}
        )
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.arrays["state"].params))
        shutil.rmtree(tmp_path / "one")


@pytest.mark.parametrize(("text", "schedule"), [
    ("500", Schedule(500, "steps")), ("60s", Schedule(60, "seconds")), ("2epochs", Schedule(2, "epochs")),
    ("1epoch", Schedule(1, "epochs")), ("0", Schedule(0, "steps")),
])  # fmt: skip
def test_schedules_are_read(text, schedule):
    assert Schedule.read(text) == schedule


def test_cuts_lie_at_the_same_places_wherever_the_run_goes_on():
    schedule = Schedule(5, "steps")
    whole = schedule.cuts(0, batches=12, step=24, most=4)
    assert whole == [(0, 1), (1, 4), (4, 6), (6, 8), (8, 11), (11, 12)]
    for start, _ in whole:
        assert schedule.cuts(start, batches=12, step=24, most=4) == [cut for cut in whole if cut[0] >= start]
    assert Schedule(60, "seconds").cuts(3, batches=7, step=0, most=100) == [(3, 7)]
