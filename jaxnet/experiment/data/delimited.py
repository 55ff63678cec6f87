"""Reading .csv and .tsv files, plain or gzipped, with the place of every mistake."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jaxnet.experiment.console.errors import BadInput, did_you_mean, some
from jaxnet.experiment.data import columns, lines, rows, targets
from jaxnet.experiment.data.columns import Column, Odd
from jaxnet.experiment.data.lines import INDEX, LATIN, UNMARKED
from jaxnet.experiment.data.raw import Raw, header_of
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.table import Table


class Selection(NamedTuple):
    """Which columns features are taken from, and as what.

    Attributes:
      drop: left out.
      only: all but these are left out, and these in no case; empty for all.
      kinds: of columns that are known already, by name.
      ignored: left out where they are there.
      weights: the column of what each example counts, if any.
      group: the column that says which rows belong together, if any; where it is ignored, it need not be there.
    """

    drop: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    kinds: Mapping[str, str] = MappingProxyType({})
    ignored: tuple[str, ...] = ()
    weights: str | None = None
    group: str | None = None

    @property
    def of_rows(self) -> tuple[str, ...]:
        """The columns that say something of each row, and are no features."""
        return tuple(name for name in (self.weights, self.group) if name is not None)


ALL = Selection()


def read(path: Path, named: tuple[str, ...], selection: Selection = ALL, *, with_target: bool = True) -> Table:
    """A table with a header line of column names.

    Args:
      path: of the file.
      named: the target columns.
      selection: of the others.
      with_target: whether the examples must come with targets.

    Raises:
      BadInput: naming every cell that does not fit its column.
    """
    form = lines.form_of(path)
    header = header_of(path, form)
    named = tuple(dict.fromkeys(named))
    if with_target:
        if not named:
            raise BadInput(f"--target: {path} needs a target column; its columns are {some(header)}")
        _require_columns(path, header, named, selection)
    present = [target for target in named if target in header]
    others = {*present, *selection.drop, *selection.ignored, *selection.of_rows}
    asked = [name for name in selection.only or header if name not in others]
    if not asked:
        raise BadInput(f"--data {path}: expected at least one column beside the target")
    as_texts = [*present, *(name for name in selection.of_rows if name in header)]
    raw = Raw.read(path, form, header, asked, as_texts, selection.kinds)
    found, odd, left_out = _features(form, raw, asked, selection)
    of_targets = targets.read([raw.texts[name] for name in present]) if present else None
    of_rows = rows.read(raw.texts, selection.weights, selection.group, decimal_comma=form.separator == ";")
    beside = [*(of_targets if isinstance(of_targets, list) else ()), *of_rows.odd]
    _require_fitting(path, raw, odd, beside if with_target else [], selection)
    if not found:
        raise BadInput(f"--data {path}: no column is left to learn from: {columns.listed(left_out)}")
    y, names = (None, None) if of_targets is None or isinstance(of_targets, list) else of_targets
    features = tuple(column.name for column, _ in found)
    return Table(
        str(path),
        InMemory(np.stack([values for _, values in found], axis=1)),
        y,
        features,
        named,
        names=names,
        columns=tuple(column for column, _ in found),
        left_out=left_out,
        notes=(*_notes(form), *rows.notes(of_rows.weights, selection.weights)),
        weights=of_rows.weights,
        groups=of_rows.groups,
        group_names=of_rows.group_names,
        beside=tuple(name for name in header if name not in (*features, *present)),
    )


def _require_fitting(path, raw, odd, beside, selection):
    """Refuses cells that do not fit, those of features and others, all at once."""
    if odd or beside:
        # What a model was trained with, it needs again.
        otherwise = ", or give --categorical or --drop with the column" if odd and not selection.kinds else ""
        raise BadInput(f"--data {path}, {columns.told([*odd, *beside], raw.line_of)}; mend the cells{otherwise}")


def _notes(form):
    """What was found out of the file's form that its reader may want to know."""
    told = []
    if form.encoding in UNMARKED:
        what = "is not UTF-8" if form.encoding in LATIN else "has no mark"
        told.append(
            f"its text {what} and was read as {UNMARKED[form.encoding]}; save it as UTF-8 if letters look wrong"
        )
    if form.names_rows:
        told.append(f"its lines have a cell more than column names; the first one names the row, {INDEX!r}")
    return tuple(told)


def _require_columns(path, header, named, selection):
    """That the columns which the options name are there."""
    listed = f"its columns are {some(header)}"
    weights, group = (() if name is None else (name,) for name in (selection.weights, selection.group))
    group = () if selection.group in selection.ignored and selection.group not in header else group
    of_options = {"--target": named, "--drop": selection.drop, "--features": selection.only}
    of_options |= {"--weights": weights, "--group": group}
    for option, asked in of_options.items():
        for name in asked:
            if name not in header:
                raise BadInput(f"{option}: {path} has no column {name!r}{did_you_mean(name, header)}; {listed}")
    for option, asked in (("--weights", weights), ("--group", group)):
        for name in asked:
            if name in (*named, *selection.only):
                raise BadInput(f"{option}: {name!r} is given as {'--target' if name in named else '--features'} too")


def _features(form, raw, asked, selection):
    """The columns to learn from, each with its values (m,), cells that do not fit, and why others are left out."""
    found: list[tuple[Column, np.ndarray]] = []
    odd: list[Odd] = []
    left_out: dict[str, str] = {}
    for name in asked:
        if name in raw.numbers:
            of_column: Any = Column(name), raw.numbers[name]
        else:
            kind = selection.kinds.get(name)
            of_column = columns.interpreted(raw.written[name], kind, decimal_comma=form.separator == ";")
        if isinstance(of_column, Odd):
            odd.append(of_column)
            continue
        why = None if name in selection.only or name in selection.kinds else columns.why_left_out(*of_column)
        if why is None:
            found.append(of_column)
        else:
            left_out[name] = why
    return found, odd, left_out
