"""A run's folder: where it is, and what is written there as the run goes on."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

from jaxnet.experiment.config import TrainConfig
from jaxnet.experiment.errors import BadInput
from jaxnet.experiment.loop import Epoch
from jaxnet.experiment.model import FILE as MODEL

CONFIG, METRICS, RESULT, FIGURES = "config.json", "metrics.jsonl", "result.json", "figures"
CONTENTS = {CONFIG, METRICS, RESULT, MODEL, FIGURES}


def check(config: TrainConfig) -> None:
    """Refuses a folder that may not be written or replaced.

    Raises:
      BadInput: saying why.
    """
    if config.out is None:
        return
    folder = Path(config.out)
    try:
        if not config.out.strip():
            raise BadInput("--out: expected a folder's name, got an empty one")
        if not folder.exists():
            return
        if not folder.is_dir():
            raise BadInput(f"--out {folder}: is a file; expected a folder, or a name that is free")
        found = {path.name for path in folder.iterdir()}
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


def make(config: TrainConfig) -> Path:
    """Makes the folder that the run writes into, with config.json. An earlier run stays until `finish`.

    Raises:
      BadInput: when it cannot be written.
    """
    folder = Path(config.out) if config.out is not None else None
    try:
        if folder is None:
            folder = _make_numbered(config)
        elif folder.is_dir() and any(folder.iterdir()):
            folder = _beside(folder)
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
        else:
            folder.mkdir(parents=True, exist_ok=True)
        (folder / FIGURES).mkdir(exist_ok=True)
        write_json(folder / CONFIG, dataclasses.asdict(config))
    except OSError as error:
        raise _cannot(folder, error) from None
    return folder


def finish(config: TrainConfig, written: Path) -> Path:
    """Puts a finished run in the place of the one that it replaces, if any, and returns where it is."""
    if config.out is None or written == Path(config.out):
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
    listed = ", ".join(f"{name} ({counted})" if name == METRICS else name for name in found)
    return f"{folder} holds {listed or 'nothing'}" + ("" if MODEL in found else ", but no model")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file that a person can read."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def metrics_line(epoch: Epoch, metric: str) -> str:
    """An epoch as a line of metrics.jsonl."""
    return json.dumps(
        {
            "epoch": epoch.number,
            "train_loss": epoch.train_loss,
            "validation_loss": epoch.validation_loss,
            f"validation_{metric}": epoch.validation_metric,
            "seconds": round(epoch.seconds, 4),
        },
        allow_nan=False,
    )


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


def _cannot(folder, error):
    return BadInput(f"--out {folder or 'runs'}: cannot be written ({error.strerror or error})")
