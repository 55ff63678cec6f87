"""Training as a run does it: what is written as it goes on, where it stops, and where it goes back to."""

import contextlib
import dataclasses
import sys
from functools import partial
from pathlib import Path

from jaxnet.experiment import folder, loop, processes
from jaxnet.experiment.config import TrainConfig
from jaxnet.experiment.errors import BadInput, Failure
from jaxnet.experiment.faults import Fault
from jaxnet.experiment.loop import Epoch, Position, Trained
from jaxnet.experiment.mesh import Layout
from jaxnet.experiment.problem import Problem
from jaxnet.experiment.progress import progress
from jaxnet.experiment.resumption import fingerprint, resume, save
from jaxnet.experiment.schedule import Schedule
from jaxnet.experiment.split import Split
from jaxnet.experiment.stopping import on_signals, unread
from jaxnet.experiment.table import Table
from jaxnet.experiment.tensorboard import Board

# How often a run goes back to the same checkpoint before it gives up.
MOST_ROLLBACKS = 3


def train_and_record(
    out: Path, config: TrainConfig, table: Table, problem: Problem, parts: Split, layout: Layout
) -> tuple[Trained, list[Epoch]]:
    """The outcome and all epochs; metrics and checkpoints are written as it goes on.

    Raises:
      Fault: when what is computed is no longer finite, and going back does not help or is not asked for.
      Terminated, KeyboardInterrupt, Unread: when it was asked to stop, or nobody reads on, and it did.
    """
    about = {"config": dataclasses.asdict(config), "data": processes.by_first(lambda: fingerprint(table))}
    metrics = folder.Metrics(out, problem.metric)
    board = Board(out, problem.metric) if config.tensorboard and processes.is_first() else None
    fault: Fault | None = None
    rolled_back: tuple[int, ...] = ()

    def restore(start):
        nonlocal rolled_back
        goes_on = config.resume is not None or fault is not None
        try:
            position = resume(out, start, about) if goes_on else start
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
                            if Schedule.read(config.checkpoint_every).every:
                                save(out, event, about, config.keep)
                            stop.heed()
            except Fault as error:
                if config.on_nan != "rollback":
                    raise
                fault = error
                print(f"rolled back: {fault}", file=sys.stderr)
