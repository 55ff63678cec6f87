"""Training, epoch by epoch: compiled scans over its batches, then a look at the validation part."""

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnet.experiment.data.problem import Problem, loss_of
from jaxnet.experiment.data.split import Split
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.options.schedule import NEVER, Schedule
from jaxnet.experiment.training import updates
from jaxnet.experiment.training.batches import Batches, blocks_of
from jaxnet.experiment.training.diagnostics import make_diagnose
from jaxnet.experiment.training.objective import Objective, copied, make_judge, make_objective
from jaxnet.experiment.training.pauses import Pauses
from jaxnet.experiment.training.poisson import batches_of
from jaxnet.experiment.training.position import Epoch, Position, Trained, is_over
from jaxnet.experiment.training.recipe import Recipe
from jaxnet.experiment.training.retrace import Retrace
from jaxnet.experiment.training.tracing import trace_steps
from jaxnet.layer import Layer
from jaxnet.training import TrainState


class Course(NamedTuple):
    """What stays the same through all epochs of a run.

    Attributes:
      recipe: how the network is trained.
      objective: what is trained.
      batches: of the training part.
      judge: params -> validation loss, and accuracy or RMSE.
      diagnose: state -> what is told of the layers; None where nobody asks.
      layout: of the mesh.
      schedule: of checkpoints, at which epochs are cut.
      remedy: what messages advise where numbers are no longer finite.
    """

    recipe: Recipe
    objective: Objective
    batches: Batches
    judge: Callable[[Any], tuple[float, float]]
    diagnose: Callable[[TrainState], dict[str, Any]] | None
    layout: Layout
    schedule: Schedule
    remedy: str


def train(
    recipe: Recipe,
    net: Layer,
    problem: Problem,
    parts: Split,
    layout: Layout,
    schedule: Schedule = NEVER,
    pause: Callable[[bool], bool] = lambda due: due,
    restore: Callable[[Position], Position] = lambda start: start,
    trace_to: Path | None = None,
) -> Iterator[Epoch | Position | Trained]:
    """Yields each `Epoch` as it ends, a `Position` when one is asked for, and last `Trained`.

    With early stopping the parameters of the best validation loss are kept, otherwise the last ones.

    Args:
      recipe: how the network is trained.
      net, problem, parts: what is trained, and on what.
      layout: of the mesh.
      schedule: when a checkpoint is due; by default never.
      pause: asked between pieces of an epoch, and told whether a checkpoint is due: whether to yield a position. After
        the first epoch, if there was none before, and at the end one is yielded in any case.
      restore: from the position at the start, which tells shapes and dtypes, to that where the run goes on.
      trace_to: a folder for the profile of a few steps, if any.

    Raises:
      Fault: when a loss or parameters are no longer finite, naming the step, and where in it that arose.
    """
    course = _prepare(recipe, net, problem, parts, layout, schedule)
    position = restore(_start(course))
    if recipe.budget is not None:
        # In no option: where the run goes on, its checkpoint alone has the key.
        course.batches.draw_by(position.state.key)
    if trace_to is not None:
        trace_steps(trace_to, course.objective.steps, position.state, course.batches)
    pauses, began = Pauses(pause, schedule, position.step), time.perf_counter() - position.seconds
    while not is_over(position, recipe.epochs, recipe.early_stopping):
        position = yield from _epoch(course, position, pauses, began)
        # Before anything is told of the first epoch: where an epoch is known, there is a place to go on from.
        yield from pauses.first(position)
        yield position.epochs[-1]
        if pauses.asked(len(position.epochs) * course.batches.number, len(position.epochs)):
            yield from pauses.give(position)
    yield from pauses.last(position)
    # Without a best epoch, 0, that is the last one.
    yield Trained(position.kept, position.epochs[position.best_epoch - 1])


def _prepare(recipe, net, problem, parts, layout, schedule):
    """All that is decided, put in its place and compiled before the first step."""
    part, dtype = parts.train, recipe.parameters_dtype
    batch_size = min(recipe.batch_size, len(part.y))
    x = jax.ShapeDtypeStruct((1, *part.x.shape[1:]), dtype)
    objective = make_objective(recipe, net, loss_of(problem), x, batch_size, layout)
    batches = batches_of(recipe.budget, part, problem, batch_size, dtype, layout, objective.order_key)
    validation = blocks_of(parts.validation, problem, dtype, layout)
    judge = make_judge(objective.net, objective.loss, problem, validation, layout)
    diagnose = make_diagnose(objective, part, problem, recipe.batch_size, dtype, layout) if recipe.diagnostics else None
    return Course(recipe, objective, batches, judge, diagnose, layout, schedule, _remedy(recipe, problem))


def _start(course):
    """The position before the first step."""
    state = course.objective.state
    best = copied(state.params) if course.recipe.early_stopping else ()
    return Position(state, np.zeros(0, course.recipe.parameters_dtype), best, (), 0, 0.0)


def _epoch(
    course: Course, start: Position, pauses: Pauses, began: float
) -> Generator[Epoch | Position | Trained, None, Position]:
    """Trains from a position to the end of its epoch, which the position that is returned tells of last."""
    batches, before = course.batches, len(start.epochs) * course.batches.number
    retrace = _retrace(course, start)
    state, losses = start.state, [start.losses]
    for (_, end), batch in zip(retrace.cuts, batches.pieces(retrace.order, retrace.cuts), strict=True):
        state, metrics = course.objective.steps(state, *batch)
        # Not more than two pieces are handed to the device at a time.
        losses[-1] = retrace.settled(losses[-1])
        losses.append(metrics["loss"])
        if end < batches.number and pauses.asked(before + end):
            losses[-1] = retrace.settled(losses[-1])
            seconds = time.perf_counter() - began
            yield from pauses.give(start._replace(state=state, losses=np.concatenate(losses), seconds=seconds))
    losses[-1] = retrace.settled(losses[-1])
    return _ended(course, retrace, state, losses, began)


def _retrace(course, start):
    """The epoch's batches from a position on, and how to make its steps again."""
    batches, epochs = course.batches, len(start.epochs)
    before = epochs * batches.number
    order = batches.order(epochs, _redrawn(start.rolled_back, before, batches.number))
    cuts = course.schedule.cuts(len(start.losses), batches.number, before, batches.most)
    again = start._replace(state=copied(start.state))
    may_skip = course.recipe.on_nan == "skip"
    return Retrace(course.objective, course.layout, batches, may_skip, course.remedy, order, cuts, again)


def _redrawn(rolled_back, before, batches):
    """From which batch on an epoch's examples are drawn anew, and by which number, for each time the run went back."""
    return [(step - before, k) for k, step in enumerate(rolled_back, start=1) if 0 <= step - before < batches]


def _ended(course, retrace, state, losses, began):
    """The position after an epoch, once its state is judged."""
    start, steps = retrace.start, sum(map(len, losses[1:]))
    retrace.require_some_kept(state, steps)
    state = state._replace(epoch=state.epoch + 1)
    train_loss = _mean(np.concatenate(losses), course.batches.counts(retrace.order))
    validation_loss, value = course.judge(state.params)
    if not np.isfinite(validation_loss):
        raise retrace.invalid(state, steps)
    measured = None if course.diagnose is None else course.diagnose(state)
    seconds, skipped = time.perf_counter() - began, updates.skipped(state.opt_state)
    budget = course.recipe.budget
    epsilon = None if budget is None else budget.spent(int(state.step))
    epoch = Epoch(len(start.epochs) + 1, train_loss, validation_loss, value, seconds, skipped, measured, epsilon)
    position = start._replace(
        state=state, losses=start.losses[:0], epochs=(*start.epochs, epoch), seconds=epoch.seconds
    )
    if course.recipe.early_stopping and position.is_best:
        # A copy, because the next epoch takes over the state's memory.
        return position._replace(best=copied(state.params), best_epoch=epoch.number)
    return position


def _mean(losses, counts):
    """Over the examples of an epoch, from the means over its batches; batches that were passed over do not count."""
    seen = np.isfinite(losses) & (counts > 0)
    return float(np.average(losses[seen], weights=counts[seen])) if seen.any() else np.inf


def _remedy(recipe, problem):
    if problem.loss == "binary_cross_entropy":
        return "it is not where a sigmoid rounds to 0 for 1, or to 1 for 0; use --loss sigmoid_binary_cross_entropy"
    rate = updates.learning_rate(recipe)
    lower = "give a --learning-rate" if rate is None else f"lower --learning-rate ({rate:g})"
    return f"{lower} or look for extreme values in the data"
