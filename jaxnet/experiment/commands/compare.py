"""Runs beside each other: a table of what differs between them and what came of it, and their curves in one figure."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxnet.experiment.console import packages, screen
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.figures.curves import draw_comparison
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.options.resumed import FREE, OF_A_START
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage.destination import require_destination
from jaxnet.experiment.storage.history import Run, read
from jaxnet.experiment.training.interval import half_width

FORMATS = (".png", ".svg", ".pdf")
# What options are that a run of an earlier version was started without.
DEFAULTS = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
# Options that leave a run's numbers what they are.
IGNORED = FREE | OF_A_START | {"checkpoint_every"}
# Options that make it another problem, or judge by other examples.
POSING = ("data", "target", "validation", "test", "weights", "class_weights")
KINDS = {"accuracy": "classes, with an accuracy", "rmse": "numbers, with an RMSE"}


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """Compare runs of `jaxnet train`, finished or not."""

    run: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """The folders of the runs."""
    out: str = "compare.png"
    """The figure: a .png, .svg or .pdf file, which is replaced if it is there."""

    def __post_init__(self) -> None:
        if not self.run:
            raise BadInput("RUN is missing; expected the folders of one run or more; --help says what they are")
        out = Path(self.out)
        if out.suffix.lower() not in FORMATS:
            raise BadInput(f"--out {out}: expected a name that ends in .png, .svg or .pdf")
        require_destination("--out", out, overwrite=True)


def main() -> None:
    """`compare`, with this process's command line."""
    compare(parse(CompareConfig))


def compare(config: CompareConfig) -> None:
    """Prints the table and draws the figure.

    Raises:
      BadInput: when a folder holds no run, or one that does not go with the others, or the figure cannot be written.
    """
    packages.require("rich", "matplotlib")
    folders = [Path(name) for name in config.run]
    _check_distinct(folders)
    runs = [_with_all_options(read(folder)) for folder in folders]
    for run in runs:
        if run.metric != runs[0].metric:
            raise BadInput(
                f"{run.folder}: learns {KINDS[run.metric]}, and {runs[0].folder} {KINDS[runs[0].metric]}; "
                "expected runs of one kind; compare each kind by itself"
            )
    named = dict(zip(distinguishing_names(folders), runs, strict=True))
    _print_table(named)
    lines = {name: run.epochs for name, run in named.items()}
    try:
        draw_comparison(Path(config.out), lines, accuracy=runs[0].metric == "accuracy")
    except OSError as error:
        raise BadInput(f"--out {config.out}: cannot be written ({error.strerror})") from None
    screen.say(f"written    {config.out}")


def _with_all_options(run):
    return run._replace(options=DEFAULTS | run.options)


def distinguishing_names(folders: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as it takes to tell it from the others."""
    # Without '..', and with links as they are called.
    paths = [Path(os.path.abspath(folder)).parts for folder in folders]
    names = []
    for path in paths:
        count = next(k for k in range(1, len(path) + 1) if [other[-k:] for other in paths].count(path[-k:]) == 1)
        names.append(str(Path(*path[-count:])))
    return names


def _check_distinct(folders):
    seen: dict[Path, Path] = {}
    for folder in folders:
        first = seen.setdefault(folder.resolve(), folder)
        if first is not folder:
            same = f"{folder}: is given twice" if first == folder else f"{folder}: is the same folder as {first}"
            raise BadInput(f"{same}; expected each run once; leave one out")


def _print_table(runs: dict[str, Run]) -> None:
    metric = "accuracy" if next(iter(runs.values())).metric == "accuracy" else "RMSE"
    options = dict.fromkeys(name for run in runs.values() for name in run.options if name not in IGNORED)
    told = {name: [_told(run.options.get(name)) for run in runs.values()] for name in options}
    differing = {name: cells for name, cells in told.items() if len(set(cells)) > 1}
    texts = {"run": list(runs)} | {name.replace("_", "\n"): cells for name, cells in differing.items()}
    texts = {name: screen.shortened(cells) for name, cells in texts.items()}
    outcomes = (
        "epochs",
        "best\nvalidation\nloss (epoch)",
        f"validation\n{metric}",
        f"test\n{metric}\n(epoch)",
        "seconds",
    )
    rows = zip(*texts.values(), *zip(*map(outcome, runs.values()), strict=True), strict=True)
    print(screen.table((*texts, *outcomes), list(rows), texts=len(texts)))
    if not all(run.result for run in runs.values()):
        screen.say("-          running, or cut short")
    say_interval(runs.values())
    posed = [name for name in POSING if name in differing]
    if posed:
        screen.say(
            f"note       the runs differ in {' and '.join(posed)}: losses and {metric} are not of the same problem"
        )


def _told(option: Any) -> str:
    """An option as a cell."""
    if isinstance(option, (list, tuple)):
        return " ".join(map(str, option)) or "none"
    if isinstance(option, bool):
        return "yes" if option else "no"
    return "default" if option is None else str(option)


def outcome(run: Run) -> tuple[str, str, str, str, str]:
    """The cells for what came of a run: epochs, best validation loss, its score, the test score, seconds.

    Of several seeds they are means, with half of their 95% intervals.
    """
    best, name, test = run.best, f"test_{run.metric}", "-"
    of_loss, of_score = (
        None if best.seeds is None else half_width(best.seeds[name])
        for name in ("validation_loss", "validation_metric")
    )
    if run.result is not None:
        ends = run.result.get("interval", {}).get(name)
        half = None if ends is None else (ends[1] - ends[0]) / 2
        test = f"{_score(run, run.result[name], half)} ({run.result['kept_epoch']})"
    loss = f"{best.validation_loss:.4g}{'' if of_loss is None else f' +- {of_loss:.2g}'} ({best.number})"
    seconds = f"{run.epochs[-1].seconds:.1f}"
    score = _score(run, best.validation_metric, of_score)
    return f"{len(run.epochs)}/{run.options['epochs']}", loss, score, test, seconds


def _score(run, value, half):
    if run.metric == "accuracy":
        return f"{100 * value:.2f}%" + ("" if half is None else f" +- {100 * half:.2f}%")
    return f"{value:.4g}" + ("" if half is None else f" +- {half:.2g}")


def say_interval(runs: Iterable[Run]) -> None:
    """What stands behind a +-, where there is one."""
    if any(run.best.seeds is not None for run in runs):
        screen.say("+-         half of the 95% interval of the mean over a run's seeds, on one split")
