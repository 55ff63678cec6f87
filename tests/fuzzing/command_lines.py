"""Command lines: options misspelt, doubled, without their value, with values that are none."""

import contextlib
import dataclasses
import io
import random
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from benchmarks.program import BenchmarkConfig
from claims.program import LessonConfig

from fuzzing import samples
from fuzzing.case import ODD_TEXTS, Case, broken_text
from jaxnet.experiment.commands.check import CheckConfig
from jaxnet.experiment.commands.compare import CompareConfig
from jaxnet.experiment.commands.draw import DrawConfig
from jaxnet.experiment.commands.export import ExportConfig
from jaxnet.experiment.commands.generate import GenerateConfig
from jaxnet.experiment.commands.predict import PredictConfig
from jaxnet.experiment.commands.runs import RunsConfig
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.options.train_config import TrainConfig

SCRIPTS: dict[str, tuple[type, int]] = {
    "train.py": (TrainConfig, 60),
    "predict.py": (PredictConfig, 9),
    "export.py": (ExportConfig, 6),
    "draw.py": (DrawConfig, 5),
    "generate.py": (GenerateConfig, 5),
    "compare.py": (CompareConfig, 7),
    "runs.py": (RunsConfig, 4),
    "check_gradients.py": (CheckConfig, 5),
    "lesson.py": (LessonConfig, 5),
    "benchmark.py": (BenchmarkConfig, 8),
}
# What these do when nothing is wrong takes longer than all cases: something always is.
LONG = {"check_gradients.py", "lesson.py", "benchmark.py"}
# What is right, and soon done. No --coordinator is: a process would wait for the others there.
RIGHT = {
    "data": ("iris", samples.CSV, "moons", samples.NPZ),
    "target": (samples.TARGET,),
    "hidden": ("1", "2"),
    "learning_rate": ("0.01", "1", "1e-9", "1e18"),
    "weight_decay": ("0", "0.1", "1e18"),
    "warmup": ("1", "1epoch", "9epochs"),
    "final_learning_rate": ("0", "1e18"),
    "decay_epochs": ("1", "3"),
    "beta1": ("0", "0.9"),
    "beta2": ("0.99",),
    "accumulate": ("1", "3", str(2**40)),
    "clip_gradient": ("1", "1e-300", "1e18"),
    "label_smoothing": ("0", "0.1"),
    "batch_size": ("1000", "16", str(2**40)),
    "epochs": ("1", "2"),
    "early_stopping": ("0", "1"),
    "seed": ("1", str(2**32 - 1)),
    "clip_examples": ("1", "1e-300", "1e18"),
    "noise_multiplier": ("0", "1", "1e18"),
    "private_epsilon": ("3", "0.01", "100"),
    "private_delta": ("1e-5", "0.5"),
    "out": ("made", "made/deep", samples.RUN, "taken"),
    "checkpoint_every": ("0", "60s", "1epoch", "3"),
    "keep": ("1", str(2**70)),
    "resume": (samples.RUN, samples.STOPPED),
    "mesh": ("data=1", "model=1,data=1", "data=2"),
    "coordinator": ("nowhere",),
    "processes": ("1",),
    "process_id": ("0",),
    "part": ("train", "validation", "test", "all"),
    "run": (samples.RUN, samples.STOPPED, samples.NUMBERS),
    "seeds": ("1", "2"),
    "folder": (".", samples.RUN),
    "features": ("x",),
    "drop": ("x",),
    "categorical": ("x",),
    "validation": (samples.CSV, samples.NPZ, "iris"),
    "test": (samples.CSV, samples.NPZ),
    "validation_fraction": ("0.2", "1e-9", "0.999"),
    "test_fraction": ("0.2", "1e-9", "0.999"),
    "group": ("a",),
    "weights": ("b", samples.TARGET),
    "context": ("4",),
    "width": ("4",),
    "depth": ("1",),
    "heads": ("2",),
    "tokens": ("bytes", "characters"),
    "epoch_steps": ("1",),
    "length": ("3",),
    "html": ("made.html", samples.RUN, "taken"),
    "example": ("0", "3", str(2**70)),
}
# Without "--" before them.
POSITIONAL = {"run", "what", "folder"}
WRITTEN = {"out", "resume", "html"}


def make(rng: random.Random, folder: Path) -> Case:
    """A command line for one of the scripts, in a folder with data and runs."""
    (folder / "taken").write_text("a file that is nobody's run")
    script = rng.choices(list(SCRIPTS), [weight for _, weight in SCRIPTS.values()])[0]
    config = SCRIPTS[script][0]
    types = get_type_hints(config)
    given = (
        [("data", [rng.choice(RIGHT["data"])]), ("epochs", ["1"]), ("hidden", ["2"])] if config is TrainConfig else []
    )
    positional = []
    for field in dataclasses.fields(config):
        values = _values(rng, field.name, types[field.name])
        if field.name in POSITIONAL:
            positional = values
        elif rng.random() < (0.8 if field.default is dataclasses.MISSING else 6 / len(types)):
            given = [(name, kept) for name, kept in given if name != field.name] + [(field.name, values)]
    line = [*positional, *(part for name, values in given for part in _option(rng, name, types[name], values))]
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        _break(rng, line)
    if script in LONG or _takes_long(config, line):
        line.insert(rng.randrange(len(line) + 1), "--no-such-" + rng.choice(("option", "option=1", "thing")))
    samples.copy(folder, *(name for name in samples.ALL if any(name in text for text in line)))
    return Case(script, line, _written(line, script), may_diverge=True)


def _takes_long(config, line):
    """Whether a line is right, and asks for more than a moment's work."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            asked = parse(config, line)
    except (BadInput, SystemExit):
        return False
    if not isinstance(asked, TrainConfig):
        return False
    return (
        asked.epochs > 3 or max(asked.hidden, default=0) > 100 or len(asked.hidden) > 3 or asked.coordinator is not None
    )


def _values(rng, name, kind):
    members = get_args(kind) if get_origin(kind) not in (Literal, tuple) else ()
    if get_origin(kind) is tuple:
        each: Any = get_args(kind)[0]
        return [value for _ in range(rng.choice((0, 1, 1, 2, 3))) for value in _values(rng, name, each)]
    if rng.random() < 0.35:
        return [rng.choice(ODD_TEXTS)]
    if get_origin(kind) is Literal:
        return [rng.choice(get_args(kind)) if rng.random() < 0.8 else broken_text(rng, rng.choice(get_args(kind)))]
    if name in RIGHT:
        return [rng.choice(RIGHT[name])]
    return ["x"] if members else []


def _option(rng, name, kind, values):
    option = "--" + name.replace("_", rng.choice("--_"))
    if kind is bool:
        return [rng.choice((option, option, f"--no-{option[2:]}", f"{option}=1"))]
    if len(values) == 1 and rng.random() < 0.3:
        return [f"{option}={values[0]}"]
    return [option, *values]


def _break(rng, line):
    at = rng.randrange(len(line) + 1)
    match rng.randrange(7):
        case 0:
            line[at : at + 1] = []
        case 1:
            line.insert(at, rng.choice(ODD_TEXTS))
        case 2:
            line[at : at + 1] = [broken_text(rng, text) for text in line[at : at + 1]]
        case 3:
            line[at:at] = line[at : at + 2]
        case 4:
            line.insert(
                at,
                rng.choice(("-h", "--help", "--version", "-v", "@file", "--data=", "--=", "--no-", "--no-out", "-1")),
            )
        case 5:
            rng.shuffle(line)
        case _:
            del line[at:]
    # No command line holds a NUL.
    line[:] = [text.replace("\0", "") for text in line]


def _written(line, script):
    """What a command line names to be written: the values of such options, and the default where there is none."""
    named = {"train.py": ("runs",), "compare.py": ("compare.png",)}.get(script, ())
    # By default in the run's folder.
    if script in ("export.py", "draw.py"):
        named = tuple(text for text in line if text in RIGHT["run"])
    for position, text in enumerate(line):
        option, _, value = text.partition("=")
        if option.lstrip("-").replace("-", "_") in WRITTEN:
            named += (value,) if value else tuple(line[position + 1 : position + 2])
    return tuple(name for name in named if name)
