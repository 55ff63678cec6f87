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

CONFIG, METRICS, RESULT = "config.json", "metrics.jsonl", "result.json"


def choose(config: TrainConfig) -> Path:
    """The folder that the run will have, without making it.

    Raises:
      BadInput: when it exists and may not be replaced.
    """
    if config.out is None:
        stem = re.sub(r"[^\w.-]+", "-", Path(config.data).stem or "run")
        number = 1
        while Path("runs", f"{stem}-{number}").exists():
            number += 1
        return Path("runs", f"{stem}-{number}")
    folder = Path(config.out)
    if not folder.exists():
        return folder
    if not folder.is_dir():
        raise BadInput(f"--out {folder}: is a file; expected a folder, or a name that is free")
    if any(folder.iterdir()):
        if not (folder / CONFIG).is_file():
            raise BadInput(
                f"--out {folder}: is not empty and holds no run; expected a run's folder, or a name that is free"
            )
        if not config.overwrite:
            raise BadInput(f"--out {folder}: holds a run already; choose another name, or replace it with --overwrite")
    return folder


def make(folder: Path, config: TrainConfig) -> None:
    """Makes the folder, in place of an earlier run's, and writes config.json.

    Raises:
      BadInput: when it cannot be written.
    """
    try:
        if folder.exists():
            shutil.rmtree(folder)
        (folder / "figures").mkdir(parents=True)
        write_json(folder / CONFIG, dataclasses.asdict(config))
    except OSError as error:
        raise BadInput(f"--out {folder}: cannot be written ({error.strerror})") from None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file that a person can read."""
    path.write_text(json.dumps(content, indent=2) + "\n")


def metrics_line(epoch: Epoch, metric: str) -> str:
    """An epoch as a line of metrics.jsonl."""
    return json.dumps(
        {
            "epoch": epoch.number,
            "train_loss": epoch.train_loss,
            "validation_loss": epoch.validation_loss,
            f"validation_{metric}": epoch.validation_metric,
            "seconds": round(epoch.seconds, 4),
        }
    )
