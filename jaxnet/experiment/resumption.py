"""From a position of the training to a checkpoint, and back."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnet.experiment import checkpoint, processes
from jaxnet.experiment.errors import Failure
from jaxnet.experiment.faults import all_finite
from jaxnet.experiment.loop import Epoch, Position
from jaxnet.experiment.mapped import in_blocks
from jaxnet.experiment.table import Table

# Of data on disk, so many rows are compared, evenly spread.
STREAMED_ROWS = 1000


def save(run: Path, position: Position, about: dict[str, Any], keep: int) -> Path:
    """Writes a checkpoint of the position; see `checkpoint.save`.

    Raises:
      Failure: when it cannot be written, or there are parameters that are not finite: no run is to go on from those.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(position.state.params)[0]:
        if not all_finite(leaf):
            name = jax.tree_util.keystr(path)
            raise Failure(f"parameters{name} are no longer finite after step {position.step}; no checkpoint is written")
    told = {
        "losses": len(position.losses),
        "epochs": [list(epoch) for epoch in position.epochs],
        "best_epoch": position.best_epoch,
        "seconds": position.seconds,
        "rolled_back": position.rolled_back,
    }
    return checkpoint.save(run, position.step, _arrays(position), about | told, keep)


def resume(run: Path, start: Position, about: dict[str, Any]) -> Position:
    """The position of the newest checkpoint that is whole; what was passed over is told on stderr.

    Args:
      run: the run's folder.
      start: the position at the run's start, for structure, shapes and dtypes.
      about: what every checkpoint of this run tells: config and data.

    Raises:
      Failure: when there is no such checkpoint, or it is one of other data.
    """

    def like(told):
        return _arrays(start._replace(losses=np.zeros(told["losses"], start.losses.dtype)))

    if not checkpoint.found(run):
        # Stopped before the first one was due: the start is the place to go on from.
        print(f"resumed    {run}: has no checkpoint yet; from the start")
        return start
    restored = checkpoint.restore(run, like)
    for line in restored.passed_over if processes.is_first() else ():
        print(f"passed over {line}", file=sys.stderr)
    if restored.about["data"] != about["data"]:
        raise Failure(f"{restored.path}: was trained on other data than --data {about['config']['data']} holds now")
    told = {
        "epochs": tuple(Epoch(*values) for values in restored.about["epochs"]),
        "best_epoch": restored.about["best_epoch"],
        "seconds": restored.about["seconds"],
        "rolled_back": tuple(restored.about["rolled_back"]),
    }
    position = start._replace(**restored.arrays, **told)
    print(f"resumed    {restored.path}: {len(position.epochs)} epochs, {position.step} steps")
    return position


def _arrays(position):
    # Orbax keeps no array without numbers.
    losses = {"losses": position.losses} if len(position.losses) else {}
    return {"state": position.state, "best": position.best, **losses}


def fingerprint(table: Table) -> str:
    """A SHA-256 of the examples and their targets; of data on disk, of some rows."""
    hashed = hashlib.sha256(json.dumps([list(table.x.shape), table.features, table.targets]).encode())
    rows = None
    if isinstance(table.x, np.memmap):
        rows = np.unique(np.linspace(0, len(table.x) - 1, STREAMED_ROWS).astype(int))
    for _, values in in_blocks(table.x, rows):
        hashed.update(np.ascontiguousarray(values).tobytes())
    hashed.update(np.ascontiguousarray(table.y).tobytes())
    return hashed.hexdigest()
