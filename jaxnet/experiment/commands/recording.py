"""Training as a run does it: what is written as it goes on, where it stops, and where it goes back to."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxnet.experiment.commands.announcement import print_cost
from jaxnet.experiment.commands.progress import progress
from jaxnet.experiment.console.errors import BadInput, Failure
from jaxnet.experiment.console.stopping import on_signals, unread
from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.split import Split
from jaxnet.experiment.devices import processes
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.options.cadence import Cadence
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import folder, model_file, resumption, standing
from jaxnet.experiment.storage.metrics_file import Metrics
from jaxnet.experiment.storage.model import Model
from jaxnet.experiment.storage.samples import Samples
from jaxnet.experiment.storage.tensorboard import Board
from jaxnet.experiment.training.faults import Fault
from jaxnet.experiment.training.loop import train
from jaxnet.experiment.training.position import Epoch, Position, Trained, is_over
from jaxnet.experiment.training.recipe import Recipe
from jaxnet.layer import Layer

# How often a run goes back to the same checkpoint before it gives up.
MOST_ROLLBACKS = 3


class Kept(NamedTuple):
    """Where and as what a run is kept.

    Attributes:
      out: its folder.
      config: its options.
      data_hash: of the data, see `resumption.fingerprint`.
      model_of: from parameters, and the epoch after which they stood, to a model, of which each checkpoint holds one.
      samples: of a run on text, what the network writes after each epoch; else None.
    """

    out: Path
    config: TrainConfig
    data_hash: str
    model_of: Callable[[Any, Epoch | None], Model]
    samples: Samples | None = None


def train_and_record(
    kept: Kept, recipe: Recipe, net: Layer, problem: Problem, parts: Split, layout: Layout
) -> tuple[Trained, list[Epoch]]:
    """The outcome and all epochs; metrics and checkpoints are written as it goes on.

    Args:
      kept: where to.
      recipe, net, problem, parts, layout: what is trained, and how.

    Raises:
      BadInput: when the run that is to go on is finished, or cannot go on.
      Fault: when what is computed is no longer finite, and going back does not help or is not asked for.
      Terminated, KeyboardInterrupt, Unread: when it was asked to stop, or nobody reads on, and it did.
    """
    out, config = kept.out, kept.config
    record = _Record(kept, problem.metric)
    with on_signals() as stop, progress(config.epochs, problem.metric) as show, record:
        pause, cadence = partial(processes.pause, stop), Cadence.read(config.checkpoint_every)
        while True:
            trace_to = out / folder.PROFILE if config.profile and record.fault is None else None
            try:
                tell = print_cost if record.fault is None else lambda cost: None
                watch = pause, record.begin, trace_to, tell, record.look
                for event in train(recipe, net, problem, parts, layout, cadence, *watch):
                    match event:
                        case Trained():
                            return event, record.epochs
                        case Epoch():
                            record.add(event)
                            with unread(stop):
                                show(event)
                        case Position():
                            record.save(event)
                            if len(event.epochs) > len(record.epochs):
                                # The epoch itself comes next; whoever asked to stop sees it told.
                                continue
                            stop.heed()
            except Fault as fault:
                if recipe.on_nan != "rollback":
                    raise
                record.fault = fault
                print(f"rolled back: {fault}", file=sys.stderr)


class _Record(contextlib.ExitStack):
    """What is written of a run as it goes on, and where it goes back to.

    Attributes:
      fault: the last one after which it went back; None before.
    """

    def __init__(self, kept, metric):
        super().__init__()
        self._out, self._config, self._samples, self._model_of = kept.out, kept.config, kept.samples, kept.model_of
        self._metrics, self._checkpoints = Metrics(kept.out, metric), _Checkpoints(kept)
        self._board = Board(kept.out, metric) if kept.config.tensorboard and processes.is_first() else None
        if self._board is not None:
            self.callback(self._board.close)
        self._rolled_back: tuple[int, ...] = ()
        self.fault: Fault | None = None

    @property
    def epochs(self):
        """Those that are written."""
        return self._metrics.epochs

    def begin(self, start):
        """From the position at the run's start to that where it goes on; what is written is brought there too."""
        position = self._found(start)
        self._rolled_back = position.rolled_back if self.fault is None else (*self._rolled_back, position.step)
        if self._rolled_back.count(position.step) > MOST_ROLLBACKS:
            raise Failure(f"{self.fault}; {MOST_ROLLBACKS} other orders from step {position.step} on did not help")
        if self._config.resume is not None:
            processes.by_first(lambda: folder.go_on(self._out, dataclasses.asdict(self._config)))
        processes.by_first(lambda: self._metrics.begin(position.epochs))
        if self._samples is not None:
            processes.by_first(lambda: self._samples.begin(len(position.epochs)))
        if self._board is not None:
            self._board.begin(position.epochs)
        return position._replace(rolled_back=self._rolled_back)

    def _found(self, start):
        if self._config.resume is None and self.fault is None:
            return start
        try:
            return self._checkpoints.resume(start)
        except BadInput as error:
            if self.fault is None:
                raise
            raise Failure(f"{self.fault}; there is nothing to go back to: {error}") from None

    def look(self, epoch, params):
        """Writes what a network of text says after an epoch."""
        if self._samples is not None:
            trained = self._model_of(params, None)
            processes.by_first(lambda: self._samples.add(epoch, trained))

    def add(self, epoch):
        """Writes an epoch's numbers."""
        self._metrics.add(epoch)
        if self._board is not None:
            self._board.add(epoch)

    def save(self, position):
        """Writes a checkpoint, unless the run has none."""
        self._checkpoints.save(position)


class _Checkpoints:
    """A run's checkpoints, unless it has none; of a step there is one."""

    def __init__(self, kept):
        self._kept, self._out, self._config = kept, kept.out, kept.config
        self._about = {"config": dataclasses.asdict(kept.config), "data": kept.data_hash}
        self._last = 0

    def save(self, position):
        """Writes one, with the model that the run would have if it ended here."""
        if not Cadence.read(self._config.checkpoint_every).every or position.step == self._last:
            return
        file = model_file.content(self._kept.model_of(position.kept, position.kept_epoch))
        resumption.save(self._out, position, self._about, self._config.keep, [(model_file.FILE, file)])
        self._last = position.step

    def resume(self, start):
        """The position of the newest one, unless the run is finished there."""
        asked, early_stopping = self._config.epochs, self._config.early_stopping

        def check(position):
            if is_over(position, asked, early_stopping):
                epochs = len(position.epochs)
                processes.by_first(lambda: standing.require_unfinished(self._out, epochs, asked, early_stopping))

        position = resumption.resume(self._out, start, self._about, check)
        self._last = position.step
        return position
