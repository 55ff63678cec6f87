"""Exports beside a run's model: of which model each was made, so that one that has changed since is noticed."""

import json
from pathlib import Path

from jaxnet.experiment.console.errors import NONSENSE
from jaxnet.experiment.storage import durable
from jaxnet.experiment.storage.model_file import FILE as MODEL

FILE = "exports.json"


def note(run: Path, export: Path, model: Path) -> None:
    """Notes the SHA-256 of the model's file that an export in the run's folder was made of.

    Raises:
      OSError: when it cannot be written.
    """
    if export.resolve().parent == run.resolve():
        noted = _read(run) | {export.name: durable.digest(model)}
        durable.write(run / FILE, (json.dumps(noted, indent=2) + "\n").encode())


def stale(run: Path) -> list[str]:
    """A line for each export in the run's folder that was made of another model than is there now."""
    noted, model = _read(run), run / MODEL
    if not noted or not model.is_file():
        return []
    now = durable.digest(model)
    names = sorted(name for name, then in noted.items() if then != now and (run / name).is_file())
    return [f"stale      {run / name}: was exported from an earlier {MODEL}; export it again" for name in names]


def _read(run):
    try:
        noted = json.loads((run / FILE).read_bytes())
        return {name: then for name, then in noted.items() if isinstance(then, str)}
    except (OSError, *NONSENSE):
        return {}
