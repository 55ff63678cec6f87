"""Files that are whole or not there, whatever fails while they are written; and all that is written goes this way."""

import errno
import os
import resource
import stat
from contextlib import contextmanager
from pathlib import Path

import pytest
from short_runs import train

from jaxnet.experiment.commands.compare import CompareConfig, compare
from jaxnet.experiment.commands.export import ExportConfig, export
from jaxnet.experiment.commands.predict import PredictConfig, predict
from jaxnet.experiment.console.errors import BadInput, Failure
from jaxnet.experiment.storage import durable
from jaxnet.experiment.storage.model_file import FILE as MODEL

FULL = os.strerror(errno.ENOSPC)


@contextmanager
def no_room_beyond(size):
    """Files of this process may not grow over so many bytes, as if there were no more room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("before", [b"as it was", None])
@pytest.mark.parametrize("operation", ["write_bytes", "fsync", "rename"])
def test_a_write_that_fails_leaves_what_was_there_and_names_the_file(operation, before, tmp_path, monkeypatch):
    def fail(*arguments):
        # As the system tells of a full disk: without a name.
        raise OSError(errno.ENOSPC, FULL)

    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    monkeypatch.setattr(durable, operation, fail)
    with pytest.raises(OSError, match=FULL) as error:
        durable.write(path, b"new")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
    assert {found.name: found.read_bytes() for found in tmp_path.iterdir()} == (
        {} if before is None else {"file": before}
    )


def test_a_file_that_outgrows_the_disk_is_as_it_was(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"as it was")
    with no_room_beyond(4096), pytest.raises(OSError, match="File too large") as error:
        durable.write(path, bytes(5000))
    assert error.value.filename == str(path)
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("file", b"as it was")]


def test_a_link_is_followed_and_a_device_stays_one(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    durable.write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    (tmp_path / "nowhere").symlink_to(os.devnull)
    durable.write(tmp_path / "nowhere", b"new")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@pytest.mark.parametrize("room", [0, 1, 5, 9])
def test_a_line_is_added_whole_or_not_at_all(room, tmp_path):
    path = tmp_path / "lines"
    durable.add_line(path, "first")
    # The system takes what there is room for, and says so when there is none.
    with no_room_beyond(len("first\n") + room), pytest.raises(OSError, match="File too large") as error:
        durable.add_line(path, "the second")
    assert error.value.filename == str(path)
    assert path.read_text() == "first\n"
    durable.add_line(path, "third")
    assert path.read_text() == "first\nthird\n"


@pytest.fixture
def written(monkeypatch):
    """The names of all files that were written as they are to be."""
    names = set()
    for operation in ("write", "add_line"):
        original = getattr(durable, operation)

        def noting(path, content, original=original):
            names.add(path.name)
            original(path, content)

        monkeypatch.setattr(durable, operation, noting)
    return names


def test_all_that_a_run_and_the_scripts_beside_it_write_is_written_so(written, tmp_path, monkeypatch, optax_promotion):
    monkeypatch.chdir(tmp_path)
    out, _, _ = train(tmp_path, data="moons", epochs=2)
    export(ExportConfig(str(out), to="npz"))
    predict(PredictConfig(str(out), "moons", out="predicted.csv"))
    compare(CompareConfig((str(out),)))
    checkpoints = {path for path in (out / "checkpoints").rglob("*") if path.is_file()}
    there = {path.name for path in tmp_path.rglob("*") if path.is_file() and path not in checkpoints}
    assert there == written - {"manifest.json"}
    assert {"config.json", "metrics.jsonl", "result.json", MODEL, "boundary.png", "predicted.csv"} < there


@pytest.mark.parametrize("name", ["metrics.jsonl", MODEL, "loss.png", "result.json"])
def test_a_disk_that_is_full_ends_a_run_in_a_line_that_names_the_file(name, tmp_path, monkeypatch, optax_promotion):
    write_bytes = durable.write_bytes

    def full(path, content):
        write_bytes(path, content)
        if path.name == durable.beside_name(name):
            raise OSError(errno.ENOSPC, FULL)

    monkeypatch.setattr(durable, "write_bytes", full)
    with pytest.raises(Failure) as error:
        train(tmp_path, data="iris", epochs=2)
    out = tmp_path / "run"
    held = "config.json, metrics.jsonl (2 epochs)" + (f", {MODEL}" if name in ("loss.png", "result.json") else "")
    at = out / "figures" / name if name.endswith(".png") else out / name
    model = "" if MODEL in held else ", but no model"
    if name == "metrics.jsonl":
        # It is begun before the first epoch.
        assert str(error.value) == f"{at}: {FULL}; {out} holds config.json, but no model"
    else:
        assert str(error.value) == (
            f"{at}: {FULL}; {out} holds {held}, checkpoints/step-000000008{model}; --resume {out} goes on"
        )
    assert not at.exists()
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_a_full_disk_names_the_file_in_every_script(tmp_path, monkeypatch, optax_promotion):
    out, _, _ = train(tmp_path, data="iris", epochs=1)
    monkeypatch.chdir(tmp_path)

    def full(path, content):
        raise OSError(errno.ENOSPC, FULL)

    monkeypatch.setattr(durable, "write_bytes", full)
    for program, named in (
        (lambda: export(ExportConfig(str(out), to="npz")), f"--out {out}/arrays.npz"),
        (lambda: predict(PredictConfig(str(out), "iris", out="p.csv")), "--out p.csv"),
        (lambda: compare(CompareConfig((str(out),))), "--out compare.png"),
        (lambda: train(tmp_path / "other", data="iris", epochs=1), f"--out {tmp_path}/other/run"),
    ):
        with pytest.raises(BadInput) as error:
            program()
        assert str(error.value) == f"{named}: cannot be written ({FULL})"
    assert not list(tmp_path.glob("*.*"))
