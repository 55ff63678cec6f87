"""By what the data of a run are known again."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from jaxnet.experiment.data.columns import NUMBER
from jaxnet.experiment.data.source import in_blocks
from jaxnet.experiment.data.table import Table

# Of data on disk, so many rows are compared, evenly spread.
STREAMED_ROWS = 1000


def fingerprint(table: Table, *, streamed: bool | None = None) -> str:
    """A SHA-256 of the raw examples and of their targets as a problem has them; of streamed data, of some rows.

    Args:
      table: the examples, as `pose` returns them.
      streamed: by default, whether they are on disk.
    """
    named = [[len(table.x), len(table.features)], table.features, table.targets]
    if any(column.kind != NUMBER for column in table.columns):
        # Texts are in x by their places alone.
        named += [table.columns]
    hashed = hashlib.sha256(json.dumps(named).encode())
    rows = None
    if table.x.on_disk if streamed is None else streamed:
        rows = np.unique(np.linspace(0, len(table.x) - 1, STREAMED_ROWS).astype(int))
    for _, values in in_blocks(table.x, rows):
        hashed.update(np.ascontiguousarray(values).tobytes())
    hashed.update(np.ascontiguousarray(table.y).tobytes())
    for name, of_rows in (("weights", table.weights), ("groups", table.groups)):
        if of_rows is not None:
            hashed.update(name.encode() + np.ascontiguousarray(of_rows).tobytes())
    return hashed.hexdigest()


def joint(fingerprints: Sequence[str]) -> str:
    """One of several tables; of one, its own."""
    return fingerprints[0] if len(fingerprints) == 1 else hashlib.sha256("".join(fingerprints).encode()).hexdigest()
