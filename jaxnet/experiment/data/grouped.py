"""Rows that belong together: whole groups are drawn for a part, and none is in two files."""

from itertools import combinations

import numpy as np

from jaxnet.experiment.console.errors import BadInput, some
from jaxnet.experiment.data.table import Table


def draw(count: int, groups: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Which rows make up a part of about `count` rows, a mask (m,).

    Groups are gone through in an order by the seed; each that brings the classes nearer to what is wanted is taken.

    Args:
      count: how many rows are wanted; the classes' shares are those of all rows.
      groups: (m,), the number of each row's group; two at least.
      labels: (m,), numbers of classes; zeros where there are none.
      seed: of the order.

    Returns:
      At least one group, and never all.
    """
    names, of_row = np.unique(groups, return_inverse=True)
    # Of each group, how many rows of each class.
    held = np.zeros((len(names), labels.max() + 1))
    np.add.at(held, (of_row, labels), 1)
    lacking = held.sum(axis=0) * count / len(groups)
    nearest = int(np.abs(lacking - held).sum(axis=1).argmin())
    chosen = np.zeros(len(names), bool)
    for group in np.random.default_rng(seed).permutation(len(names)):
        left = lacking - held[group]
        if np.abs(left).sum() < np.abs(lacking).sum() and chosen.sum() < len(names) - 1:
            chosen[group], lacking = True, left
    if not chosen.any():
        chosen[nearest] = True
    return chosen[of_row]


def apart(column: str, tables: dict[str, Table]) -> dict[str, Table]:
    """Refuses files of which two have rows of one group.

    Args:
      column: of the groups.
      tables: the files' examples, by the option that names each; the first has groups.

    Returns:
      The same, with a note where a file lacks the column, so that nobody knows; the others no longer need theirs.

    Raises:
      BadInput: naming the groups.
    """
    known = {option: set(table.group_names) for option, table in tables.items() if table.groups is not None}
    for (first, of_first), (second, of_second) in combinations(known.items(), 2):
        shared = [name for name in tables[second].group_names if name in of_first & of_second]
        if shared:
            raise BadInput(
                f"{second} {tables[second].name}: has rows of {some(map(repr, shared), 3)} of --group {column}, as "
                f"{first} has; expected other groups in each file; leave their rows out of one of them"
            )
    (own, table), *others = tables.items()
    lacking = [option for option, of_file in others if option not in known]
    told = [
        f"{option} has no column {column!r}: nobody knows whether it shares groups with {own}" for option in lacking
    ]
    return {own: table._replace(notes=(*table.notes, *told))} | {
        option: of_file._replace(groups=None, group_names=()) for option, of_file in others
    }
