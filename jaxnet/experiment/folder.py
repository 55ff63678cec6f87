"""A run's folder: where it is, and what is written there as the run goes on."""

import dataclasses
import json
import platform
import re
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import jaxnet
from jaxnet.experiment import checkpoint, durable
from jaxnet.experiment.checkpoint import FOLDER as CHECKPOINTS
from jaxnet.experiment.config import TrainConfig
from jaxnet.experiment.errors import NONSENSE, BadInput, Failure
from jaxnet.experiment.loop import Epoch
from jaxnet.experiment.model import FILE as MODEL
from jaxnet.experiment.options import require_types
from jaxnet.experiment.processes import is_first
from jaxnet.experiment.tensorboard import FOLDER as TENSORBOARD

CONFIG, METRICS, RESULT, FIGURES, LOCK = "config.json", "metrics.jsonl", "result.json", "figures", ".lock"
PROFILE = "profile"
# What config.json holds beside the options.
RESOLVED, VERSIONS = "resolved", "versions"
BESIDE = {RESOLVED, VERSIONS}
CONTENTS = {CONFIG, METRICS, RESULT, MODEL, FIGURES, CHECKPOINTS, PROFILE, TENSORBOARD}
# Options that are about one start of a run, and are given anew when it goes on.
OF_A_START = {"distributed", "coordinator", "processes", "process_id", "profile"}
# Options of a resumed run that may be others than at its start.
FREE = {"resume", "out", "overwrite", "epochs", "keep", "compilation_cache", "diagnostics", "tensorboard", "mesh"}


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
        found = {path.name for path in folder.iterdir()} - {LOCK}
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
        elif folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
            _lock(folder, stack)
            folder = _beside(folder)
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
        else:
            folder.mkdir(parents=True, exist_ok=True)
            _lock(folder, stack)
        (folder / FIGURES).mkdir(exist_ok=True)
        write_json(folder / CONFIG, dataclasses.asdict(config) | {RESOLVED: resolved, VERSIONS: _versions()})
    except OSError as error:
        raise _cannot(folder, error) from None
    return folder


def again(config: TrainConfig, stack: ExitStack) -> Path:
    """Opens the folder of the run that is to go on.

    Args:
      config: the options.
      stack: at whose end the folder is no longer locked.

    Raises:
      BadInput: when it holds no run, a finished one, or one with other options, or another process writes there.
    """
    assert config.resume is not None
    folder = Path(config.resume)
    stored = read_config(folder)
    for name, value in dataclasses.asdict(config).items():
        before = dataclasses.asdict(stored)[name]
        if name not in FREE | OF_A_START and value != before:
            option = "--" + name.replace("_", "-")
            raise BadInput(
                f"{option} {_told(value)}: the run in {folder} was started with {_told(before)}; leave it out"
            )
    if (folder / RESULT).exists() and config.epochs <= stored.epochs:
        raise BadInput(f"--resume {folder}: the run is finished; give it more --epochs than {stored.epochs} to go on")
    try:
        _lock(folder, stack)
    except OSError as error:
        raise _cannot(folder, error, "--resume") from None
    return folder


def go_on(config: TrainConfig, folder: Path) -> None:
    """Writes the options that the run goes on with, once it is sure that it does.

    Raises:
      BadInput: when they cannot be written.
    """
    try:
        (folder / FIGURES).mkdir(exist_ok=True)
        of_the_start = {"resume": None, "out": read_config(folder).out, RESOLVED: _resolved(folder)}
        of_the_start[VERSIONS] = _versions()
        durable.write(folder / CONFIG, _json(dataclasses.asdict(config) | of_the_start))
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
            with self._path.open("a") as file:
                file.write(f"{metrics_line(epoch, self._metric)}\n")
        except OSError as error:
            raise Failure(f"{self._path}: cannot be written ({error.strerror})") from None


def finish(config: TrainConfig, written: Path) -> Path:
    """Puts a finished run in the place of the one that it replaces, if any, and returns where it is."""
    if config.out is None or config.resume is not None or written == Path(config.out):
        return written
    final = Path(config.out)
    for name in CONTENTS:
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
    epochs = (folder / METRICS).read_text().count("\n") if METRICS in found else 0
    counted = "1 epoch" if epochs == 1 else f"{epochs} epochs"
    listed = [f"{name} ({counted})" if name == METRICS else name for name in found]
    newest = next(iter(checkpoint.found(folder)), None)
    if newest is not None:
        listed.append(f"{CHECKPOINTS}/{newest.name}")
    left = f"{folder} holds {', '.join(listed) or 'nothing'}" + ("" if MODEL in found else ", but no model")
    return left if newest is None or MODEL in found else f"{left}; --resume {folder} goes on"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file that a person can read."""
    durable.write(path, _json(content))


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


def _resolved(folder):
    return json.loads((folder / CONFIG).read_text()).get(RESOLVED)


def _json(content):
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def _lock(folder, stack):
    """Keeps other runs out until the stack ends; the system lets go of it when the process ends, however that is."""
    from filelock import FileLock, Timeout

    try:
        stack.enter_context(FileLock(folder / LOCK, timeout=0))
    except Timeout:
        raise BadInput(f"{folder}: another run is writing there; wait for its end, or choose another folder") from None


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
