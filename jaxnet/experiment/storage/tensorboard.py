"""The numbers of metrics.jsonl for TensorBoard."""

from pathlib import Path
from typing import Any

from jaxnet.experiment.training.position import Epoch

FOLDER = "tensorboard"


class Board:
    """Writes each epoch's numbers as event files; a run that goes on takes back the epochs that it makes again."""

    def __init__(self, run: Path, metric: str) -> None:
        self._folder, self._metric = run / FOLDER, metric
        self._writer: Any = None

    def begin(self, epochs: tuple[Epoch, ...]) -> None:
        """Begins a new file; what earlier ones have of later epochs no longer counts.

        Raises:
          ModuleNotFoundError: when tensorboardX is not installed.
        """
        from tensorboardX import SummaryWriter

        self.close()
        earlier = len(list(self._folder.glob("events.*")))
        purge_step = len(epochs) + 1 if earlier else None
        # Files are named by the second, and there may be two in one.
        suffix = f".{earlier}"
        self._writer = SummaryWriter(str(self._folder), purge_step=purge_step, filename_suffix=suffix)

    def add(self, epoch: Epoch) -> None:
        """An epoch's numbers."""
        for name, value in scalars(epoch, self._metric).items():
            self._writer.add_scalar(name, value, epoch.number)
        self._writer.flush()

    def close(self) -> None:
        """Has everything written."""
        if self._writer is not None:
            self._writer.close()


def scalars(epoch: Epoch, metric: str) -> dict[str, float]:
    """An epoch's numbers by the names under which TensorBoard shows them."""
    named: dict[str, float | None] = {
        "loss/training": epoch.train_loss,
        "loss/validation": epoch.validation_loss,
        f"{metric}/validation": epoch.validation_metric,
        "skipped_batches": epoch.skipped,
        "epsilon": epoch.epsilon,
    }
    if epoch.diagnostics is not None:
        named["gradient_norm/all"] = epoch.diagnostics["gradient_norm"]
        for number, layer in enumerate(epoch.diagnostics["layers"], start=1):
            named |= {f"{name}/layer_{number}": value for name, value in layer.items()}
    return {name: value for name, value in named.items() if value is not None}
