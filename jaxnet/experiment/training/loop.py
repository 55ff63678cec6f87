"""Training, epoch by epoch: compiled scans over its batches, then a look at the validation part."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.split import Split
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.devices.tracing import trace_steps
from jaxnet.experiment.options.schedule import Schedule
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.training import faults, updates
from jaxnet.experiment.training.batches import Batches, blocks_of
from jaxnet.experiment.training.diagnostics import make_diagnose
from jaxnet.experiment.training.faults import Fault
from jaxnet.experiment.training.objective import Objective, copied, make_judge, make_objective
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
    """

    number: int
    train_loss: float
    validation_loss: float
    validation_metric: float
    seconds: float
    skipped: int | None = None
    diagnostics: dict[str, Any] | None = None


class Trained(NamedTuple):
    """The outcome: the parameters that were kept, and the epoch after which they stood."""

    params: Any
    kept: Epoch


class Position(NamedTuple):
    """All that a run is between two of its steps: from here it goes on as if it had never stopped.

    Attributes:
      state: of the training.
      losses: of the epoch's batches so far.
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


def train(
    config: TrainConfig,
    problem: Problem,
    parts: Split,
    layout: Layout,
    pause: Callable[[bool], bool] = lambda due: due,
    restore: Callable[[Position], Position] = lambda start: start,
    trace_to: Path | None = None,
) -> Iterator[Epoch | Position | Trained]:
    """Yields each `Epoch` as it ends, a `Position` when one is asked for, and last `Trained`.

    With early stopping the parameters of the best validation loss are kept, otherwise the last ones.

    Args:
      config, problem, parts: what is trained.
      layout: of the mesh.
      pause: asked between pieces of an epoch, and told whether a checkpoint is due: whether to yield a position. After
        the first epoch, if there was none before, and at the end one is yielded in any case.
      restore: from the position at the start, which tells shapes and dtypes, to that where the run goes on.
      trace_to: a folder for the profile of a few steps, if any.

    Raises:
      Fault: when a loss or parameters are no longer finite, naming the step, and where in it that arose.
    """
    shape, examples = parts.train.x.shape[1:], len(parts.train.y)
    objective = make_objective(config, problem, shape, min(config.batch_size, examples), layout)
    batches = Batches(parts.train, problem, config, layout, objective.order_key)
    validation = blocks_of(parts.validation, problem, config.parameters_dtype, layout)
    judge = make_judge(objective.net, objective.loss, problem, validation, layout)
    diagnose = make_diagnose(objective, parts.train, problem, config, layout) if config.diagnostics else None
    schedule = Schedule.read(config.checkpoint_every)

    best = copied(objective.state.params) if config.early_stopping else ()
    position = restore(Position(objective.state, np.zeros(0, config.parameters_dtype), best, (), 0, 0.0))
    if trace_to is not None:
        trace_steps(trace_to, objective.steps, position.state, batches)
    began = time.perf_counter() - position.seconds
    saved, yielded = time.monotonic(), position.step

    def is_due(step, epoch=None):
        return pause(schedule.due(step, epoch, saved))

    while not is_over(config, position):
        start, number = position, len(position.epochs) + 1
        before = (number - 1) * batches.number
        order = batches.order(number - 1, _redrawn(start.rolled_back, before, batches.number))
        cuts = schedule.cuts(len(start.losses), batches.number, before, batches.most)
        again = _Again(
            config, problem, objective, layout, batches, order, cuts, start._replace(state=copied(start.state))
        )
        state, losses = start.state, [start.losses]
        for (_, end), batch in zip(cuts, batches.pieces(order, cuts), strict=True):
            state, metrics = objective.steps(state, *batch)
            # Not more than two pieces are handed to the device at a time.
            losses[-1] = again.settled(losses[-1])
            losses.append(metrics["loss"])
            if end < batches.number and is_due(before + end):
                losses[-1] = again.settled(losses[-1])
                seconds = time.perf_counter() - began
                yield start._replace(state=state, losses=np.concatenate(losses), seconds=seconds)
                saved, yielded = time.monotonic(), before + end
        losses[-1] = again.settled(losses[-1])
        again.require_some_kept(state, sum(map(len, losses[1:])))
        state = state._replace(epoch=state.epoch + 1)
        train_loss, (validation_loss, value) = _mean(np.concatenate(losses), batches), judge(state.params)
        if not np.isfinite(validation_loss):
            raise again.invalid(state, sum(map(len, losses[1:])))
        measured = None if diagnose is None else diagnose(state)
        seconds, skipped = time.perf_counter() - began, updates.skipped(state.opt_state)
        epoch = Epoch(number, train_loss, validation_loss, value, seconds, skipped, measured)
        position = _after(config, start, state, epoch)
        if not yielded:
            # Before anything is told of the first epoch: where an epoch is known, there is a place to go on from.
            yield position
            saved, yielded = time.monotonic(), position.step
        yield epoch
        if is_due(before + batches.number, number):
            yield position
            saved, yielded = time.monotonic(), position.step
    if yielded != position.step:
        yield position
    # Without a best epoch, 0, that is the last one.
    yield Trained(position.kept, position.epochs[position.best_epoch - 1])


def _after(config, start, state, epoch):
    """The position after an epoch."""
    epochs, no_losses = (*start.epochs, epoch), start.losses[:0]
    position = start._replace(state=state, losses=no_losses, epochs=epochs, seconds=epoch.seconds)
    if config.early_stopping and _is_best(position):
        # A copy, because the next epoch takes over the state's memory.
        return position._replace(best=copied(state.params), best_epoch=epoch.number)
    return position


class _Again(NamedTuple):
    """An epoch's steps from a position on, to be made again where something went wrong."""

    config: TrainConfig
    problem: Problem
    objective: Objective
    layout: Layout
    batches: Batches
    order: np.ndarray
    cuts: list[tuple[int, int]]
    start: Position

    def settled(self, losses):
        """Losses of a piece on the host, once it is sure that all are finite, or may be otherwise."""
        values = np.asarray(losses)
        if self.config.on_nan != "skip" and not np.isfinite(values).all():
            raise self.fault("the loss")
        return values

    def require_some_kept(self, state, steps):
        """Refuses so many steps, to the state, that were all skipped."""
        if self._skipped(state) == steps:
            number = len(self.start.epochs) + 1
            raise Fault(f"every batch of epoch {number} was skipped: {self.fault('the loss')}")

    def invalid(self, state, steps):
        """What to say of a validation loss that is not finite, after so many steps, to the state."""
        fault, skipped = self.fault("the validation loss"), self._skipped(state)
        if not skipped:
            return fault
        number = len(self.start.epochs) + 1
        return Fault(
            f"the validation loss is not finite after epoch {number}, of whose last {steps} batches {skipped} were "
            f"skipped: {fault}"
        )

    def _skipped(self, state):
        """How many of the steps to the state; None where none may be."""
        after, before = (updates.skipped(of.opt_state) for of in (state, self.start.state))
        return None if after is None or before is None else after - before

    def fault(self, what):
        """What went wrong, found by making the steps again."""
        number, remedy = len(self.start.epochs) + 1, _remedy(self.config, self.problem)
        pieces = self.batches.pieces(self.order, self.cuts)
        found = faults.find(self.objective, self.layout, self.start.state, pieces)
        if found is None:
            finite = "though every step's loss and parameters are"
            return Fault(f"{what} is not finite after epoch {number}, {finite}; {remedy}")
        index, first, told = found
        at = f"epoch {number}, batch {self.cuts[0][0] + index + 1} (step {self.start.step + index + 1})"
        return Fault(f"{first} is no longer finite in {at}: {told}; {remedy}")


def _redrawn(rolled_back, before, batches):
    """From which batch on an epoch's examples are drawn anew, and by which number, for each time the run went back."""
    return [(step - before, k) for k, step in enumerate(rolled_back, start=1) if 0 <= step - before < batches]


def is_over(config: TrainConfig, position: Position) -> bool:
    """Whether all that was asked for is done."""
    past = len(position.epochs) - position.best_epoch
    stopped_early = config.early_stopping and position.best_epoch and past >= config.early_stopping
    return bool(len(position.epochs) >= config.epochs or stopped_early)


def _is_best(position):
    epochs = position.epochs
    return not position.best_epoch or epochs[-1].validation_loss < epochs[position.best_epoch - 1].validation_loss


def _mean(losses, batches):
    """Over the examples of an epoch, from the means over its batches; batches that were passed over do not count."""
    counts = np.full(len(losses), batches.batch_size)
    counts[-1] = batches.examples - batches.batch_size * (len(losses) - 1)
    seen = np.isfinite(losses)
    return float(np.average(losses[seen], weights=counts[seen])) if seen.any() else np.inf


def _remedy(config, problem):
    if problem.loss == "binary_cross_entropy":
        return "it is not where a sigmoid rounds to 0 for 1, or to 1 for 0; use --loss sigmoid_binary_cross_entropy"
    rate = updates.learning_rate(config)
    lower = "give a --learning-rate" if rate is None else f"lower --learning-rate ({rate:g})"
    return f"{lower} or look for extreme values in the data"
