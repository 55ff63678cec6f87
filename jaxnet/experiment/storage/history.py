"""What a run's folder tells of it, also while the run goes on."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from jaxnet.experiment.console.errors import NONSENSE, BadInput, require_folder
from jaxnet.experiment.storage.folder import BESIDE, CONFIG, METRICS, RESULT
from jaxnet.experiment.training.position import Epoch


class Run(NamedTuple):
    """What is known of a run.

    Attributes:
      folder: as it was given.
      options: those that its folder kept.
      metric: 'accuracy' or 'rmse'.
      epochs: those that have ended, one or more.
      result: what result.json holds; None before the end.
    """

    folder: Path
    options: dict[str, Any]
    metric: str
    epochs: list[Epoch]
    result: dict[str, Any] | None

    @property
    def best(self) -> Epoch:
        """The first with the least validation loss."""
        return min(self.epochs, key=lambda epoch: epoch.validation_loss)


def read(folder: Path) -> Run:
    """Reads a run's folder, also while the run goes on.

    Raises:
      BadInput: when it holds none, or a file is damaged.
    """
    require_folder(folder, "the folder of a run")
    options = _read_json(folder / CONFIG)
    if options is None:
        raise BadInput(f"{folder}: holds no run ({CONFIG}); expected the folder of a run")
    metric, epochs = _read_metrics(folder / METRICS)
    result = _read_json(folder / RESULT, f"test_{metric}", "kept_epoch", "epochs")
    # A finished run that goes on with more epochs has its old result until it is finished again.
    if result is not None and result["epochs"] != len(epochs):
        result = None
    options = {name: value for name, value in options.items() if name not in BESIDE}
    return Run(folder, options, metric, epochs, result)


def _read_json(path, *numbers):
    """The file's object, or None where there is none; the numbers are to be in it."""
    try:
        content = json.loads(path.read_bytes())
        # Of several seeds the ends of an interval too.
        ends = [content["interval"][name] for name in numbers if name in content.get("interval", ())]
        values = [*(content[name] for name in numbers), *(end for low, high in ends for end in (low, high))]
        if not isinstance(content, dict) or not all(map(math.isfinite, values)):
            raise ValueError("no object, or a number that is none")
        return content
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    except NONSENSE:
        raise BadInput(f"{path}: is damaged; restore it from a copy, or leave the run out") from None


def _seeds(told, metric):
    """Of several seeds the numbers of each; else None."""
    if "seeds" not in told:
        return None
    names = ("train_loss", "validation_loss", f"validation_{metric}")
    each = {name.replace(metric, "metric"): [float(value) for value in told["seeds"][name]] for name in names}
    counts, values = set(map(len, each.values())), [value for of_one in each.values() for value in of_one]
    if len(counts) != 1 or min(counts) < 2 or not all(map(math.isfinite, values)):
        raise ValueError("seeds of which some lack a number")
    return each


def _read_metrics(path):
    """The metric's name and all epochs. A line that is being written is passed over."""
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    metric, epochs = "accuracy", []
    for number, line in enumerate(lines, start=1):
        try:
            told = json.loads(line)
            if number == 1 and "validation_rmse" in told:
                metric = "rmse"
            names = ("train_loss", "validation_loss", f"validation_{metric}", "seconds")
            train, validation, value, seconds = (float(told[name]) for name in names)
            epoch = Epoch(told["epoch"], train, validation, value, seconds, seeds=_seeds(told, metric))
            if epoch.number != number or not all(map(math.isfinite, epoch[1:5])):
                raise ValueError("another epoch, or a number that is none")
        except NONSENSE:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise BadInput(
                f"{path}, line {number}: expected epoch {number} with train_loss, validation_loss, "
                "validation_accuracy or validation_rmse, and seconds; restore the file, or leave the run out"
            ) from None
        epochs.append(epoch)
    if not epochs:
        raise BadInput(f"{path}: has no epoch yet; expected one at least; wait for it, or leave the run out")
    return metric, epochs
