"""Arrays by Orbax: written and read, and what it says of what goes wrong in one line."""

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.experiment.console.errors import BadInput, first_line

# What is wrong with a disk that takes no more, of which Orbax tells in sentences of its own.
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


def write(path: Path, arrays: Any) -> None:
    """Writes a pytree of arrays into a folder; every process what its devices hold.

    Args:
      path: of the folder.
      arrays: without random keys; see `plain`.
    """
    import orbax.checkpoint as ocp

    with _quiet(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.resolve(), arrays)


def read(path: Path, like: Any) -> Any:
    """The arrays of a folder, with the shapes, dtypes and devices of a pytree that may hold random keys.

    Raises:
      BadInput: when Orbax does not read them.
    """
    import orbax.checkpoint as ocp

    # Whatever devices they were on, they come back to where this run has them.
    blank = jax.tree.map(_blank, jax.tree.map(plain, like))
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


def plain(leaf: Any) -> Any:
    """A random key as its numbers; any other array as it is."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def reason(error: Exception) -> str:
    """Why nothing could be written: what the system says of the disk, or the first line of what Orbax says."""
    told = first_line(error)
    known = [text for text in map(os.strerror, OF_THE_DISK) if text in told]
    return getattr(error, "strerror", None) or (known or [told])[0]


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


def _blank(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))


def _as(array, like):
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    return np.asarray(array) if isinstance(like, np.ndarray) else jnp.asarray(array)


def _is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
