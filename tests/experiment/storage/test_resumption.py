"""Runs that stop and go on: as if they had never stopped, whatever happened in between."""

import dataclasses
import fcntl
import json
import os
import random
import shutil
import signal
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from filelock import FileLock
from forked import forked
from on_disk import three_classes

import jaxnet as jn
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.console.errors import BadInput, Failure, Terminated
from jaxnet.experiment.options.cadence import Cadence
from jaxnet.experiment.options.resumed import restored
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import checkpoint, folder, place
from jaxnet.experiment.storage.manifest import sealed
from jaxnet.experiment.storage.metrics_file import Metrics
from jaxnet.experiment.storage.resumption import resume, save
from jaxnet.experiment.training.position import Epoch, Position

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_figures")
ROOT = Path(__file__).parents[3]


def outcome(where):
    """All that a finished run wrote but the times, as it is to the last bit."""
    lines = [json.loads(line) for line in (where / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((where / "result.json").read_text())
    for told in (*lines, result):
        del told["seconds"]
    with np.load(where / "model.npz") as archive:
        return lines, result, {name: archive[name].tobytes() for name in archive.files}


def contents(where):
    """All files of a folder but the lock."""
    return {path: path.read_bytes() for path in where.rglob("*") if path.is_file() and path.name != place.LOCK}


def options(where, **changes):
    return TrainConfig(**{"data": "iris", "hidden": (8,), "epochs": 3, "batch_size": 16, "out": str(where), **changes})


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """(epochs) -> the folder of a run with no other options, which is made once and is not to be changed."""
    made = {}

    def of(epochs):
        if epochs not in made:
            made[epochs] = tmp_path_factory.mktemp("plain") / f"{epochs}"
            run(options(made[epochs], epochs=epochs))
        return made[epochs]

    return of


def copy_of(whole, where):
    """A finished run's folder elsewhere, as if it had been trained there."""
    shutil.copytree(whole, where)
    stored = json.loads((where / "config.json").read_text())
    (where / "config.json").write_text(json.dumps(stored | {"out": str(where)}))
    return where


def copy_at(whole, where, step):
    """A run's folder as a kill after that step would have left it."""
    shutil.copytree(whole, where)
    for name in ("result.json", "model.npz", "figures"):
        path = where / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in checkpoint.found(where):
        if int(path.name.removeprefix("step-")) > step:
            shutil.rmtree(path)


# Six batches an epoch, and checkpoints inside of epochs and at their ends: programs of two lengths.
INSIDE = {"batch_size": 18, "checkpoint_every": "4"}
CASES = {
    "adamw": INSIDE,
    "a whole epoch in a batch": {"batch_size": 500, "epochs": 4, "checkpoint_every": "1"},
    "kfac": {**INSIDE, "optimizer": "kfac"},
    "noise": {**INSIDE, "optimizer": "sgd", "clip_examples": 1.0, "noise_multiplier": 0.5},
    "feedback in float64": {**INSIDE, "feedback": "direct", "dtype": "float64"},
    "early stopping": {"early_stopping": 2, "epochs": 12, "learning_rate": 0.1, "checkpoint_every": "7"},
    "two seeds": {"seeds": 2, "early_stopping": 2, "learning_rate": 0.05, "batch_size": 53, "checkpoint_every": "3"},
    "images that are moved, cropped and mirrored": {
        "data": "digits",
        "model": "cnn",
        "channels": (2,),
        "shift": 1,
        "crop": 2,
        "flip": True,
        "batch_size": 500,
        "checkpoint_every": "3",
    },
    "bfloat16, at epochs, with a rate that rises and falls": {
        "dtype": "bfloat16",
        "checkpoint_every": "1epoch",
        "schedule": "warmup-cosine",
        "warmup": "2",
        "accumulate": 3,
        "clip_gradient": 0.5,
        "label_smoothing": 0.1,
        "beta2": 0.99,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_goes_on_is_the_one_that_never_stopped(case, tmp_path):
    changes = {**CASES[case], "keep": 1000}
    whole = tmp_path / "whole"
    run(options(whole, **changes))
    steps = [int(path.name.removeprefix("step-")) for path in checkpoint.found(whole)]
    assert len(steps) >= 3
    # Of each kind of run from one place in the middle; of the plainest, from its first and its last too.
    middle = steps[len(steps) // 2]
    for step in {steps[0], middle, steps[-1]} if case == "adamw" else {middle}:
        again = tmp_path / f"from-{step}"
        copy_at(whole, again, step)
        run(dataclasses.replace(options(whole, **changes), resume=str(again)))
        assert outcome(again) == outcome(whole), step


def test_from_disk_too(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxnet.experiment.training.blocks.BLOCK_BYTES", 800)
    source = three_classes(tmp_path / "data", "float32")
    changes = {"data": str(source), "stream": True, "checkpoint_every": "4", "keep": 1000}
    run(options(tmp_path / "whole", **changes))
    copy_at(tmp_path / "whole", tmp_path / "again", 12)
    run(options(tmp_path / "whole", **changes, resume=str(tmp_path / "again")))
    assert outcome(tmp_path / "again") == outcome(tmp_path / "whole")


def test_a_finished_run_goes_on_with_more_epochs(tmp_path):
    run(options(tmp_path / "long", checkpoint_every="1epoch"))
    run(options(tmp_path / "short", checkpoint_every="1epoch", epochs=2))
    more = options(tmp_path / "short", checkpoint_every="1epoch", resume=str(tmp_path / "short"))
    run(dataclasses.replace(more, out=None))
    assert outcome(tmp_path / "short") == outcome(tmp_path / "long")
    assert folder.read_options(tmp_path / "short", restored) == dataclasses.replace(more, resume=None)


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_saves_inside_of_an_epoch_and_the_run_goes_on(number, kind, plain, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxnet.experiment.training.batches.PIECE_BYTES", 16 * 4 * 4 * 3)
    cuts, handed_out = Cadence.cuts, []

    def cut(*arguments):
        for piece in cuts(*arguments):
            handed_out.append(piece)
            if len(handed_out) == 5:
                os.kill(os.getpid(), number)
        return cuts(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Cadence, "cuts", cut)
        with pytest.raises(kind, match=r"checkpoints/step-0000000\d\d, but no model; --resume .* goes on$"):
            run(options(tmp_path / "run"))
    # The first one is of the first epoch's end.
    saved, _ = checkpoint.found(tmp_path / "run")
    assert int(saved.name.removeprefix("step-")) % 7 != 0
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    run(options(tmp_path / "run", resume=str(tmp_path / "run")))
    assert outcome(tmp_path / "run") == outcome(plain(3))


def test_kills_at_random_times_leave_a_run_that_finishes_as_if_there_had_been_none(compiled, tmp_path):
    done = forked(
        """
whole, where, kept, seed = sys.argv[1:]
import jax
jax.config.update("jax_compilation_cache_dir", kept)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
random.seed(int(seed))
ending.draw = lambda *arguments: None
# Long enough for many kills, however fast the machine is.
options = dict(data="iris", hidden=(8,), epochs=250, batch_size=16, checkpoint_every="37", keep=2)

def go(out):
    resume = out if os.path.exists(os.path.join(out, "config.json")) else None
    module.run(TrainConfig(**options, out=out, resume=resume))

os.waitpid(fork(lambda: go(whole)), 0)
kills = 0
while kills < 12 and not os.path.exists(os.path.join(where, "result.json")):
    child = fork(lambda: go(where))
    time.sleep(random.uniform(0.3, 1.0))
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
    assert int(done.stderr.split()[-1]) > 4
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_a_folder_in_use_is_refused_and_a_lock_left_behind_is_not(tmp_path):
    out = tmp_path / "run"
    run(options(out, epochs=1))
    assert not (out / place.LOCK).exists()
    with FileLock(out / place.LOCK):
        for again in (options(out, overwrite=True), options(out, epochs=2, resume=str(out))):
            with pytest.raises(BadInput) as error:
                run(again)
            assert str(error.value) == (
                f"{out}: another run is writing there; wait for its end, or choose another folder"
            )
    # A process that was killed leaves the file.
    assert (out / place.LOCK).exists()
    run(options(out, epochs=2, resume=str(out)))
    assert not (out / place.LOCK).exists()


def test_a_lock_on_a_file_that_its_holder_has_just_removed_is_none(tmp_path, monkeypatch):
    """A second run opens the file, the first one removes it and ends, and only then the second one locks it."""
    out, flock = tmp_path / "run", fcntl.flock
    run(options(out, epochs=1, checkpoint_every="0"))
    first, seen, at_release = ExitStack(), [], []

    def late(descriptor, operation):
        if operation == fcntl.LOCK_UN:
            at_release.append((out / place.LOCK).exists())
        if operation & fcntl.LOCK_EX and not seen:
            seen.append(os.fstat(descriptor).st_ino)
            assert seen == [(out / place.LOCK).stat().st_ino]
            first.close()
        return flock(descriptor, operation)

    folder.again(out, first)
    monkeypatch.setattr(fcntl, "flock", late)
    with ExitStack() as second, suppress(BadInput):
        folder.again(out, second)
        # Where it was not refused, it holds what others find there.
        with pytest.raises(BadInput, match="another run is writing there"):
            folder.again(out, ExitStack())
    assert len(seen) == 1
    # Nobody's lock but its own can be removed while it is held.
    assert at_release
    assert not any(at_release)
    assert not (out / place.LOCK).exists()
    with ExitStack() as third:
        folder.again(out, third)


def test_what_cannot_be_resumed_is_named(tmp_path, without_shape_annotations):
    out = tmp_path / "run"
    changes = {"checkpoint_every": "1epoch", "epochs": 2}
    run(options(out, **changes))
    before = contents(out)
    other = {"resume": str(out), "epochs": 3, "checkpoint_every": "1epoch"}
    finished = f"--resume {out}: the run is finished; give it more --epochs than 2 to go on"
    for config, message in (
        (options(out, resume=str(out), **changes), finished),
        (options(out, resume=str(out), **changes | {"epochs": 1}), finished),
        (
            options(out, **{**other, "batch_size": 8}),
            f"--batch-size 8: the run in {out} was started with 16; leave it out",
        ),
        (options(out, **{**other, "hidden": ()}), f"--hidden none: the run in {out} was started with 8; leave it out"),
        (
            options(out, **{**other, "resume": str(tmp_path)}),
            f"--resume {tmp_path}: holds no run (config.json: No such file or directory)",
        ),
        (
            options(out, **{**other, "resume": str(out / "config.json")}),
            f"--resume {out}/config.json: is a file; expected the folder of a run",
        ),
    ):
        with pytest.raises(BadInput) as error:
            run(config)
        assert str(error.value) == message
        assert contents(out) == before
    stored = json.loads((out / "config.json").read_text())
    other_types = {"epochs": "3", "activation": "rleu", "stream": 1, "hidden": [8, None]}
    for content in (
        "{",
        *(json.dumps(stored | {name: value}) for name, value in other_types.items()),
        # As one that had no such option wrote it.
        json.dumps({name: value for name, value in stored.items() if name != "scale"}),
        "[" * 100_000,
    ):
        (out / "config.json").write_text(content)
        with pytest.raises(BadInput, match=r"config\.json is damaged, or of another version of jaxnet$"):
            folder.read_options(out, restored)


def test_what_is_about_one_start_is_given_anew(tmp_path):
    several = {"distributed": True, "coordinator": "127.0.0.1:1", "processes": 2, "process_id": 1, "profile": True}
    config = options(tmp_path, **several, mesh="data=2")
    folder.write_json(tmp_path / folder.CONFIG, dataclasses.asdict(config))
    assert folder.read_options(tmp_path, restored) == options(tmp_path, mesh="data=2")


@pytest.fixture
def stopped(monkeypatch):
    """Has Ctrl-C pressed in an epoch, or the process end before the first one of a start."""

    def at(epoch):
        add, begin = Metrics.add, Metrics.begin

        def added(self, done):
            add(self, done)
            if done.number == epoch:
                os.kill(os.getpid(), signal.SIGTERM)

        def begun(self, epochs):
            begin(self, epochs)
            if epoch == "start":
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Metrics, "add", added)
            patched.setattr(Metrics, "begin", begun)
            yield

    return contextmanager(at)


@pytest.mark.parametrize("at", ["start", 3, 4])
def test_an_extended_run_that_was_stopped_goes_on(at, stopped, plain, tmp_path):
    """Before an epoch of the extension, in the middle, and after the last one, before its result was written."""
    out = copy_of(plain(2), tmp_path / "run")
    with stopped(at), pytest.raises((KeyboardInterrupt, Terminated)) as told:
        run(options(out, epochs=4, resume=str(out)))
    done, step = (2, 14) if at == "start" else (at, 7 * at)
    held = f"metrics.jsonl ({done} epochs), model.npz, result.json"
    of_the_end = "" if at == "start" else f" (of 2 epochs), checkpoints/step-{step:09d}; --resume {out} goes on"
    assert str(told.value).startswith(f"{out} holds config.json, {held}{of_the_end}")
    # As the command line has it: the options are those that it goes on with.
    run(dataclasses.replace(folder.read_options(out, restored), resume=str(out)))
    assert outcome(out) == outcome(plain(4))
    with pytest.raises(BadInput) as finished:
        run(options(out, epochs=4, resume=str(out)))
    assert str(finished.value) == f"--resume {out}: the run is finished; give it more --epochs than 4 to go on"


def test_a_run_that_ended_early_is_finished_whatever_epochs_it_is_given(tmp_path):
    out, changes = tmp_path / "run", {"early_stopping": 1, "learning_rate": 0.5, "epochs": 40}
    epochs = run(options(out, **changes))["epochs"]
    assert epochs < 40
    with pytest.raises(BadInput) as error:
        run(options(out, **changes | {"epochs": 50}, resume=str(out)))
    assert str(error.value) == (
        f"--resume {out}: the run is finished: --early-stopping 1 ended it after epoch {epochs}, and more --epochs do "
        "not change that"
    )


def test_a_run_of_a_moment_goes_on_too(plain, tmp_path):
    copy_of(plain(2), tmp_path / "run")
    assert [path.name for path in checkpoint.found(tmp_path / "run")] == ["step-000000014", "step-000000007"]
    run(options(tmp_path / "run", epochs=3, resume=str(tmp_path / "run")))
    assert outcome(tmp_path / "run") == outcome(plain(3))


def test_where_an_epoch_is_told_there_is_a_checkpoint_unless_there_are_to_be_none(tmp_path, monkeypatch):
    add, seen = Metrics.add, []

    def added(self, epoch):
        add(self, epoch)
        seen.append(len(checkpoint.found(self._path.parent)))

    monkeypatch.setattr(Metrics, "add", added)
    run(options(tmp_path / "some", checkpoint_every="2epochs", epochs=3))
    run(options(tmp_path / "none", checkpoint_every="0", epochs=3))
    assert seen == [1, 1, 2, 0, 0, 0]


@pytest.mark.parametrize("every", ["60s", "0"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_run_without_its_checkpoints_is_not_begun_anew(finished, every, stopped, tmp_path):
    out = tmp_path / "run"
    if finished:
        run(options(out, epochs=2, checkpoint_every=every))
    else:
        with stopped(2), pytest.raises(Terminated):
            run(options(out, checkpoint_every=every))
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    before = contents(out)
    with pytest.raises(BadInput) as error:
        run(options(out, epochs=3, checkpoint_every=every, resume=str(out)))
    assert str(error.value) == (
        f"--resume {out}: holds 2 epochs and no checkpoint to go on from; bring {out}/checkpoints back from a copy, or "
        f"start anew with --out {out} --overwrite"
    )
    assert contents(out) == before


def test_the_same_data_elsewhere_and_another_working_directory_will_do(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    rng = np.random.default_rng(0)
    np.savez("d.npz", x=rng.normal(size=(60, 2)), y=rng.normal(size=60))
    run(options("run", data="d.npz", epochs=1))
    run(options("whole", data="d.npz", epochs=4))
    # Another working directory: the whole path is known.
    monkeypatch.chdir(tmp_path)
    stored = folder.read_options(Path("a/run"), restored)
    assert stored.data == str(tmp_path / "a" / "d.npz")
    run(dataclasses.replace(stored, resume="a/run", epochs=2))
    # Moved, and not told where to.
    (tmp_path / "a" / "d.npz").rename("e.npz")
    before = contents(tmp_path / "a" / "run")
    with pytest.raises(BadInput) as error:
        run(dataclasses.replace(stored, resume="a/run", epochs=3))
    assert str(error.value) == (
        f"--data {stored.data}: no such file or folder; give --data with where the data of the run in a/run are now"
    )
    assert contents(tmp_path / "a" / "run") == before
    run(dataclasses.replace(stored, resume="a/run", epochs=3, data="e.npz"))
    # From here on it is there.
    monkeypatch.chdir(tmp_path / "a")
    run(dataclasses.replace(folder.read_options(Path("run"), restored), resume="run", epochs=4))
    assert outcome(tmp_path / "a" / "run") == outcome(tmp_path / "a" / "whole")


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """x, y, and a function that gives the folder of a run on them, which is made once and is not to be changed."""
    where = tmp_path_factory.mktemp("learnt")
    x, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) / 7

    def made():
        if not (where / "run").exists():
            np.savez(where / "d.npz", x=x, y=y)
            run(options(where / "run", data=str(where / "d.npz"), epochs=1))
        return where / "run"

    return x, y, made


@pytest.mark.parametrize("change", [
    lambda x, y: (x + (np.arange(60) == 7)[:, None], y),
    lambda x, y: (x[:59], y[:59]),
    lambda x, y: (x[:, :1], y),
    lambda x, y: (x, np.stack([y, y], axis=1)),
])  # fmt: skip
def test_other_data_are_refused_whatever_they_differ_in(change, learnt, tmp_path):
    x, y, made = learnt
    before, (other_x, other_y) = contents(made()), change(x, y)
    np.savez(tmp_path / "e.npz", x=other_x, y=other_y)
    with pytest.raises(BadInput) as error:
        run(options(made(), data=str(tmp_path / "e.npz"), resume=str(made())))
    assert str(error.value) == (
        f"{made()}/checkpoints/step-000000003: was trained on other data than --data {tmp_path}/e.npz holds now"
    )
    assert contents(made()) == before


def test_other_data_is_refused(tmp_path):
    source = tmp_path / "a.csv"
    rows = [f"{x},{x * x % 7},{'ab'[x % 2]}" for x in range(60)]
    source.write_text("\n".join(["p,q,y", *rows]))
    changes = {"data": str(source), "target": ("y",), "checkpoint_every": "1epoch"}
    run(options(tmp_path / "run", **changes, epochs=1))
    rows[7] = rows[7].replace("7,", "8,", 1)
    source.write_text("\n".join(["p,q,y", *rows]))
    before = contents(tmp_path / "run")
    with pytest.raises(BadInput, match=r"step-\d+: was trained on other data than --data .*a\.csv holds now$"):
        run(options(tmp_path / "run", **changes, resume=str(tmp_path / "run")))
    # Not even the options are those of the run that did not go on.
    assert contents(tmp_path / "run") == before


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """A folder with checkpoints after a step, and after the second, which ended an epoch; the start; what all tell."""
    whole, about = tmp_path_factory.mktemp("two"), {"config": {"data": "iris"}, "data": "0"}
    state = jn.TrainState.create(jn.mlp((4, 2, 1)).init(jax.random.key(0)), optax.sgd(1.0))
    start = Position(state, np.zeros(0, np.float32), (), (), 0, 0.0)
    first = start._replace(state=state._replace(step=state.step + 1), losses=np.ones(1, np.float32))
    epoch = Epoch(1, 1.0, 1.0, 1.0, 0.1, 0)
    second = start._replace(state=state._replace(step=state.step + 2), epochs=(epoch,), best_epoch=1)
    for position in (first, second):
        save(whole, position, about, keep=2)
    return whole, start, about


def test_the_newest_of_two_checkpoints_is_used(two_checkpoints):
    position = resume(*two_checkpoints)
    assert (position.step, len(position.epochs), position.best_epoch) == (2, 1, 1)


@pytest.mark.parametrize("change", [
    lambda told: told.pop("epochs"),
    lambda told: told.update(epochs=3),
    lambda told: told["epochs"].append([2]),
    lambda told: told["epochs"][0].__setitem__(0, 2),
    lambda told: told["epochs"][0].__setitem__(1, float("nan")),
    lambda told: told["epochs"][0].__setitem__(5, 0.5),
    lambda told: told.update(best_epoch=2),
    lambda told: told.update(best_epoch=-1),
    lambda told: told.update(best_epoch=True),
    lambda told: told.update(seconds="long"),
    lambda told: told.update(seconds=10**400),
    lambda told: told.update(losses=-1),
    lambda told: told.update(losses=10**30),
    lambda told: told.update(rolled_back=[0.5]),
    lambda told: told.update(data=None),
])  # fmt: skip
def test_a_checkpoint_that_tells_of_no_run_is_passed_over(change, two_checkpoints, tmp_path):
    whole, start, about = two_checkpoints
    shutil.copytree(whole, tmp_path / "run")
    newest, _ = checkpoint.found(tmp_path / "run")
    told = json.loads((newest / "manifest.json").read_bytes())["manifest"]
    change(told)
    (newest / "manifest.json").write_bytes(sealed(told))
    position = resume(tmp_path / "run", start, about)
    assert (position.step, position.epochs) == (1, ())


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
