"""Checkpoints: Orbax keeps the arrays, a manifest of ours says what they are, and that they are as they were written.

A checkpoint is a folder `checkpoints/step-000001234` with `arrays/`, `model.npz` and `manifest.json`. It is written
under another name, has reached the disk when it is renamed, and is verified, file by file, before it is used.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxnet.experiment.console.errors import NONSENSE, BadInput, Failure
from jaxnet.experiment.devices.processes import by_first
from jaxnet.experiment.storage import by_orbax, durable, manifest
from jaxnet.experiment.storage.manifest import Damaged

FOLDER, ARRAYS = "checkpoints", "arrays"


class Checkpoint(NamedTuple):
    """What was restored.

    Attributes:
      path: its folder.
      arrays: a pytree, as it was saved.
      about: the rest, as it was saved.
      passed_over: why newer ones were not used, a line each.
    """

    path: Path
    arrays: Any
    about: dict[str, Any]
    passed_over: tuple[str, ...]


def save(
    run: Path, step: int, arrays: Any, about: dict[str, Any], keep: int, files: Sequence[tuple[str, bytes]] = ()
) -> Path:
    """Writes a checkpoint, and then removes all but the newest ones.

    Args:
      run: the run's folder.
      step: how many updates were made.
      arrays: a pytree of arrays; random keys may be among them.
      about: what goes into the manifest, for JSON.
      keep: how many checkpoints stay.
      files: names and contents of what lies beside the arrays.

    Raises:
      Failure: when it cannot be written; the earlier ones are as they were.
    """
    root, final = run / FOLDER, folder(run, step)
    beside = final.with_name(durable.beside_name(final.name))

    def make_ready():
        root.mkdir(exist_ok=True)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()

    try:
        by_first(make_ready)
        plain = jax.tree.map(by_orbax.plain, arrays)
        by_orbax.write(beside / ARRAYS, plain)
        by_first(lambda: _seal(beside, final, step, plain, about, files))
    except jax.errors.JaxRuntimeError:
        # Not the disk: memory, or another process of the run that is gone.
        raise
    except Exception as error:  # Orbax has exceptions of many kinds for a disk that is full or cannot be written
        shutil.rmtree(beside, ignore_errors=True)
        others = found(run)
        left = f"{others[0]} is as it was" if others else "there is no earlier one"
        raise Failure(f"{final}: the checkpoint cannot be written ({by_orbax.reason(error)}); {left}") from None
    by_first(lambda: _remove(found(run)[keep:]))
    return final


def folder(run: Path, step: int) -> Path:
    """Where the checkpoint after so many updates is."""
    return run / FOLDER / f"step-{step:09d}"


def _seal(beside, final, step, plain, about, files):
    """Has all reach the disk, with the manifest last, and gives the checkpoint its name."""
    for name, content in files:
        durable.write_bytes(beside / name, content)
    written = sorted(path for path in beside.rglob("*") if path.is_file())
    for path in written:
        durable.fsync(path)
    manifest.write(beside, written, {"step": step, "arrays": manifest.described(plain), **about})
    for path in (*(path for path in beside.rglob("*") if path.is_dir()), beside):
        durable.fsync(path)
    if final.exists():
        shutil.rmtree(final)
    durable.rename(beside, final)
    durable.fsync(final.parent)


def _remove(old):
    for path in old:
        # Under another name first, so that none is ever found half removed.
        going = path.with_name(f".{path.name}.old")
        shutil.rmtree(going, ignore_errors=True)
        durable.rename(path, going)
        shutil.rmtree(going, ignore_errors=True)


def found(run: Path) -> list[Path]:
    """The checkpoints of a run, newest first, whether they are whole or not."""
    return sorted((run / FOLDER).glob("step-*"), reverse=True)


def restore(run: Path, like: Callable[[dict[str, Any]], Any]) -> Checkpoint:
    """The newest checkpoint that is as it was written.

    Args:
      run: the run's folder.
      like: from what the manifest tells to a pytree with the structure, shapes and dtypes that are expected; raises
        ValueError or the like where it tells what no run does.

    Raises:
      BadInput: when there is none, or its arrays are not those that are expected, or Orbax does not read them.
    """
    chosen, passed_over = by_first(lambda: _newest_whole(run, like))
    if chosen is None:
        why = "; ".join(passed_over) or "there is none"
        raise BadInput(f"{run}: holds no whole checkpoint to go on from: {why}; start the run anew with --overwrite")
    path = Path(chosen)
    about = manifest.read(path)
    expected = like(about)
    _require_alike(path, about["arrays"], manifest.described(jax.tree.map(by_orbax.plain, expected)))
    return Checkpoint(path, by_orbax.read(path / ARRAYS, expected), about, tuple(passed_over))


def newest_with(run: Path, name: str) -> tuple[Path | None, tuple[str, ...]]:
    """The newest whole checkpoint with that file beside its arrays, or None; and why newer ones are not used."""

    def require(about):
        if name not in about["files"]:
            raise Damaged(f"holds no {name}")

    chosen, passed_over = _newest_whole(run, require)
    return None if chosen is None else Path(chosen), tuple(passed_over)


def _newest_whole(run, like):
    """The path of the newest checkpoint that is as it was written, or None; and why newer ones are not used."""
    passed_over = []
    for path in found(run):
        try:
            _require_like(manifest.verify(path), like)
        except Damaged as damage:
            passed_over.append(f"{path}: {damage}")
        else:
            return str(path), passed_over
    return None, passed_over


def _require_like(about, like):
    try:
        like(about)
    except NONSENSE:
        raise Damaged(f"{manifest.FILE} tells of no run of this version of jaxnet") from None


def _require_alike(path, held, expected):
    for name in {**expected, **held}:
        if held.get(name) != expected.get(name):
            has, wanted = (" ".join(map(str, of)) if of else "nothing" for of in (held.get(name), expected.get(name)))
            raise BadInput(f"{path}: {name} is {has} there, and {wanted} in this run")
