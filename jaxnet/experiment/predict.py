"""Predictions of a saved run for new examples."""

import csv
import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jaxnet.experiment import data, model
from jaxnet.experiment.errors import BadInput, some
from jaxnet.experiment.model import Model
from jaxnet.experiment.run import device
from jaxnet.experiment.scores import scores
from jaxnet.experiment.screen import say
from jaxnet.experiment.split import standardise
from jaxnet.experiment.table import Table


@dataclasses.dataclass(frozen=True)
class PredictConfig:
    """Predict with a network that `scripts/train.py` trained."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = dataclasses.field(
        metadata={"positional": True}
    )
    """The folder of a finished run."""
    data: str
    """A .csv file with the columns of the training data, a .npz file with x, a folder of IDX files, or a data set's
    name. Where the targets are there too, the predictions are scored."""
    out: str | None = None
    """A .csv file for the predictions; by default they are printed."""
    overwrite: bool = False
    """Replace an existing file."""


def predict(config: PredictConfig) -> None:
    """Writes a line for each example: the class and its probability and every class's, or the predicted values."""
    trained = model.load(Path(config.run))
    out = Path(config.out) if config.out is not None else None
    if out is not None and out.exists() and not config.overwrite:
        raise BadInput(f"--out {out}: exists already; choose another name, or replace it with --overwrite")
    table = _load(config, trained)
    predicted = trained.predict(standardise(table, trained.standardisation))
    if out is None:
        _write(sys.stdout, trained, predicted)
        sys.stdout.flush()
    else:
        try:
            with out.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
                _write(file, trained, predicted)
        except OSError as error:
            raise BadInput(f"--out {out}: cannot be written ({error.strerror})") from None
    # On stderr, so that the predictions can be piped.
    say(f"device     {device()}", sys.stderr)
    examples = "1 example" if len(predicted) == 1 else f"{len(predicted)} examples"
    say(f"predicted  {examples}{_score(trained, table, predicted)}", sys.stderr)


def _load(config: PredictConfig, trained: Model) -> Table:
    table = data.load(config.data, _csv_targets(config, trained), with_target=False)
    if table.test is not None:
        table = table.test
    if table.features == trained.features:
        return table
    place = {name: position for position, name in enumerate(table.features)}
    known = set(trained.features)
    missing = [name for name in trained.features if name not in place]
    extra = [name for name in table.features if name not in known]
    if missing or extra:
        differences = [f"lacks {_some(missing)}" if missing else "", f"has also {_some(extra)}" if extra else ""]
        raise BadInput(
            f"--data {table.source}: expected the {len(trained.features)} columns of the training data, "
            f"but it {' and '.join(filter(None, differences))}"
        )
    order = [place[name] for name in trained.features]
    return table._replace(x=table.x[:, order], features=trained.features)


def _csv_targets(config, trained):
    path = Path(config.data)
    return trained.problem.targets if path.suffix.lower() == ".csv" and path.is_file() else ()


def _some(names, most=5):
    return some(map(repr, names), most)


def _write(file, trained, predicted):
    writer = csv.writer(file, lineterminator="\n")
    classes = trained.problem.classes
    if not classes:
        writer.writerow(trained.problem.targets)
        writer.writerows([f"{value:.9g}" for value in row] for row in predicted.tolist())
        return
    writer.writerow([trained.problem.targets[0], *(f"P({name})" for name in classes)])
    for row in predicted.tolist():
        best = max(range(len(row)), key=row.__getitem__)
        writer.writerow([classes[best], *(f"{probability:.9g}" for probability in row)])


def _score(trained, table, predicted):
    """What the predictions are worth, where the targets are known."""
    problem = trained.problem
    if table.y is None:
        return ""
    if not problem.classes:
        if table.y.shape != predicted.shape:
            return ""
        measured = scores(problem, predicted, table.y)
        r2 = f", R2 {measured['r2']:.3f}" if "r2" in measured else ""
        return f": RMSE {measured['rmse']:.4g}{r2}"
    texts = table.y if table.y.ndim == 1 else [f"{value:.17g}" for value in table.y[:, 0]]
    numbers = {name: number for number, name in enumerate(problem.classes)}
    if any(text not in numbers for text in texts):
        return ""
    measured = scores(problem, predicted, np.array([numbers[text] for text in texts]))
    return f": accuracy {100 * measured['accuracy']:.2f}%"
