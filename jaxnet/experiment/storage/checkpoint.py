"""Checkpoints: Orbax keeps the arrays, a manifest of ours says what they are, and that they are as they were written.

A checkpoint is a folder `checkpoints/step-000001234` with `arrays/`, `model.npz` and `manifest.json`. It is written
under another name, has reached the disk when it is renamed, and is verified, file by file, before it is used.
"""

import contextlib
import errno
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.experiment.console.errors import NONSENSE, BadInput, Failure, first_line
from jaxnet.experiment.devices.processes import by_first
from jaxnet.experiment.storage import durable, manifest
from jaxnet.experiment.storage.manifest import Damaged

FOLDER, ARRAYS = "checkpoints", "arrays"
# What is wrong with a disk that takes no more, of which Orbax tells in sentences of its own.
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


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
    import orbax.checkpoint as ocp

    root, final = run / FOLDER, folder(run, step)
    beside = final.with_name(durable.beside_name(final.name))

    def make_ready():
        root.mkdir(exist_ok=True)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()

    try:
        by_first(make_ready)
        plain = jax.tree.map(_plain, arrays)
        # Every process writes what its devices hold.
        with _quiet(), ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save((beside / ARRAYS).resolve(), plain)
        by_first(lambda: _seal(beside, final, step, plain, about, files))
    except jax.errors.JaxRuntimeError:
        # Not the disk: memory, or another process of the run that is gone.
        raise
    except Exception as error:  # Orbax has exceptions of many kinds for a disk that is full or cannot be written
        shutil.rmtree(beside, ignore_errors=True)
        others = found(run)
        left = f"{others[0]} is as it was" if others else "there is no earlier one"
        raise Failure(f"{final}: the checkpoint cannot be written ({_reason(error)}); {left}") from None
    by_first(lambda: _remove(found(run)[keep:]))
    return final


def folder(run: Path, step: int) -> Path:
    """Where the checkpoint after so many updates is."""
    return run / FOLDER / f"step-{step:09d}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax raises what goes wrong; what is told besides, a trace for each thread and task of its, is not heard."""
    logger, tasks, hook = logging.getLogger("absl"), logging.getLogger("asyncio"), sys.unraisablehook
    level = logger.level

    def told(unraisable):
        if unraisable.exc_type is not RuntimeError or str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    logger.setLevel(logging.CRITICAL + 1)
    tasks.addFilter(_is_of_no_task)
    sys.unraisablehook = told
    try:
        yield
        # Where a write fails, others that were begun may end later, and find nobody who waits: then these two stay.
        sys.unraisablehook = hook
        tasks.removeFilter(_is_of_no_task)
    finally:
        logger.setLevel(level)


def _is_of_no_task(record):
    """Whether a line of asyncio's is about something else than a task that failed unseen."""
    return "exception was never retrieved" not in record.getMessage()


def _reason(error):
    told = first_line(error)
    known = [text for text in map(os.strerror, OF_THE_DISK) if text in told]
    return getattr(error, "strerror", None) or (known or [told])[0]


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
    _require_alike(path, about["arrays"], manifest.described(jax.tree.map(_plain, expected)))
    return Checkpoint(path, _load(path / ARRAYS, expected), about, tuple(passed_over))


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


def _load(path, like):
    import orbax.checkpoint as ocp

    # Whatever devices they were on, they come back to where this run has them.
    blank = jax.tree.map(_blank, jax.tree.map(_plain, like))
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            arrays = checkpointer.restore(path.resolve(), blank)
    except jax.errors.JaxRuntimeError:
        # Not the checkpoint: memory, or another process of the run that is gone.
        raise
    except Exception as error:  # Orbax has exceptions of many kinds for what it does not understand
        remedy = f"remove {path.parent} to go on from the one before, if there is one"
        raise BadInput(f"{path}: cannot be read ({first_line(error)}); {remedy}") from None
    return jax.tree.map(_as, arrays, like)


def _blank(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))


def _plain(leaf):
    """A random key as its numbers; any other array as it is."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _as(array, like):
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    return np.asarray(array) if isinstance(like, np.ndarray) else jnp.asarray(array)


def _is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _require_alike(path, held, expected):
    for name in {**expected, **held}:
        if held.get(name) != expected.get(name):
            has, wanted = (" ".join(map(str, of)) if of else "nothing" for of in (held.get(name), expected.get(name)))
            raise BadInput(f"{path}: {name} is {has} there, and {wanted} in this run")
