"""Data and runs that are as they should be, of which each case gets copies to break."""

import shutil
from pathlib import Path

import numpy as np

from fuzzing import watch
from jaxnet.experiment.storage.checkpoint import found

CSV, NPZ, TARGET = "table.csv", "arrays.npz", "kind"
# A finished run, one that was stopped after its first epoch, one that learnt numbers, and one that learnt a text.
RUN, STOPPED, NUMBERS, WRITER = "finished", "stopped", "numbers", "writer"
TEXT = "the cat sat on the mat, and the dog sat on the log\n" * 20
ALL = (CSV, NPZ, RUN, STOPPED, NUMBERS)
CLASSES = ("ant", "bee", "cow")
_kept: list[Path] = []


def keep_in(folder: Path) -> None:
    """Says where they are kept, once they are made."""
    folder.mkdir()
    _kept[:] = [folder]


def copy(folder: Path, *names: str) -> None:
    """Puts copies of some of them into a folder; each is made when it is first asked for."""
    for name in names:
        source = _kept[0] / name
        if not source.exists():
            MAKERS[name](_kept[0])
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy(source, folder / name)


def _inputs():
    return np.random.default_rng(0).normal(size=(30, 3)).round(3)


def _make_csv(folder):
    rows = [",".join(map(str, row)) + f",{CLASSES[k % 3]}" for k, row in enumerate(_inputs().tolist())]
    (folder / CSV).write_text("\n".join([f"a,b,c,{TARGET}", *rows]) + "\n")


def _make_npz(folder):
    np.savez(folder / NPZ, x=_inputs(), y=_inputs().sum(axis=1))


def _make_run(folder):
    _make_csv(folder)
    small = "--target", TARGET, "--hidden", "2", "--epochs", "2", "--checkpoint-every", "1epoch"
    _train(folder, "--data", CSV, *small, "--out", RUN)


def _make_stopped(folder):
    if not (folder / RUN).exists():
        _make_run(folder)
    shutil.copytree(folder / RUN, folder / STOPPED)
    for name in ("result.json", "model.npz"):
        (folder / STOPPED / name).unlink()
    shutil.rmtree(found(folder / STOPPED)[0])


def _make_numbers(folder):
    _make_npz(folder)
    _train(folder, "--data", NPZ, "--hidden", "2", "--epochs", "1", "--out", NUMBERS)


def _make_writer(folder):
    (folder / "text.txt").write_text(TEXT)
    small = "--context", "4", "--width", "4", "--depth", "1", "--batch-size", "1000", "--epochs", "1"
    _train(folder, "--data", "text.txt", "--model", "gru", *small, "--checkpoint-every", "0", "--out", WRITER)


def _train(folder, *options):
    ended = watch.run(watch.script("train.py", [*options]), folder)
    if ended.status != 0:
        raise RuntimeError(f"no sample was made: {ended.errors}")


MAKERS = {
    CSV: _make_csv,
    NPZ: _make_npz,
    RUN: _make_run,
    STOPPED: _make_stopped,
    NUMBERS: _make_numbers,
    WRITER: _make_writer,
}
