"""What is compiled for a network, once for all fits that need the same: folds, grids of options, chunks of data."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet import per_example
from jaxnet.experiment.data.problem import Problem, loss_of
from jaxnet.experiment.estimators.sameness import by_value
from jaxnet.experiment.training.objective import keys_of, make_value_and_grad
from jaxnet.experiment.training.recipe import Recipe
from jaxnet.experiment.training.updates import make_optimizer
from jaxnet.layer import Layer
from jaxnet.parameters import sides_of
from jaxnet.precision import mixed_precision
from jaxnet.training import TrainState, make_steps

# Of networks and recipes whose programs are kept.
KEPT = 64


class Program(NamedTuple):
    """The compiled functions of a network, its loss and its recipe. All take shapes that few fits differ in.

    Attributes:
      start: `(key, order_key) -> state`, at the first step.
      epoch: `(state, x, y, rows, weights, batches) -> (state, losses)`: updates by the first so many batches, whose
        examples are x[rows[k]] with weights[k] in place of 1/m. The state is consumed.
      outputs: `(params, x) -> (z, p)`, with every class's probability; for numbers p is z.
      losses: `(params, x, y) -> (m,)`.
      norms: `(params, x, y) -> (m,)`, how long each example's gradient is.
    """

    start: Callable[..., TrainState]
    epoch: Callable[..., tuple[TrainState, jax.Array]]
    outputs: Callable[..., tuple[jax.Array, jax.Array]]
    losses: Callable[..., jax.Array]
    norms: Callable[..., jax.Array]


def program_of(net: Layer, inputs: int, problem: Problem, recipe: Recipe, batch: int) -> Program:
    """The program, compiled before if a fit needed the same.

    Args:
      net: the network.
      inputs: numbers of an example.
      problem: of which the loss and the number of classes count.
      recipe: of which the optimizer with its options and the type count.
      batch: examples in a batch.
    """
    kfac = recipe.optimizer == "kfac"
    # What the compiled functions do not depend on, of most recipes.
    recipe = recipe._replace(
        epochs=1, early_stopping=0, seed=recipe.seed if kfac else 0, batch_size=batch if kfac else 1
    )
    wanted = _Wanted(net, inputs, problem, recipe)
    try:
        hash(wanted)
    except TypeError:
        return _compiled.__wrapped__(wanted)
    return _compiled(wanted)


class _Wanted:
    """A network with a recipe, equal to others that are compiled to the same."""

    def __init__(self, net, inputs, problem, recipe):
        self.net, self.inputs, self.problem, self.recipe = net, inputs, problem, recipe

    @functools.cached_property
    def _known_by(self):
        return by_value(self.net), self.inputs, self.problem.loss, len(self.problem.classes), self.recipe

    def __hash__(self):
        return hash(self._known_by)

    def __eq__(self, other):
        return self._known_by == other._known_by


@functools.lru_cache(KEPT)
def _compiled(wanted):
    net, problem, recipe = wanted.net, wanted.problem, wanted.recipe
    loss, x = loss_of(problem), jax.ShapeDtypeStruct((1, wanted.inputs), recipe.parameters_dtype)
    trained_net = mixed_precision(net) if recipe.dtype == "bfloat16" else net
    key, _, noise, back = keys_of(np.uint32(recipe.seed))
    blank = jax.eval_shape(net.init, key)
    optimizer = make_optimizer(recipe, trained_net, loss, recipe.batch_size, noise, sides_of(net, blank, x), x)
    value_and_grad = make_value_and_grad(recipe, trained_net, blank, x, recipe.batch_size, back)
    steps = make_steps(trained_net, loss, optimizer, value_and_grad=value_and_grad)

    def start(key, order_key):
        return TrainState.create(net.init(key), optimizer, order_key)

    def epoch(state, x, y, rows, weights, batches):
        x, y = x[rows], y[rows]

        def update(k, carry):
            state, losses = carry
            batch = (lax.dynamic_slice_in_dim(leaf, k, 1) for leaf in (x, y, weights))
            state, metrics = steps(state, *batch)
            return state, lax.dynamic_update_slice_in_dim(losses, metrics["loss"], k, 0)

        # Of a number that is told: epochs of nearly as many batches are one program.
        state, losses = lax.fori_loop(0, batches, update, (state, jnp.zeros(len(rows), weights.dtype)))
        return state._replace(epoch=state.epoch + 1), losses

    def outputs(params, x):
        z = net.apply(params, x)
        return z, problem.probabilities(z) if problem.classes else z

    def norms(params, x, y):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, loss.backward(z, y))
        return per_example.norms(dparams)

    def losses(params, x, y):
        return loss.forward(net.apply(params, x), y)

    compiled = (jax.jit(function) for function in (outputs, losses, norms))
    return Program(jax.jit(start), jax.jit(epoch, donate_argnums=0), *compiled)
