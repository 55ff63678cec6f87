"""metrics.jsonl: a line for each epoch."""

import json
from pathlib import Path
from typing import Any

from jaxnet.experiment.console.errors import Failure
from jaxnet.experiment.devices.processes import is_first
from jaxnet.experiment.storage import durable
from jaxnet.experiment.storage.folder import METRICS
from jaxnet.experiment.training.position import Epoch


class Metrics:
    """The file as the first process writes it; a run that goes on keeps the lines of its epochs."""

    def __init__(self, folder: Path, metric: str) -> None:
        self.epochs: list[Epoch] = []
        self._path, self._metric = folder / METRICS, metric

    def begin(self, epochs: tuple[Epoch, ...]) -> None:
        """Writes the lines of the epochs that are done."""
        self.epochs, metric = list(epochs), self._metric
        lines = "".join(f"{metrics_line(epoch, metric)}\n" for epoch in epochs)
        durable.write(self._path, lines.encode())

    def add(self, epoch: Epoch) -> None:
        """Writes an epoch's line.

        Raises:
          Failure: when it cannot be written.
        """
        self.epochs.append(epoch)
        if not is_first():
            return
        try:
            durable.add_line(self._path, metrics_line(epoch, self._metric))
        except OSError as error:
            raise Failure(f"{self._path}: cannot be written ({error.strerror})") from None


def metrics_line(epoch: Epoch, metric: str) -> str:
    """An epoch as a line of metrics.jsonl."""
    line: dict[str, Any] = {
        "epoch": epoch.number,
        "train_loss": epoch.train_loss,
        "validation_loss": epoch.validation_loss,
        f"validation_{metric}": epoch.validation_metric,
        "seconds": round(epoch.seconds, 4),
    }
    if_known = {
        "learning_rate": epoch.learning_rate,
        "skipped": epoch.skipped,
        "epsilon": epoch.epsilon,
        "diagnostics": epoch.diagnostics,
        "seeds": epoch.seeds and {name.replace("metric", metric): values for name, values in epoch.seeds.items()},
    }
    line |= {name: value for name, value in if_known.items() if value is not None}
    return json.dumps(line, allow_nan=False)
