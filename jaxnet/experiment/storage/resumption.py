"""From a position of the training to a checkpoint, and back."""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.experiment.console.errors import BadInput, Failure
from jaxnet.experiment.console.screen import say
from jaxnet.experiment.devices import processes
from jaxnet.experiment.storage import checkpoint, standing
from jaxnet.experiment.training.faults import not_finite
from jaxnet.experiment.training.position import Epoch, Position


def save(
    run: Path, position: Position, about: dict[str, Any], keep: int, files: Sequence[tuple[str, bytes]] = ()
) -> Path:
    """Writes a checkpoint of the position; see `checkpoint.save`.

    Raises:
      Failure: when it cannot be written, or there are parameters that are not finite: no run is to go on from those.
    """
    if wrong := not_finite(position.state.params):
        raise Failure(f"parameters{wrong[0]} are no longer finite after step {position.step}; no checkpoint is written")
    told = {
        "losses": len(position.losses),
        "epochs": [list(epoch) for epoch in position.epochs],
        "best_epoch": position.best_epoch,
        "seconds": position.seconds,
        "rolled_back": position.rolled_back,
    }
    return checkpoint.save(run, position.step, _arrays(position), about | told, keep, files)


def resume(
    run: Path, start: Position, about: dict[str, Any], check: Callable[[Position], None] = lambda position: None
) -> Position:
    """The position of the newest checkpoint that is whole; what was passed over is told on stderr.

    Args:
      run: the run's folder.
      start: the position at the run's start, for structure, shapes and dtypes.
      about: what every checkpoint of this run tells: config and data.
      check: may refuse the position.

    Raises:
      BadInput: when there is no such checkpoint, or it is one of other data, or what `check` raises.
    """

    def like(told):
        _read(told)
        if told["data"] != about["data"]:
            newest = checkpoint.folder(run, told["step"])
            raise BadInput(f"{newest}: was trained on other data than --data {about['config']['data']} holds now")
        return _arrays(
            start._replace(
                losses=np.broadcast_to(start.losses.dtype.type(0), (told["losses"], *start.losses.shape[1:]))
            )
        )

    if not processes.by_first(lambda: bool(checkpoint.found(run))):
        processes.by_first(lambda: standing.require_no_epochs(run))
        # Stopped before the first one was written: the start is the place to go on from.
        say(f"resumed    {run}: has no checkpoint yet; from the start")
        return start
    restored = checkpoint.restore(run, like)
    for line in restored.passed_over if processes.is_first() else ():
        print(f"passed over {line}", file=sys.stderr)
    position = start._replace(**restored.arrays, **_read(restored.about))
    check(position)
    say(f"resumed    {restored.path}: {len(position.epochs)} epochs, {position.step} steps")
    return position


def _read(manifest):
    """What a manifest tells of a position beside its arrays.

    Raises:
      ValueError or the like: when that is of no run; see `errors.NONSENSE`.
    """
    epochs = tuple(Epoch(*values) for values in manifest["epochs"])
    best_epoch, seconds, rolled_back = manifest["best_epoch"], manifest["seconds"], tuple(manifest["rolled_back"])
    counts = (manifest["losses"], best_epoch, *rolled_back, *(epoch.skipped or 0 for epoch in epochs))
    measured = (seconds, *(value for epoch in epochs for value in (*epoch[1:5], epoch.epsilon or 0.0)))
    sensible = (
        all(type(count) is int and count >= 0 for count in counts)
        and all(map(math.isfinite, measured))
        and [epoch.number for epoch in epochs] == list(range(1, len(epochs) + 1))
        and best_epoch <= len(epochs)
        and isinstance(manifest["data"], str)
    )
    if not sensible:
        raise ValueError("numbers of no run")
    return {"epochs": epochs, "best_epoch": best_epoch, "seconds": seconds, "rolled_back": rolled_back}


def _arrays(position):
    # Orbax keeps no array without numbers.
    losses = {"losses": position.losses} if len(position.losses) else {}
    return {"state": position.state, "best": position.best, **losses}
