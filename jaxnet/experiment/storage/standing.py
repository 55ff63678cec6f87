"""How far a run has come, by what its folder holds."""

import json
from pathlib import Path

from jaxnet.experiment.console.errors import NONSENSE, BadInput
from jaxnet.experiment.storage import checkpoint
from jaxnet.experiment.storage.checkpoint import FOLDER as CHECKPOINTS
from jaxnet.experiment.storage.folder import CONFIG, METRICS, RESULT
from jaxnet.experiment.storage.model_file import FILE as MODEL


def require_unfinished(folder: Path, epochs: int, asked: int, early_stopping: int) -> None:
    """Refuses to go on after so many epochs, which are all that was asked for, if their outcome is written too.

    Args:
      folder: of the run.
      epochs: after which it stands.
      asked, early_stopping: the options that end it.

    Raises:
      BadInput: saying what makes it go on, if anything does.
    """
    if _epochs_of_result(folder) != epochs or not (folder / MODEL).exists():
        return
    if epochs < asked:
        early = f"--early-stopping {early_stopping} ended it after epoch {epochs}"
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


def require_unspent(folder: Path) -> None:
    """Refuses a private run that is finished: its noise is made for the epochs that it had.

    Raises:
      BadInput: saying so.
    """
    if _epochs_of_result(folder) is not None:
        raise BadInput(f"--resume {folder}: the run is finished, and its privacy budget is spent; start another")


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
