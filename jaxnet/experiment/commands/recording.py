"""Training as a run does it: what is written as it goes on, where it stops, and where it goes back to."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from jaxnet.experiment.commands.progress import progress
from jaxnet.experiment.console.errors import BadInput, Failure
from jaxnet.experiment.console.stopping import on_signals, unread
from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.split import Split
from jaxnet.experiment.devices import processes
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.options.schedule import Schedule
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import folder, model
from jaxnet.experiment.storage.model import Model
from jaxnet.experiment.storage.resumption import resume, save
from jaxnet.experiment.storage.tensorboard import Board
from jaxnet.experiment.training import loop
from jaxnet.experiment.training.faults import Fault
from jaxnet.experiment.training.loop import Epoch, Position, Trained

# How often a run goes back to the same checkpoint before it gives up.
MOST_ROLLBACKS = 3


def train_and_record(
    out: Path,
    config: TrainConfig,
    data_hash: str,
    problem: Problem,
    parts: Split,
    layout: Layout,
    model_of: Callable[[Any], Model],
) -> tuple[Trained, list[Epoch]]:
    """The outcome and all epochs; metrics and checkpoints are written as it goes on.

    Args:
      out: the run's folder.
      config, problem, parts, layout: what is trained, and where.
      data_hash: of the data, see `fingerprint.fingerprint`.
      model_of: from parameters to a model, of which each checkpoint holds one.

    Raises:
      BadInput: when the run that is to go on is finished, or cannot go on.
      Fault: when what is computed is no longer finite, and going back does not help or is not asked for.
      Terminated, KeyboardInterrupt, Unread: when it was asked to stop, or nobody reads on, and it did.
    """
    checkpoints = _Checkpoints(out, config, data_hash, model_of)
    metrics = folder.Metrics(out, problem.metric)
    board = Board(out, problem.metric) if config.tensorboard and processes.is_first() else None
    fault: Fault | None = None
    rolled_back: tuple[int, ...] = ()

    def restore(start):
        nonlocal rolled_back
        goes_on = config.resume is not None or fault is not None
        try:
            position = checkpoints.resume(start) if goes_on else start
        except BadInput as error:
            if fault is None:
                raise
            raise Failure(f"{fault}; there is nothing to go back to: {error}") from None
        rolled_back = position.rolled_back if fault is None else (*rolled_back, position.step)
        if rolled_back.count(position.step) > MOST_ROLLBACKS:
            raise Failure(f"{fault}; {MOST_ROLLBACKS} other orders from step {position.step} on did not help")
        if config.resume is not None:
            processes.by_first(lambda: folder.go_on(config, out))
        processes.by_first(lambda: metrics.begin(position.epochs))
        if board is not None:
            board.begin(position.epochs)
        return position._replace(rolled_back=rolled_back)

    writing = contextlib.nullcontext() if board is None else contextlib.closing(board)
    with on_signals() as stop, progress(config.epochs, problem.metric) as show, writing:
        pause = partial(processes.pause, stop)
        while True:
            trace_to = out / folder.PROFILE if config.profile and fault is None else None
            try:
                for event in loop.train(config, problem, parts, layout, pause, restore, trace_to):
                    match event:
                        case Trained():
                            return event, metrics.epochs
                        case Epoch():
                            metrics.add(event)
                            if board is not None:
                                board.add(event)
                            with unread(stop):
                                show(event)
                        case Position():
                            checkpoints.save(event)
                            if len(event.epochs) > len(metrics.epochs):
                                # The epoch itself comes next; whoever asked to stop sees it told.
                                continue
                            stop.heed()
            except Fault as error:
                if config.on_nan != "rollback":
                    raise
                fault = error
                print(f"rolled back: {fault}", file=sys.stderr)


class _Checkpoints:
    """A run's checkpoints, unless it has none; of a step there is one."""

    def __init__(self, out, config, data_hash, model_of):
        self._out, self._config, self._model_of = out, config, model_of
        self._about = {"config": dataclasses.asdict(config), "data": data_hash}
        self._last = 0

    def save(self, position):
        """Writes one, with the model that the run would have if it ended here."""
        if not Schedule.read(self._config.checkpoint_every).every or position.step == self._last:
            return
        file = model.content(self._model_of(position.kept))
        save(self._out, position, self._about, self._config.keep, [(model.FILE, file)])
        self._last = position.step

    def resume(self, start):
        """The position of the newest one, unless the run is finished there."""

        def check(position):
            if loop.is_over(self._config, position):
                epochs = len(position.epochs)
                processes.by_first(lambda: folder.require_unfinished(self._out, self._config, epochs))

        position = resume(self._out, start, self._about, check)
        self._last = position.step
        return position
