"""Another file's examples, in the form of those that a network learns from."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxnet.experiment.console.errors import BadInput, some
from jaxnet.experiment.data import lines, named
from jaxnet.experiment.data.delimited import ALL, Selection
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.table import Table


def in_order(table: Table, columns: tuple[str, ...]) -> Table:
    """The table with these features in this order, found by their names.

    Raises:
      BadInput: when it lacks some, or has others.
    """
    if table.features == columns:
        return table
    place = {name: position for position, name in enumerate(table.features)}
    known = set(columns)
    missing = [name for name in columns if name not in place]
    extra = [name for name in table.features if name not in known]
    if missing or extra:
        differences = [f"lacks {_some(missing)}" if missing else "", f"has also {_some(extra)}" if extra else ""]
        raise BadInput(
            f"--data {table.name}: expected the {len(columns)} columns of the training data, "
            f"but it {' and '.join(filter(None, differences))}"
        )
    order = [place[name] for name in columns]
    vectors = table.x.shaped((len(order),)).read(slice(None), np.float64)
    held = tuple(table.columns[k] for k in order) if table.columns else ()
    return table._replace(x=InMemory(vectors[:, order]), features=columns, columns=held)


def beside(
    option: str, source: str, table: Table, weights: str | None, group: str | None = None, *, stream: bool
) -> Table:
    """The validation or test part that a file or folder holds.

    Args:
      option: '--validation' or '--test', which messages name.
      source: the file or folder. Of a folder of IDX files, and of what Keras saves, the test part is taken.
      table: what is trained on: its columns, as what they were found to be, are expected.
      weights: the column of what each example counts, if any.
      group: the column that says which rows belong together, if any, which the file need not have.
      stream: leave the inputs on disk.

    Raises:
      BadInput: when it cannot be read, or holds other columns or targets.
    """
    of_columns = lines.is_one(Path(source)) and source not in named.NAMES
    kinds = {column.name: column.kind for column in table.columns}
    selection = Selection(kinds=kinds, ignored=table.beside, weights=weights, group=group) if of_columns else ALL
    with _told_as(option):
        targets = table.targets if of_columns else ()
        read = named.load(source, targets, selection, stream=stream, form=named.form_for(source, table.form))
        read = in_order(read if read.test is None else read.test, table.features)
    return read._replace(x=read.x.shaped(table.x.shape[1:]), targets=table.targets)


@contextlib.contextmanager
def _told_as(option: str) -> Iterator[None]:
    """What is wrong with a file is told of the option that named it."""
    try:
        yield
    except BadInput as error:
        raise BadInput(str(error).replace("--data", option, 1)) from None


def _some(names, most=5):
    return some(map(repr, names), most)
