"""Training, epoch by epoch: compiled scans over its batches, then a look at the validation part."""

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.split import Split
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.options.cadence import NEVER, Cadence
from jaxnet.experiment.training import updates
from jaxnet.experiment.training.cost import Cost, cost_of
from jaxnet.experiment.training.course import Course, at_the_start, prepare
from jaxnet.experiment.training.objective import copied
from jaxnet.experiment.training.pauses import Pauses
from jaxnet.experiment.training.position import Epoch, Position, Trained, is_over
from jaxnet.experiment.training.recipe import Recipe
from jaxnet.experiment.training.retrace import Retrace
from jaxnet.experiment.training.tracing import trace_steps
from jaxnet.layer import Layer


def train(
    recipe: Recipe,
    net: Layer,
    problem: Problem,
    parts: Split,
    layout: Layout,
    cadence: Cadence = NEVER,
    pause: Callable[[bool], bool] = lambda due: due,
    restore: Callable[[Position], Position] = lambda start: start,
    trace_to: Path | None = None,
    tell: Callable[[Cost], None] = lambda cost: None,
    look: Callable[[int, Any], None] = lambda epoch, params: None,
) -> Iterator[Epoch | Position | Trained]:
    """Yields each `Epoch` as it ends, a `Position` when one is asked for, and last `Trained`.

    With early stopping the parameters of the best validation loss are kept, otherwise the last ones.

    Args:
      recipe: how the network is trained.
      net, problem, parts: what is trained, and on what.
      layout: of the mesh.
      cadence: when a checkpoint is due; by default never.
      pause: asked between pieces of an epoch, and told whether a checkpoint is due: whether to yield a position. After
        the first epoch, if there was none before, and at the end one is yielded in any case.
      restore: from the position at the start, which tells shapes and dtypes, to that where the run goes on.
      trace_to: a folder for the profile of a few steps, if any.
      tell: is told what a step costs, once the first ones are compiled.
      look: is shown the parameters after each epoch, before it is yielded.

    Raises:
      Fault: when a loss or parameters are no longer finite, naming the step, and where in it that arose.
    """
    course = prepare(recipe, net, problem, parts, layout, cadence)
    position = restore(at_the_start(course))
    if recipe.budget is not None:
        # In no option: where the run goes on, its checkpoint alone has the key.
        course.batches.draw_by(position.state.key)
    if trace_to is not None:
        trace_steps(trace_to, course.together.steps, position.state, course.batches)
    pauses, began = Pauses(pause, cadence, position.step), time.perf_counter() - position.seconds
    tellings = iter([tell])
    while not is_over(position, recipe.epochs, recipe.early_stopping):
        position = yield from _epoch(course, position, pauses, began, next(tellings, None))
        # Before anything is told of the first epoch: where an epoch is known, there is a place to go on from.
        yield from pauses.first(position)
        look(len(position.epochs), position.state.params)
        yield position.epochs[-1]
        if pauses.asked(len(position.epochs) * course.batches.number, len(position.epochs)):
            yield from pauses.give(position)
    yield from pauses.last(position)
    # Without a best epoch, 0, that is the last one.
    yield Trained(position.kept, position.epochs[position.best_epoch - 1])


def _epoch(
    course: Course, start: Position, pauses: Pauses, began: float, tell: Callable[[Cost], None] | None
) -> Generator[Epoch | Position | Trained, None, Position]:
    """Trains from a position to the end of its epoch, which the position that is returned tells of last."""
    batches, before = course.batches, len(start.epochs) * course.batches.number
    retrace = _retrace(course, start)
    state, losses = start.state, [start.losses]
    for (_, end), batch in zip(retrace.cuts, batches.pieces(retrace.order, retrace.cuts), strict=True):
        if tell is not None:
            tell(cost_of(course.together.steps, state, *batch))
            tell = None
        state, metrics = course.together.steps(state, *batch)
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
    cuts = course.cadence.cuts(len(start.losses), batches.number, before, batches.most)
    again = start._replace(state=copied(start.state))
    may_skip = course.recipe.on_nan == "skip"
    first_seed = course.recipe.seed if course.recipe.seeds > 1 else None
    return Retrace(course.objective, course.layout, batches, may_skip, course.remedy, order, cuts, again, first_seed)


def _redrawn(rolled_back, before, batches):
    """From which batch on an epoch's examples are drawn anew, and by which number, for each time the run went back."""
    return [(step - before, k) for k, step in enumerate(rolled_back, start=1) if 0 <= step - before < batches]


def _ended(course, retrace, state, losses, began):
    """The position after an epoch, once its state is judged."""
    start, steps = retrace.start, sum(map(len, losses[1:]))
    retrace.require_some_kept(state, steps)
    state = state._replace(epoch=state.epoch + 1)
    train_loss, (validation_loss, value) = (
        _mean(np.concatenate(losses), course.batches.counts(retrace.order)),
        course.judge(state.params),
    )
    if not np.isfinite(validation_loss).all():
        raise retrace.invalid(state, steps, validation_loss)
    measured = None if course.diagnose is None else course.diagnose(state)
    seconds, skipped = time.perf_counter() - began, updates.skipped(state.opt_state)
    # A batch that was passed over leaves the optimizer's count as it was.
    rate = course.rate(int(state.step) - (skipped or 0))
    told = {"train_loss": train_loss, "validation_loss": validation_loss, "validation_metric": value}
    means = [float(np.mean(values)) for values in told.values()]
    seeds = {name: list(map(float, values)) for name, values in told.items()} if course.recipe.seeds > 1 else None
    budget = course.recipe.budget
    epsilon = None if budget is None else budget.spent(int(state.step))
    epoch = Epoch._make((len(start.epochs) + 1, *means, seconds, skipped, measured, epsilon, rate, seeds))
    position = start._replace(
        state=state, losses=start.losses[:0], epochs=(*start.epochs, epoch), seconds=epoch.seconds
    )
    if course.recipe.early_stopping and position.is_best:
        # A copy, because the next epoch takes over the state's memory.
        return position._replace(best=copied(state.params), best_epoch=epoch.number)
    return position


def _mean(losses, counts):
    """Over the examples of an epoch, from the means over its batches; batches that were passed over do not count.

    Of several seeds, of which none passes over any, one for each.
    """
    if losses.ndim == 2:
        return np.average(losses, axis=0, weights=counts)
    seen = np.isfinite(losses) & (counts > 0)
    return float(np.average(losses[seen], weights=counts[seen])) if seen.any() else np.inf
