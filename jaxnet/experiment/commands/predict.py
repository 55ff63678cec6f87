"""Predictions of a saved run for new examples."""

import csv
import dataclasses
import io
import sys
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import tyro

from jaxnet.experiment.commands.outcome import told
from jaxnet.experiment.commands.train import device
from jaxnet.experiment.console.errors import BadInput, heed_interrupt
from jaxnet.experiment.console.screen import say
from jaxnet.experiment.data import lines, named
from jaxnet.experiment.data.columns import NUMBER
from jaxnet.experiment.data.delimited import ALL, Selection
from jaxnet.experiment.data.encoding import encoded
from jaxnet.experiment.data.fingerprint import fingerprint
from jaxnet.experiment.data.labels import classes_of, numbers_of
from jaxnet.experiment.data.matching import in_order
from jaxnet.experiment.data.problem import LIKELY
from jaxnet.experiment.data.scaling import require_moderate
from jaxnet.experiment.data.split import Fractions, RowsOfParts, rows_of
from jaxnet.experiment.data.table import Table
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.storage import durable, exports, model_file, newest
from jaxnet.experiment.storage.destination import require_destination
from jaxnet.experiment.storage.model import Model
from jaxnet.experiment.training.scores import scores

Part = Literal["train", "validation", "test", "all"]


@dataclasses.dataclass(frozen=True)
class PredictConfig:
    """Predict with a network that `jaxnet train` trained."""

    WORD: ClassVar = "--data"
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of a run; of one that is not finished, the newest checkpoint counts."""
    # Required here and not by tyro, which would not tell that it is what a second word was meant for.
    data: Annotated[str, tyro.conf.arg(help_behavior_hint="(required)")] = ""
    """A .csv or .tsv file with the columns of the training data, a .npz file with x, a folder with x.npy, of IDX files
    (of which t10k-* are taken, if there) or of images, with folders of classes or without, or a data set's name. Where
    the targets are there too, the predictions are scored."""
    part: Part | None = None
    """Of the data that the run was trained on, the examples of this part alone, as the run's seed drew it."""
    out: str | None = None
    """A .csv file for the predictions; by default they are printed."""
    overwrite: bool = False
    """Replace an existing file."""

    def __post_init__(self) -> None:
        if not self.data:
            raise BadInput("--data is missing; expected what to predict for, as in: jaxnet predict RUN --data FILE")


def main() -> None:
    """`predict`, with this process's command line."""
    predict(parse(PredictConfig))


def predict(config: PredictConfig) -> None:
    """Writes a line for each example: the class and its probability and every class's, or the predicted values."""
    trained = model_file.load(newest.place(Path(config.run)))
    if trained.tokens is not None:
        raise BadInput(f"{config.run}: learnt text, and predicts what follows; `jaxnet generate` writes with it")
    out = Path(config.out) if config.out is not None else None
    if out is not None:
        require_destination("--out", out, overwrite=config.overwrite)
    table = _load(config, trained)
    rows = _rows_again(trained, table)
    chosen = encoded(_part(config, trained, table, rows), trained.treatments)
    require_moderate(chosen, trained.scaling)
    x = chosen.x.scaled(trained.scaling).shaped(trained.network.shape)
    predicted = trained.predict(x.read(slice(None), np.float64))
    heed_interrupt()
    if out is None:
        _write(sys.stdout, trained, predicted, chosen.files)
        sys.stdout.flush()
    else:
        try:
            lines = io.StringIO(newline="")
            _write(lines, trained, predicted, chosen.files)
            durable.write(out, lines.getvalue().encode(errors="backslashreplace"))
        except OSError as error:
            raise BadInput(f"--out {out}: cannot be written ({error.strerror})") from None
    # On stderr, so that the predictions can be piped.
    say(f"device     {device()}", sys.stderr)
    for line in exports.stale(Path(config.run)):
        say(line, sys.stderr)
    examples = "1 example" if len(predicted) == 1 else f"{len(predicted)} examples"
    of_part = f" of the {config.part} part" if config.part not in (None, "all") else ""
    score = _score(trained, chosen, predicted)
    if rows is not None and chosen is table:
        score += f"; the network was trained on {len(rows.train)} of them, --part test leaves these out"
    say(f"predicted  {examples}{of_part}{score}", sys.stderr)


def _load(config: PredictConfig, trained: Model) -> Table:
    """The examples, with the columns in the order of the run's; a test part that is set apart has the same."""
    of_columns = lines.is_one(Path(config.data)) and Path(config.data).is_file()
    targets = trained.problem.targets if of_columns else ()
    selection = _selection(trained) if of_columns else ALL
    table = named.load(
        config.data, targets, selection, with_target=False, form=named.form_for(config.data, trained.form)
    )
    return _without_gaps(in_order(table, trained.columns), trained)


def _selection(trained: Model) -> Selection:
    """The file's columns are what those of the training data were; those that were left out then may be there."""
    kinds = {treatment.name: treatment.kind for treatment in trained.treatments}
    return Selection(
        ignored=trained.left_out,
        kinds=kinds or dict.fromkeys(trained.features, NUMBER),
        weights=trained.origin.weights,
        group=trained.origin.group,
    )


def _without_gaps(table: Table, trained: Model) -> Table:
    """Refuses gaps that nobody knows how to fill, since the data of training were no columns of a file."""
    if table.columns and not trained.treatments:
        gaps = np.argwhere(np.isnan(table.x.read(slice(None), np.float64)))
        if len(gaps):
            row, column = gaps[0]
            raise BadInput(
                f"--data {table.name}, row {row + 1}, column {table.features[column]!r}: expected a finite number, "
                "got an empty cell; the run's data had no columns that say what a gap becomes"
            )
    return table


def _rows_again(trained: Model, table: Table) -> RowsOfParts | None:
    """Which examples of the run's own data are in which part; None for other data."""
    numbers = _numbers(trained, table)
    if numbers is None or (trained.problem.classes and numbers.min() < 0):
        return None
    posed = table._replace(y=numbers)
    if fingerprint(posed, streamed=trained.origin.streamed) != trained.origin.data:
        return None
    fractions = Fractions(trained.origin.validation, trained.origin.test)
    return rows_of(posed, trained.problem, trained.origin.seed, fractions)


def _part(config: PredictConfig, trained: Model, table: Table, rows: RowsOfParts | None) -> Table:
    """The examples that are asked for."""
    if config.part is None or config.part == "all":
        return table.test if table.test is not None and config.part is None else table
    if rows is None:
        raise BadInput(f"--part {config.part}: {table.name} is not what {config.run} was trained on; leave it out")
    apart = {"validation": table.validation, "test": table.test}.get(config.part)
    if apart is not None:
        return apart
    if config.part in ("validation", "test") and getattr(trained.origin, config.part) is None:
        raise BadInput(
            f"--part {config.part}: that part of {config.run} was a file of its own, given as --{config.part}; "
            "give --data with that file, and leave --part out"
        )
    return table.at(getattr(rows, config.part))


def _numbers(trained, table):
    """Targets as the run has them: numbers of classes (m,), -1 for what is none, or values (m, targets); or None."""
    if table.y is None:
        return None
    several, classes = table.y.ndim == 2 and table.y.shape[1] > 1, trained.problem.classes
    if classes:
        return None if several else numbers_of(table.class_labels, classes)
    if table.y.shape != (len(table.x), len(trained.problem.targets)):
        return None
    return None if trained.problem.labels and not np.isin(table.y, (0, 1)).all() else table.y


def _write(file, trained, predicted, files):
    """A line of names and one for each example; of a folder of images, with the file of each."""
    writer = csv.writer(file, lineterminator="\n")
    header, *rows = _cells(trained, predicted)
    if files is not None:
        header, rows = ["file", *header], [[name, *row] for name, row in zip(files, rows, strict=True)]
    writer.writerow(header)
    writer.writerows(rows)


def _cells(trained, predicted):
    classes, targets = trained.problem.classes, trained.problem.targets
    if not classes:
        rows = [[f"{value:.9g}" for value in row] for row in predicted.tolist()]
        if trained.problem.labels:
            decided = (predicted >= LIKELY).astype(int).tolist()
            targets = (*targets, *(f"P({name})" for name in targets))
            rows = [[*of_labels, *of_values] for of_labels, of_values in zip(decided, rows, strict=True)]
        yield targets
        yield from rows
        return
    yield [targets[0], *(f"P({name})" for name in classes)]
    for row in predicted.tolist():
        best = max(range(len(row)), key=row.__getitem__)
        yield [classes[best], *(f"{probability:.9g}" for probability in row)]


def _score(trained, table, predicted):
    """What the predictions are worth, where the targets are known."""
    problem, y = trained.problem, _numbers(trained, table)
    if y is None:
        return ""
    if problem.classes and y.min() < 0:
        (unknown,) = classes_of(table.class_labels[[y.argmin()]])
        return f"; not scored, since the run has learnt no class {unknown[:40]!r}"
    return f": {told(scores(problem, predicted, y, table.weights))}"
