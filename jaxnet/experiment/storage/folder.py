"""A run's folder: where it is, and what is written there as the run goes on."""

import dataclasses
import json
import os
import platform
import re
import shutil
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import jaxnet
from jaxnet.experiment.console.errors import NONSENSE, BadInput, Failure
from jaxnet.experiment.data.named import NAMES
from jaxnet.experiment.devices.processes import is_first
from jaxnet.experiment.networks.options import may_lack
from jaxnet.experiment.options.parse import option, require_types
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import checkpoint, durable
from jaxnet.experiment.storage.checkpoint import FOLDER as CHECKPOINTS
from jaxnet.experiment.storage.exports import FILE as EXPORTS
from jaxnet.experiment.storage.model import FILE as MODEL
from jaxnet.experiment.storage.tensorboard import FOLDER as TENSORBOARD
from jaxnet.experiment.training.loop import Epoch

CONFIG, METRICS, RESULT, FIGURES, LOCK = "config.json", "metrics.jsonl", "result.json", "figures", ".lock"
PROFILE = "profile"
# What config.json holds beside the options.
RESOLVED, VERSIONS = "resolved", "versions"
BESIDE = {RESOLVED, VERSIONS}
CONTENTS = {CONFIG, METRICS, RESULT, MODEL, EXPORTS, FIGURES, CHECKPOINTS, PROFILE, TENSORBOARD}
# A process that is killed leaves these.
LEFT_BEHIND = {LOCK, *map(durable.beside_name, CONTENTS)}
# Options that are about one start of a run, and are given anew when it goes on.
OF_A_START = {"distributed", "coordinator", "processes", "process_id", "profile"}
# Options of a resumed run that may be others than at its start.
FREE = {"resume", "out", "overwrite", "epochs", "keep", "compilation_cache", "diagnostics", "tensorboard", "mesh"}
# Where the data are may change too: checkpoints know them by their SHA-256.
MOVABLE = FREE | OF_A_START | {"data"}


def check(config: TrainConfig) -> None:
    """Refuses a folder that may not be written or replaced.

    Raises:
      BadInput: saying why.
    """
    if config.out is None or config.resume is not None:
        return
    folder = Path(config.out)
    try:
        if not config.out.strip():
            raise BadInput("--out: expected a folder's name, got an empty one")
        if not folder.exists():
            return
        if not folder.is_dir():
            raise BadInput(f"--out {folder}: is a file; expected a folder, or a name that is free")
        found = {path.name for path in folder.iterdir()} - LEFT_BEHIND
    except OSError as error:
        raise _cannot(folder, error) from None
    if not found:
        return
    if CONFIG not in found:
        raise BadInput(
            f"--out {folder}: is not empty and holds no run; expected a run's folder, or a name that is free"
        )
    if not config.overwrite:
        raise BadInput(f"--out {folder}: holds a run already; choose another name, or replace it with --overwrite")
    others = sorted(found - CONTENTS)
    if others:
        raise BadInput(f"--out {folder}: holds {others[0]!r}, which no run wrote; move it away, or choose another name")


def make(config: TrainConfig, resolved: dict[str, Any], stack: ExitStack) -> Path:
    """Makes the folder that the run writes into, with config.json. An earlier run stays until `finish`.

    Args:
      config: the options.
      resolved: what they come to where they leave something open.
      stack: at whose end the folder is no longer locked.

    Raises:
      BadInput: when it cannot be written, or another run writes there.
    """
    folder = Path(config.out) if config.out is not None else None
    try:
        if folder is None:
            folder = _make_numbered(config)
            _lock(folder, stack)
        elif folder.is_dir() and any(path.name not in LEFT_BEHIND for path in folder.iterdir()):
            _lock(folder, stack)
            folder = _beside(folder)
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
        else:
            folder.mkdir(parents=True, exist_ok=True)
            _lock(folder, stack)
        (folder / FIGURES).mkdir(exist_ok=True)
        write_json(folder / CONFIG, _options(config) | {RESOLVED: resolved, VERSIONS: _versions()})
    except OSError as error:
        raise _cannot(folder, error) from None
    return folder


def again(config: TrainConfig, stack: ExitStack) -> Path:
    """Opens the folder of the run that is to go on.

    Args:
      config: the options.
      stack: at whose end the folder is no longer locked.

    Raises:
      BadInput: when it holds no run, or one with other options, or another process writes there.
    """
    assert config.resume is not None
    folder = Path(config.resume)
    stored = read_config(folder)
    for name, value in dataclasses.asdict(config).items():
        before = dataclasses.asdict(stored)[name]
        if name not in MOVABLE and value != before:
            raise BadInput(
                f"{option(name)} {_told(value)}: the run in {folder} was started with {_told(before)}; leave it out"
            )
    try:
        _lock(folder, stack)
    except OSError as error:
        raise _cannot(folder, error, "--resume") from None
    return folder


def require_unfinished(folder: Path, config: TrainConfig, epochs: int) -> None:
    """Refuses to go on after so many epochs, which are all that was asked for, if their outcome is written too.

    Raises:
      BadInput: saying what makes it go on, if anything does.
    """
    if _epochs_of_result(folder) != epochs or not (folder / MODEL).exists():
        return
    if epochs < config.epochs:
        early = f"--early-stopping {config.early_stopping} ended it after epoch {epochs}"
        raise BadInput(f"--resume {folder}: the run is finished: {early}, and more --epochs do not change that")
    raise BadInput(f"--resume {folder}: the run is finished; give it more --epochs than {epochs} to go on")


def require_no_epochs(folder: Path) -> None:
    """Refuses to begin at the start again where epochs are known already, and checkpoints are not.

    Raises:
      BadInput: saying what to do.
    """
    epochs = _epochs_of_metrics(folder)
    if epochs or (folder / RESULT).exists() or (folder / MODEL).exists():
        held = f"holds {_counted(epochs)} and no checkpoint to go on from"
        anew = f"start anew with --out {folder} --overwrite"
        raise BadInput(f"--resume {folder}: {held}; bring {folder / CHECKPOINTS} back from a copy, or {anew}")


def go_on(config: TrainConfig, folder: Path) -> None:
    """Writes the options that the run goes on with, once it is sure that it does.

    Raises:
      BadInput: when they cannot be written.
    """
    try:
        (folder / FIGURES).mkdir(exist_ok=True)
        of_the_start = {"resume": None, "out": read_config(folder).out, RESOLVED: _resolved(folder)}
        write_json(folder / CONFIG, _options(config) | of_the_start | {VERSIONS: _versions()})
    except OSError as error:
        raise _cannot(folder, error, "--resume") from None


def read_config(folder: Path) -> TrainConfig:
    """The options of a run.

    Raises:
      BadInput: when the folder holds none.
    """
    try:
        stored = json.loads((folder / CONFIG).read_text())
        lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
        kept = {name: value for name, value in (stored | lists).items() if name not in OF_A_START | BESIDE}
        require_types(TrainConfig, kept)
        _require_whole(kept)
        return TrainConfig(**kept)
    except OSError as error:
        raise BadInput(f"--resume {folder}: holds no run ({CONFIG}: {error.strerror})") from None
    except NONSENSE:
        raise BadInput(f"--resume {folder}: {CONFIG} is damaged, or of another version of jaxnet") from None


class Metrics:
    """metrics.jsonl, a line for each epoch, by the first process; a run that goes on keeps those of its epochs."""

    def __init__(self, folder: Path, metric: str) -> None:
        self.epochs: list[Epoch] = []
        self._path, self._metric = folder / METRICS, metric

    def begin(self, epochs: tuple[Epoch, ...]) -> None:
        """Writes the lines of the epochs that are done."""
        self.epochs, metric = list(epochs), self._metric
        lines = "".join(f"{metrics_line(epoch, metric)}\n" for epoch in epochs)
        durable.write(self._path, lines.encode())

    def add(self, epoch: Epoch) -> None:
        """Writes an epoch's line.

        Raises:
          Failure: when it cannot be written.
        """
        self.epochs.append(epoch)
        if not is_first():
            return
        try:
            durable.add_line(self._path, metrics_line(epoch, self._metric))
        except OSError as error:
            raise Failure(f"{self._path}: cannot be written ({error.strerror})") from None


def finish(config: TrainConfig, written: Path) -> Path:
    """Puts a finished run in the place of the one that it replaces, if any, and returns where it is."""
    if config.out is None or config.resume is not None or written == Path(config.out):
        return written
    final = Path(config.out)
    for name in CONTENTS | LEFT_BEHIND - {LOCK}:
        old = final / name
        if old.is_dir():
            shutil.rmtree(old)
        elif old.exists():
            old.unlink()
    for path in written.iterdir():
        shutil.move(path, final / path.name)
    written.rmdir()
    return final


def contents(folder: Path) -> str:
    """What a run that was cut short left, for a message."""
    found = [name for name in (CONFIG, METRICS, MODEL, RESULT) if (folder / name).is_file()]
    epochs, of_result = _epochs_of_metrics(folder), _epochs_of_result(folder)
    told = {METRICS: f"{METRICS} ({_counted(epochs)})"}
    if of_result not in (None, epochs):
        # A finished run that goes on has its old outcome until it is finished again.
        told[RESULT] = f"{RESULT} (of {_counted(of_result)})"
    listed = [told.get(name, name) for name in found]
    newest = next(iter(checkpoint.found(folder)), None)
    if newest is not None:
        listed.append(f"{CHECKPOINTS}/{newest.name}")
    left = f"{folder} holds {', '.join(listed) or 'nothing'}" + ("" if MODEL in found else ", but no model")
    return left if newest is None or of_result == epochs else f"{left}; --resume {folder} goes on"


def epochs_since_the_end(folder: Path) -> tuple[int, int] | None:
    """Of a run that went on after its end and did not come to another one: after how many epochs, and up to which."""
    epochs, of_result = _epochs_of_metrics(folder), _epochs_of_result(folder)
    return (of_result, epochs) if of_result is not None and of_result < epochs else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file that a person can read."""
    durable.write(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def metrics_line(epoch: Epoch, metric: str) -> str:
    """An epoch as a line of metrics.jsonl."""
    line: dict[str, Any] = {
        "epoch": epoch.number,
        "train_loss": epoch.train_loss,
        "validation_loss": epoch.validation_loss,
        f"validation_{metric}": epoch.validation_metric,
        "seconds": round(epoch.seconds, 4),
    }
    asked_for = {"skipped": epoch.skipped, "diagnostics": epoch.diagnostics}
    line |= {name: value for name, value in asked_for.items() if value is not None}
    return json.dumps(line, allow_nan=False)


def _versions():
    """Of what computes a run's numbers, as it goes on with them."""
    return {
        "jaxnet": jaxnet.__version__,
        "jax": jax.__version__,
        "optax": optax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _require_whole(options):
    """Refuses options that lack some: a version without them may have done otherwise what is their default now."""
    missing = {field.name for field in dataclasses.fields(TrainConfig)} - set(options) - OF_A_START - may_lack(options)
    if missing:
        raise KeyError(*missing)


def _resolved(folder):
    return json.loads((folder / CONFIG).read_text()).get(RESOLVED)


def _options(config):
    """The options as config.json has them: data on disk by the whole path, which any working directory finds."""
    data = config.data if config.data in NAMES else os.path.abspath(config.data)
    return dataclasses.asdict(config) | {"data": data}


def _epochs_of_metrics(folder):
    try:
        return (folder / METRICS).read_bytes().count(b"\n")
    except OSError:
        return 0


def _epochs_of_result(folder):
    """After how many epochs the run was finished last; None where it never was."""
    try:
        epochs = json.loads((folder / RESULT).read_bytes())["epochs"]
    except (OSError, *NONSENSE):
        return None
    return epochs if type(epochs) is int else None


def _counted(epochs):
    return "1 epoch" if epochs == 1 else f"{epochs} epochs"


def _lock(folder, stack):
    """Keeps other runs out until the stack ends; the system lets go of it when the process ends, however that is."""
    from filelock import FileLock, Timeout

    try:
        stack.enter_context(FileLock(folder / LOCK, timeout=0))
    except Timeout:
        raise BadInput(f"{folder}: another run is writing there; wait for its end, or choose another folder") from None
    stack.callback(_remove_lock, folder / LOCK)


def _remove_lock(path):
    """Removes the file while its lock is still held: no lock but ours can be on what has this name.

    Whoever opened it before, and locks it afterwards, holds a file without a name; filelock sees that, and does not
    count it. Removed after the lock was let go, as filelock itself did before 3.30, it could be another run's.
    """
    with suppress(OSError):
        path.unlink()


def _told(value):
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _make_numbered(config):
    """The first free runs/NAME-1, runs/NAME-2, ...; made at once, so that two runs never share one."""
    stem = re.sub(r"[^\w.-]+", "-", Path(config.data).stem)[:50] or "run"
    number = 1
    while True:
        folder = Path("runs", f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def _beside(folder):
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}.new")


def _cannot(folder, error, option="--out"):
    return BadInput(f"{option} {folder or 'runs'}: cannot be written ({error.strerror or error})")
