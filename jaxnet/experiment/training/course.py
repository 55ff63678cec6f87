"""What is decided, put in its place and compiled before the first step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnet.experiment.data.problem import Problem, loss_of
from jaxnet.experiment.data.split import Split
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.options.cadence import Cadence
from jaxnet.experiment.training.batches import Batches, batches_in, blocks_of
from jaxnet.experiment.training.diagnostics import make_diagnose
from jaxnet.experiment.training.objective import Objective, copied, make_judge, make_objective
from jaxnet.experiment.training.poisson import batches_of
from jaxnet.experiment.training.position import Position
from jaxnet.experiment.training.rates import learning_rate, make_told_rate
from jaxnet.experiment.training.recipe import Recipe
from jaxnet.experiment.training.seeds import Together, judge_each, of_first, together
from jaxnet.layer import Layer
from jaxnet.training import TrainState


class Course(NamedTuple):
    """What stays the same through all epochs of a run.

    Attributes:
      recipe: how the network is trained.
      objective: what is trained; of several seeds that of the first.
      together: what is trained in each step.
      batches: of the training part.
      judge: params -> validation loss, and accuracy or RMSE; of each seed.
      rate: which learning rate the last update had, after so many batches; None where the optimizer chooses.
      diagnose: state -> what is told of the layers; None where nobody asks.
      layout: of the mesh.
      cadence: of checkpoints, at which epochs are cut.
      remedy: what messages advise where numbers are no longer finite.
    """

    recipe: Recipe
    objective: Objective
    together: Together
    batches: Batches
    judge: Callable[[Any], Any]
    rate: Callable[[int], float | None]
    diagnose: Callable[[TrainState], dict[str, Any]] | None
    layout: Layout
    cadence: Cadence
    remedy: str


def prepare(recipe: Recipe, net: Layer, problem: Problem, parts: Split, layout: Layout, cadence: Cadence) -> Course:
    """The course of a run; see `loop.train`."""
    part, dtype = parts.train, recipe.parameters_dtype
    batch_size = min(recipe.batch_size, part.examples)
    # Ids of a text stay whole numbers.
    x = jax.ShapeDtypeStruct((1, *part.x.shape[1:]), np.int32 if problem.positions else dtype)
    number, loss = batches_in(part.examples, batch_size), loss_of(problem)
    objective = make_objective(recipe, net, loss, x, batch_size, layout, number)
    every = together(recipe, net, loss, x, batch_size, layout, number, objective)
    batches = batches_of(recipe.budget, part, problem, batch_size, dtype, layout, every.order_key)
    validation = blocks_of(parts.validation, problem, dtype, layout)
    judge = make_judge(objective.net, loss, problem, validation, layout)
    diagnose = _diagnose(recipe, objective, part, problem, layout) if recipe.diagnostics else None
    rate, remedy = make_told_rate(recipe, number), _remedy(recipe, problem)
    judge = judge_each(judge, recipe.seeds)
    return Course(recipe, objective, every, batches, judge, rate, diagnose, layout, cadence, remedy)


def at_the_start(course: Course) -> Position:
    """The position before the first step."""
    state, recipe = course.together.state, course.recipe
    best = copied(state.params) if recipe.early_stopping else ()
    none = np.zeros((0, recipe.seeds) if recipe.seeds > 1 else 0, recipe.parameters_dtype)
    return Position(state, none, best, (), 0, 0.0)


def _diagnose(recipe, objective, part, problem, layout):
    dtype, batches = recipe.parameters_dtype, recipe.accumulate
    diagnose = make_diagnose(objective, part, problem, recipe.batch_size, dtype, layout, batches)
    return diagnose if recipe.seeds == 1 else of_first(diagnose)


def _remedy(recipe, problem):
    if problem.loss == "binary_cross_entropy":
        return "it is not where a sigmoid rounds to 0 for 1, or to 1 for 0; use --loss sigmoid_binary_cross_entropy"
    rate = learning_rate(recipe)
    lower = "give a --learning-rate" if rate is None else f"lower --learning-rate ({rate:g})"
    return f"{lower} or look for extreme values in the data"
