"""Checkpoints that are written whole or not at all, and are used only as they were written."""

import asyncio
import gc
import json
import logging
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from forked import forked

from jaxnet.experiment.console.errors import BadInput, Failure
from jaxnet.experiment.storage import checkpoint, durable
from jaxnet.experiment.storage.manifest import sealed


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_any_write_fsync_or_rename_leaves_a_whole_checkpoint(when, tmp_path):
    """The second checkpoint is killed at its first operation, at its second, and so on, until it is written."""
    done = forked(
        """
from pathlib import Path
from jaxnet.experiment.storage import checkpoint
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


def reseal(path, change):
    """Has a checkpoint's manifest tell something else, as if it had been written so."""
    manifest = json.loads((path / "manifest.json").read_bytes())["manifest"]
    (path / "manifest.json").write_bytes(sealed(change(manifest)))


@pytest.mark.parametrize("change", [
    lambda manifest: [1],
    lambda manifest: {name: told for name, told in manifest.items() if name != "format"},
    lambda manifest: {name: told for name, told in manifest.items() if name != "files"},
    lambda manifest: manifest | {"files": [1]},
    lambda manifest: manifest | {"files": {"arrays/_METADATA": 5}},
    lambda manifest: {name: told for name, told in manifest.items() if name != "arrays"},
    lambda manifest: manifest | {"arrays": {"['W']": 3}},
    lambda manifest: manifest | {"arrays": {"['W']": [[30, 40], "float33"]}},
])  # fmt: skip
def test_a_manifest_that_tells_of_no_checkpoint_is_passed_over(change, two):
    newest, _ = checkpoint.found(two)
    reseal(newest, change)
    found = restored(two)
    assert (found.arrays["W"] == 1).all()
    assert found.passed_over == (f"{newest}: manifest.json tells of no checkpoint of this version of jaxnet",)


def test_a_manifest_of_another_format_and_a_file_that_cannot_be_read_are_passed_over(two):
    newest, _ = checkpoint.found(two)
    reseal(newest, lambda manifest: manifest | {"format": 1})
    assert restored(two).passed_over == (f"{newest}: manifest.json has format 1, expected 2",)
    reseal(newest, lambda manifest: manifest | {"format": 2, "files": {"x" * 300: {"bytes": 1, "sha256": ""}}})
    assert restored(two).passed_over == (f"{newest}: a file cannot be read (File name too long)",)


def test_what_tells_of_no_run_is_passed_over(two):
    newest, _ = checkpoint.found(two)
    reseal(newest, lambda manifest: manifest | {"told": -1})

    def like(manifest):
        if "told" in manifest:
            raise ValueError("not for users")
        return {"W": np.zeros((30, 40), np.float32)}

    found = checkpoint.restore(two, like)
    assert (found.arrays["W"] == 1).all()
    assert found.passed_over == (f"{newest}: manifest.json tells of no run of this version of jaxnet",)


def test_what_orbax_does_not_understand_is_named_with_what_to_do(two):
    newest, _ = checkpoint.found(two)
    (newest / "arrays" / "_METADATA").unlink()
    kept = {name: told for name, told in checkpoint_files(newest).items() if name != "arrays/_METADATA"}
    reseal(newest, lambda manifest: manifest | {"files": kept})
    with pytest.raises(BadInput) as error:
        restored(two)
    assert str(error.value).startswith(f"{newest}/arrays: cannot be read (")
    assert str(error.value).endswith(f"); remove {newest} to go on from the one before, if there is one")
    assert "\n" not in str(error.value)


def test_what_fails_in_jax_is_no_fault_of_the_checkpoint(two, monkeypatch):
    def fail(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")

    monkeypatch.setattr("orbax.checkpoint.StandardCheckpointer.restore", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        restored(two)


def checkpoint_files(path):
    return json.loads((path / "manifest.json").read_bytes())["manifest"]["files"]


def test_a_disk_that_is_full_is_told_and_the_checkpoint_before_stays(two):
    """Files of this process may not grow over some bytes, as if there were no more room: nothing but a line is told."""
    done = forked(
        """
import resource
from pathlib import Path
from jaxnet.experiment.storage import checkpoint
from jaxnet.experiment.console.errors import Failure
import numpy as np
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
arrays = {name: np.random.rand(30, 40).astype("f") for name in "WVU"}
for most in (50, 300, 1000, 2000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    try:
        checkpoint.save(Path(sys.argv[1]), 3, arrays, {}, keep=2)
    except Failure as failure:
        print(failure, file=sys.stderr)
""",
        two,
    )
    new, old = (two / "checkpoints" / f"step-00000000{step}" for step in (3, 2))
    told = f"{new}: the checkpoint cannot be written (File too large); {old} is as it was"
    assert done.stderr.splitlines() == 4 * [told]
    assert [path.name for path in sorted((two / "checkpoints").iterdir())] == ["step-000000001", "step-000000002"]
    assert (restored(two).arrays["W"] == 2).all()


def test_a_checkpoint_without_a_model_is_passed_over_where_one_is_asked_for(two):
    """As those of earlier versions are, from which a run goes on all the same."""
    checkpoint.save(two, 3, {"W": np.ones(2)}, {}, keep=3, files=[("model.npz", b"model")])
    checkpoint.save(two, 4, {"W": np.ones(2)}, {}, keep=3)
    newest, without = (checkpoint.folder(two, step) for step in (3, 4))
    assert checkpoint.newest_with(two, "model.npz") == (newest, (f"{without}: holds no model.npz",))


def test_writes_that_fail_after_the_first_one_did_are_not_heard(two, monkeypatch, caplog):
    """A task that nobody waits for any more tells its failure when it is thrown away, whenever that is."""
    loop = asyncio.new_event_loop()

    async def fail_too():
        raise ValueError("RESOURCE_EXHAUSTED")

    def fail(*arguments):
        tasks.append(loop.create_task(fail_too()))
        raise ValueError("RESOURCE_EXHAUSTED: Failed writing: No space left on device")

    tasks: list[asyncio.Task[None]] = []
    monkeypatch.setattr(logging.getLogger("asyncio"), "filters", [])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr("orbax.checkpoint.StandardCheckpointer.save", fail)
    with pytest.raises(Failure, match=r"\(No space left on device\)"):
        checkpoint.save(two, 3, {"W": np.ones(2)}, {}, keep=2)
    loop.run_until_complete(asyncio.sleep(0))
    tasks.clear()
    gc.collect()
    loop.close()
    logging.getLogger("asyncio").error("something else")
    assert caplog.messages == ["something else"]


def test_a_folder_that_cannot_be_written_is_told(two, monkeypatch):
    def refuse(path, content):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(durable, "write_bytes", refuse)
    with pytest.raises(Failure) as error:
        checkpoint.save(two, 3, {"W": np.zeros(3)}, {}, keep=2)
    new, old = (two / "checkpoints" / f"step-00000000{step}" for step in (3, 2))
    assert str(error.value) == (f"{new}: the checkpoint cannot be written (Read-only file system); {old} is as it was")
