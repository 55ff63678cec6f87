"""Whether data fits the machine, asked before any room is made for it."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from jaxnet.experiment.console.errors import BadInput


def require_memory(path: Path, shape: Sequence[int]) -> None:
    """Refuses numbers, as float64, for which the machine has no memory.

    Raises:
      BadInput: naming the file, what it takes and what there is.
    """
    needed, there = 8 * math.prod(shape), _physical()
    if needed > there:
        raise BadInput(
            f"--data {path}: {tuple(shape)} numbers take {needed / 2**30:,.0f} GiB of memory, and this machine has "
            f"{there / 2**30:,.0f}; a folder with x.npy, and --stream, leaves them on disk"
        )


def _physical():
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return math.inf
