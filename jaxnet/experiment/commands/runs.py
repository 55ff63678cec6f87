"""The runs in a folder, with what came of each."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from jaxnet.experiment.commands.compare import outcome, say_interval
from jaxnet.experiment.console import packages, screen
from jaxnet.experiment.console.errors import BadInput, require_folder
from jaxnet.experiment.data.named import NAMES
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.storage.folder import CONFIG, METRICS
from jaxnet.experiment.storage.history import Run, read

HEADER = (
    "run",
    "data",
    "model",
    "optimizer",
    "epochs",
    "best\nvalidation\nloss (epoch)",
    "its\nscore",
    "test\nscore (epoch)",
)


@dataclasses.dataclass(frozen=True)
class RunsConfig:
    """List runs of `jaxnet train` with their scores, those that were written last below."""

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")] = "runs"
    """Where to look, in the folders below too."""


def main() -> None:
    """`runs`, with this process's command line."""
    runs(parse(RunsConfig))


def runs(config: RunsConfig) -> None:
    """Prints the table: accuracies in percent, RMSE in the units of the target.

    Raises:
      BadInput: when there is no such folder, or no run in it.
    """
    packages.require("rich")
    place = Path(config.folder)
    require_folder(place, "one that holds runs of `jaxnet train`")
    listed, left_out = [], []
    for folder in _found(place):
        try:
            listed.append(read(folder))
        except BadInput as error:
            left_out.append(str(error))
    if not listed and not left_out:
        raise BadInput(f"{place}: holds no run; expected folders that `jaxnet train` wrote")
    if listed:
        texts = HEADER.index("epochs")
        columns = list(zip(*(_row(place, run) for run in listed), strict=True))
        columns[:texts] = [tuple(screen.shortened(cells)) for cells in columns[:texts]]
        print(screen.table(HEADER, list(zip(*columns, strict=True)), texts=texts))
        if "-" in columns[-1]:
            screen.say("-          running, or cut short")
        say_interval(listed)
    for line in left_out:
        screen.say(f"note       {line}")


def _found(place: Path) -> list[Path]:
    """The runs' folders, by when their last epoch ended."""
    folders = {path.parent for path in place.rglob(CONFIG) if path.is_file()}
    return sorted(folders, key=lambda folder: (_changed(folder), folder))


def _changed(folder):
    metrics = folder / METRICS
    return (metrics if metrics.exists() else folder / CONFIG).stat().st_mtime


def _row(place: Path, run: Run) -> tuple[str, ...]:
    data = str(run.options["data"])
    name = str(run.folder.relative_to(place)) if run.folder != place else str(place)
    epochs, loss, validation, test, _ = outcome(run)
    made = (run.options.get("model", "mlp"), run.options["optimizer"])
    return name, data if data in NAMES else Path(data).name, *made, epochs, loss, validation, test
