"""What is known of a run as it goes on: its epochs, and where it is between two steps."""

from typing import Any, NamedTuple

import numpy as np

from jaxnet.training import TrainState


class Epoch(NamedTuple):
    """What is known after an epoch.

    Attributes:
      number: counted from 1.
      train_loss: mean over the epoch, each batch before its update.
      validation_loss: after the epoch.
      validation_metric: accuracy, or RMSE in the target's units.
      seconds: since training began, compilation included.
      skipped: batches passed over so far, with `--on-nan skip`; else None.
      diagnostics: with `--diagnostics`; else None.
      epsilon: what all steps so far spent, with `--private-epsilon`; else None.
      learning_rate: of the epoch's last update; None where the optimizer chooses one for each step.
      seeds: of several seeds, whose means the numbers above are, `train_loss`, `validation_loss` and
        `validation_metric` of each; else None.
    """

    number: int
    train_loss: float
    validation_loss: float
    validation_metric: float
    seconds: float
    skipped: int | None = None
    diagnostics: dict[str, Any] | None = None
    epsilon: float | None = None
    learning_rate: float | None = None
    seeds: dict[str, list[float]] | None = None


class Trained(NamedTuple):
    """The outcome: the parameters that were kept, and the epoch after which they stood."""

    params: Any
    kept: Epoch


class Position(NamedTuple):
    """All that a run is between two of its steps: from here it goes on as if it had never stopped.

    Attributes:
      state: of the training.
      losses: of the epoch's batches so far; of several seeds (batches, seeds).
      best: the parameters with the least validation loss, where early stopping looks for them.
      epochs: those that have ended.
      best_epoch: after which `best` stood; 0 before there is one.
      seconds: of training so far.
      rolled_back: to which steps; from there on the examples of that epoch are in another order.
    """

    state: TrainState
    losses: np.ndarray
    best: Any
    epochs: tuple[Epoch, ...]
    best_epoch: int
    seconds: float
    rolled_back: tuple[int, ...] = ()

    @property
    def step(self) -> int:
        """Updates so far."""
        return int(self.state.step)

    @property
    def kept(self) -> Any:
        """The parameters that a run would keep that ended here."""
        return self.best if self.best_epoch else self.state.params

    @property
    def kept_epoch(self) -> Epoch | None:
        """After which those stood; None before the first has ended."""
        return self.epochs[self.best_epoch - 1] if self.epochs else None

    @property
    def is_best(self) -> bool:
        """Whether the last epoch has a lower validation loss than the best one before it, if there was one."""
        last = self.epochs[-1].validation_loss
        return not self.best_epoch or last < self.epochs[self.best_epoch - 1].validation_loss


def is_over(position: Position, epochs: int, early_stopping: int) -> bool:
    """Whether all that was asked for is done: so many epochs, or so many of them without a better one."""
    past = len(position.epochs) - position.best_epoch
    stopped_early = early_stopping and position.best_epoch and past >= early_stopping
    return bool(len(position.epochs) >= epochs or stopped_early)
