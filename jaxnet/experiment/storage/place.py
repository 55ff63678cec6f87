"""Where a run may write: a name that no other run has, and a lock that keeps others out."""

import re
from contextlib import ExitStack, suppress
from pathlib import Path

from jaxnet.experiment.console.errors import BadInput

LOCK = ".lock"


def make_numbered(data: str) -> Path:
    """The first free runs/NAME-1, runs/NAME-2, ...; made at once, so that two runs never share one."""
    stem = re.sub(r"[^\w.-]+", "-", Path(data).stem)[:50] or "run"
    number = 1
    while True:
        folder = Path("runs", f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def lock(folder: Path, stack: ExitStack) -> None:
    """Keeps other runs out until the stack ends; the system lets go of it when the process ends, however that is."""
    from filelock import FileLock, Timeout

    try:
        stack.enter_context(FileLock(folder / LOCK, timeout=0))
    except Timeout:
        raise BadInput(f"{folder}: another run is writing there; wait for its end, or choose another folder") from None
    stack.callback(_remove_lock, folder / LOCK)


def _remove_lock(path):
    """Removes the file while its lock is still held: no lock but ours can be on what has this name.

    Whoever opened it before, and locks it afterwards, holds a file without a name; filelock sees that, and does not
    count it. Removed after the lock was let go, as filelock itself did before 3.30, it could be another run's.
    """
    with suppress(OSError):
        path.unlink()
