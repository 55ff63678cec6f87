"""The options of a run that goes on: what its folder kept of them, and which may be others than at its start."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnet.experiment.console.errors import BadInput, option
from jaxnet.experiment.networks.options import may_lack
from jaxnet.experiment.options.parse import require_types
from jaxnet.experiment.options.train_config import TrainConfig

# Options that are about one start of a run, and are given anew when it goes on.
OF_A_START = {"distributed", "coordinator", "processes", "process_id", "profile"}
# Options of a resumed run that may be others than at its start.
FREE = {
    "resume",
    "out",
    "overwrite",
    "epochs",
    "keep",
    "compilation_cache",
    "diagnostics",
    "tensorboard",
    "mesh",
    "shard_state",
}
# Where the data are may change too: checkpoints know them by their SHA-256.
MOVABLE = FREE | OF_A_START | {"data", "validation", "test"}


def restored(stored: Mapping[str, Any]) -> TrainConfig:
    """The options that a run's folder kept.

    Raises:
      TypeError, KeyError, BadInput: when one is of another type, or lacks: a version without it may have done otherwise
        what is its default now.
    """
    kept = {name: value for name, value in stored.items() if name not in OF_A_START}
    require_types(TrainConfig, kept)
    missing = {field.name for field in dataclasses.fields(TrainConfig)} - set(kept) - OF_A_START - may_lack(kept)
    if missing:
        raise KeyError(*missing)
    return TrainConfig(**kept)


def require_same(config: TrainConfig, before: TrainConfig, run: Path) -> None:
    """Refuses options that are others than those that a run was started with, and may not be.

    Raises:
      BadInput: naming the first one.
    """
    then = dataclasses.asdict(before)
    if before.private_epsilon is not None and config.epochs != before.epochs:
        raise BadInput(
            f"--epochs {config.epochs}: the noise of the private run in {run} is made for {before.epochs}; leave it out"
        )
    for name, value in dataclasses.asdict(config).items():
        if name not in MOVABLE and value != then[name]:
            was = f"the run in {run} was started with {_told(then[name])}"
            raise BadInput(f"{option(name)} {_told(value)}: {was}; leave it out")


def _told(value):
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
