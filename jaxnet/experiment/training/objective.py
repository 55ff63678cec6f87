"""What a run trains: a network and its loss, with the gradient and optimizer of a recipe, and how it is judged."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnet import feedback, gradient, per_example
from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.devices.gathering import gathering, placed
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.training import updates
from jaxnet.experiment.training.blocks import Block
from jaxnet.experiment.training.budget import secret_words, with_keys
from jaxnet.experiment.training.recipe import Recipe
from jaxnet.experiment.training.smoothing import smoothed, with_plain_samples
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.parameters import sides_of
from jaxnet.precision import mixed_precision
from jaxnet.training import TrainState, make_steps
from jaxnet.weighting import mean_loss, with_rows_that_count


class Objective(NamedTuple):
    """All that is decided before the first step.

    Attributes:
      net: as it is judged and saved.
      trained_net: as it is trained, in mixed precision where that is asked for.
      loss: of an example, as it is trained.
      value_and_grad: `(params, x, y, weights=None) -> (J, grads)` of the trained network.
      steps: as `jaxnet.make_steps` makes them; the state stays where it is on the mesh.
      state: at the start.
      order_key: decides the order of the examples.
    """

    net: Layer
    trained_net: Layer
    loss: Loss
    value_and_grad: Callable[..., Any]
    steps: Callable[..., Any]
    state: TrainState
    order_key: jax.Array


class Parts(NamedTuple):
    """What steps are made of.

    Attributes:
      net, loss: as they are trained.
      optimizer: of the recipe.
      value_and_grad: from (net, loss), as `make_steps` takes it.
      sides: of the parameters, see `parameters.sides_of`.
    """

    net: Layer
    loss: Loss
    optimizer: optax.GradientTransformationExtraArgs
    value_and_grad: Callable[[Layer, Loss], Callable[..., Any]]
    sides: Any


def make_parts(
    recipe: Recipe,
    net: Layer,
    loss: Loss,
    x: jax.ShapeDtypeStruct,
    batch_size: int,
    batches: int,
    noise: jax.Array,
    back: jax.Array,
) -> Parts:
    """What the recipe asks for, with these keys of noise and of random feedback weights; see `make_objective`."""
    trained_net = mixed_precision(net) if recipe.dtype == "bfloat16" else net
    trained_loss = smoothed(loss, recipe.label_smoothing)
    blank = jax.eval_shape(net.init, back)
    sides = sides_of(net, blank, x)
    curved = with_plain_samples(trained_loss, loss)
    optimizer = updates.make_optimizer(recipe, trained_net, curved, batch_size, noise, sides, x, batches)
    value_and_grad = make_value_and_grad(recipe, trained_net, blank, x, batch_size, back)
    return Parts(trained_net, trained_loss, optimizer, value_and_grad, sides)


def make_objective(
    recipe: Recipe,
    net: Layer,
    loss: Loss,
    x: jax.ShapeDtypeStruct,
    batch_size: int,
    layout: Layout,
    batches: int = 1,
) -> Objective:
    """What the recipe asks for, with parameters and optimizer state on the mesh.

    Args:
      recipe: how the network is trained.
      net, loss: what is trained.
      x: its inputs, as shapes alone.
      batch_size: examples in a batch, without what fills it up.
      layout: of the mesh.
      batches: in an epoch.
    """
    start, order_key, noise, back = keys_of(np.uint32(recipe.seed))
    blank = jax.eval_shape(net.init, start)
    sides = sides_of(net, blank, x)
    used = layout.of_params(net, blank, sides, x)
    of_params = layout.between_steps(blank, sides, used)
    parts = make_parts(recipe, gathering(net) if layout.shard_state else net, loss, x, batch_size, batches, noise, back)
    params = jax.jit(net.init, out_shardings=of_params)(start)
    create = partial(TrainState.create, optimizer=parts.optimizer)
    places = layout.of_state(jax.eval_shape(create, blank, key=order_key), of_params)
    state = jax.jit(create, out_shardings=places)(params, key=order_key)
    if recipe.budget is not None:
        state = jax.jit(with_keys, out_shardings=places)(state, secret_words())
    value_and_grad = parts.value_and_grad
    if layout.shard_state:
        value_and_grad = partial(placed, value_and_grad, used, of_params)
    steps = make_steps(parts.net, parts.loss, parts.optimizer, value_and_grad=value_and_grad)
    # A place for every array: the compiler may otherwise move the state about, and then compiles again.
    steps = jax.jit(steps, donate_argnums=0, out_shardings=(places, layout.places()))
    of_batch = parts.value_and_grad(parts.net, parts.loss)
    return Objective(net, parts.net, parts.loss, of_batch, steps, state, order_key)


def make_judge(
    net: Layer, loss: Loss, problem: Problem, blocks: Callable[[], Iterable[Block]], layout: Layout
) -> Callable[[Any], tuple[float, float]]:
    """params -> the mean loss over the blocks' examples, and their accuracy or RMSE."""

    @partial(jax.jit, out_shardings=layout.places())
    def evaluate(params, x, y, weights, of_scores):
        z = net.apply(params, x)
        return weights @ loss.forward(z, y), jnp.tensordot(of_scores, problem.measure(z, y), axes=1)

    def judge(params):
        rows, evaluated = zip(*((block.rows, evaluate(params, *block[:4])) for block in blocks()), strict=True)
        totals = zip(*jax.device_get(evaluated), strict=True)
        value, measured = (np.sum(of_blocks, axis=0, dtype=np.float64) / sum(rows) for of_blocks in totals)
        return float(value), problem.metric_of(np.asarray(measured))

    return judge


def make_value_and_grad(
    recipe: Recipe, net: Layer, params: Any, x: jax.ShapeDtypeStruct, batch_size: int, key: jax.Array
) -> Callable[[Layer, Loss], Callable[..., Any]]:
    """What `make_steps` takes for `--backward`, `--feedback`, `--clip-examples`, `--clip-layers` and `--on-nan`.

    Args:
      recipe: the options.
      net, params: the network, and its parameters' shapes.
      x: its inputs, as shapes alone.
      batch_size: examples in a batch, without what fills it up.
      key: of random feedback weights.
    """
    chosen = _chosen(recipe, net, params, x, batch_size, key)
    return _refusing(chosen) if recipe.on_nan == "skip" else chosen


def _chosen(recipe, net, params, x, batch_size, key):
    if recipe.backward == "autodiff":
        return _autodiff_value_and_grad
    backward = {
        "transpose": lambda: net.backward,
        "random": lambda: feedback.alignment(net, net.init(key)),
        "sign": lambda: feedback.sign_symmetry(net),
        "direct": lambda: feedback.direct(net, feedback.direct_weights(net, params, x, key)),
    }[recipe.feedback]()
    return partial(gradient.value_and_grad, backward=backward, read=_reading(recipe, params, batch_size))


def _reading(recipe, params, batch_size):
    """What is read off the backward pass; None for the mean."""
    most = recipe.clip_examples
    if most is None:
        return None
    bounds = per_example.even_norms(most, params) if recipe.clip_layers else most
    # Of weights, a batch's largest would be what one example counts: they stay the loss's, over the batch's examples.
    divisor = None if recipe.weighted else batch_size
    return per_example.clipped(bounds, divisor, drop_not_finite=recipe.budget is not None)


def _autodiff_value_and_grad(net, loss):
    """The same function as `jaxnet.value_and_grad`, by jax.grad."""

    def weighted_loss(params, x, y, weights=None):
        if weights is not None:
            x, y = with_rows_that_count(weights, (x, y))
        return mean_loss(loss.forward(net.apply(params, x), y), weights)

    return jax.value_and_grad(weighted_loss)


def _refusing(value_and_grad):
    """The same, but a loss that is not finite has a gradient that is not, so that `optax.apply_if_finite` skips it."""

    def refusing(net, loss):
        value_and_grad_of = value_and_grad(net, loss)

        def of_batch(params, x, y, weights=None):
            value, grads = value_and_grad_of(params, x, y, weights)
            return value, jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(value), leaf, jnp.nan), grads)

        return of_batch

    return refusing


@jax.jit
def copied(tree: Any) -> Any:
    """The same in other memory: the steps take over that of the state that they are given."""
    return jax.tree.map(jnp.copy, tree)


# Compiled as one, here and where parameters and state are made: one by one, operations take longer to compile.
@jax.jit
def keys_of(seed: Any) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Of the parameters' start, the order of the examples and layers' draws, noise, and random feedback weights."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(4))
    return keys[0], keys[1], keys[2], keys[3]
