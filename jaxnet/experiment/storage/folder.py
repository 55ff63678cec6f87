"""A run's folder: its name, what it may replace, and the options that are kept in it."""

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from jaxnet.arguments import positive_number
from jaxnet.experiment.console.errors import NONSENSE, BadInput, require_folder
from jaxnet.experiment.storage import durable, kept_options, place
from jaxnet.experiment.storage.checkpoint import FOLDER as CHECKPOINTS
from jaxnet.experiment.storage.exports import FILE as EXPORTS
from jaxnet.experiment.storage.model_file import FILE as MODEL
from jaxnet.experiment.storage.samples import FILE as SAMPLES
from jaxnet.experiment.storage.tensorboard import FOLDER as TENSORBOARD

Options = TypeVar("Options")
CONFIG, METRICS, RESULT, FIGURES = "config.json", "metrics.jsonl", "result.json", "figures"
PROFILE, SEEDS = "profile", "seeds"
# What config.json holds beside the options.
RESOLVED, VERSIONS = "resolved", "versions"
BESIDE = {RESOLVED, VERSIONS}
CONTENTS = {CONFIG, METRICS, RESULT, MODEL, EXPORTS, FIGURES, CHECKPOINTS, PROFILE, SAMPLES, SEEDS, TENSORBOARD}
# A process that is killed leaves these.
LEFT_BEHIND = {place.LOCK, *map(durable.beside_name, CONTENTS)}


def check(out: str, *, overwrite: bool) -> None:
    """Refuses a folder that may not be written or replaced.

    Raises:
      BadInput: saying why.
    """
    folder = Path(out)
    try:
        if not out.strip():
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
    if not overwrite:
        raise BadInput(f"--out {folder}: holds a run already; choose another name, or replace it with --overwrite")
    others = sorted(found - CONTENTS)
    if others:
        raise BadInput(f"--out {folder}: holds {others[0]!r}, which no run wrote; move it away, or choose another name")


def make(options: Mapping[str, Any], resolved: dict[str, Any], stack: ExitStack) -> Path:
    """Makes the folder that the run writes into, with config.json. An earlier run stays until `finish`.

    Args:
      options: all of the run's, by name.
      resolved: what they come to where they leave something open.
      stack: at whose end the folder is no longer locked.

    Raises:
      BadInput: when it cannot be written, or another run writes there.
    """
    folder = Path(options["out"]) if options["out"] is not None else None
    try:
        if folder is None:
            folder = place.make_numbered(options["data"])
            place.lock(folder, stack)
        elif folder.is_dir() and any(path.name not in LEFT_BEHIND for path in folder.iterdir()):
            place.lock(folder, stack)
            folder = _beside(folder)
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
        else:
            folder.mkdir(parents=True, exist_ok=True)
            place.lock(folder, stack)
        (folder / FIGURES).mkdir(exist_ok=True)
        write_json(
            folder / CONFIG, kept_options.kept(options) | {RESOLVED: resolved, VERSIONS: kept_options.versions()}
        )
    except OSError as error:
        raise _cannot(folder, error) from None
    return folder


def again(folder: Path, stack: ExitStack) -> Path:
    """Opens the folder of the run that is to go on.

    Args:
      folder: of the run.
      stack: at whose end the folder is no longer locked.

    Raises:
      BadInput: when another process writes there.
    """
    try:
        place.lock(folder, stack)
    except OSError as error:
        raise _cannot(folder, error, "--resume") from None
    return folder


def go_on(folder: Path, options: Mapping[str, Any]) -> None:
    """Writes the options that the run goes on with, once it is sure that it does.

    Raises:
      BadInput: when they cannot be written.
    """
    try:
        (folder / FIGURES).mkdir(exist_ok=True)
        before = json.loads((folder / CONFIG).read_text())
        of_the_start = {"resume": None, "out": before["out"], RESOLVED: before.get(RESOLVED)}
        write_json(folder / CONFIG, kept_options.kept(options) | of_the_start | {VERSIONS: kept_options.versions()})
    except OSError as error:
        raise _cannot(folder, error, "--resume") from None


def read_options(folder: Path, restored: Callable[[dict[str, Any]], Options]) -> Options:
    """The options of a run.

    Args:
      folder: of the run.
      restored: from options by name to what they are; refuses what no run has.

    Raises:
      BadInput: when the folder holds none.
    """
    require_folder(folder, "the folder of a run", "--resume ")
    try:
        stored = json.loads((folder / CONFIG).read_text())
        lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
        return restored({name: value for name, value in (stored | lists).items() if name not in BESIDE})
    except OSError as error:
        raise BadInput(f"--resume {folder}: holds no run ({CONFIG}: {error.strerror})") from None
    except NONSENSE:
        raise BadInput(f"--resume {folder}: {CONFIG} is damaged, or of another version of jaxnet") from None


def read_resolved(folder: Path, name: str) -> float:
    """The number that an option of a run came to, as config.json keeps it.

    Raises:
      BadInput: when it does not.
    """
    try:
        return positive_number("config.json", name, json.loads((folder / CONFIG).read_text())[RESOLVED][name])
    except (OSError, *NONSENSE):
        raise BadInput(f"--resume {folder}: {CONFIG} is damaged, or of another version of jaxnet") from None


def forget_keys(folder: Path) -> None:
    """Removes the checkpoints of a private run that is finished: they hold the keys of its noise."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def finish(written: Path, out: str | None) -> Path:
    """Puts a finished run in the place of the one that it replaces, if any, and returns where it is."""
    if out is None or written == Path(out):
        return written
    final = Path(out)
    for name in CONTENTS | LEFT_BEHIND - {place.LOCK}:
        old = final / name
        if old.is_dir():
            shutil.rmtree(old)
        elif old.exists():
            old.unlink()
    for path in written.iterdir():
        shutil.move(path, final / path.name)
    written.rmdir()
    return final


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file that a person can read."""
    durable.write(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def _beside(folder):
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}.new")


def _cannot(folder, error, option="--out"):
    return BadInput(f"{option} {folder or 'runs'}: cannot be written ({error.strerror or error})")
