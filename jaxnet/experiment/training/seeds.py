"""Several seeds at once: one program trains a network for each of them, under `vmap`.

Each seed has a start, an order of examples, noise and feedback weights of its own; the split is that of the first. On
arrays of all seeds the first axis counts them; steps and epochs are the same for all.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.training.objective import Objective, keys_of, make_parts
from jaxnet.experiment.training.position import Epoch
from jaxnet.experiment.training.recipe import Recipe
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.training import TrainState, make_steps

# Which of a state's parts have an axis of seeds.
AXES = TrainState._make(None if name in ("epoch", "step") else 0 for name in TrainState._fields)


class Together(NamedTuple):
    """What is trained, of one seed or of several.

    Attributes:
      steps: as those of an `Objective`; of several seeds x and y are (seeds, k, m, ...), weights likewise or (k, m),
        and the losses (k, seeds).
      state: at the start.
      order_key: decides the order of the examples; of several seeds one for each.
    """

    steps: Callable[..., Any]
    state: TrainState
    order_key: jax.Array


def together(
    recipe: Recipe,
    net: Layer,
    loss: Loss,
    x: jax.ShapeDtypeStruct,
    batch_size: int,
    layout: Layout,
    batches: int,
    first: Objective,
) -> Together:
    """All seeds of the recipe, from its own on.

    Args:
      recipe, net, loss, x, batch_size, layout, batches: as for `make_objective`.
      first: what that has made.
    """
    if recipe.seeds == 1:
        return Together(first.steps, first.state, first.order_key)
    parts = partial(make_parts, recipe, net, loss, x, batch_size, batches)

    def create(start, order, noise, back):
        return TrainState.create(net.init(start), parts(noise, back).optimizer, key=order)

    def steps(noise, back, state, x, y, weights):
        made = parts(noise, back)
        every = make_steps(made.net, made.loss, made.optimizer, value_and_grad=made.value_and_grad)
        return every(state, x, y, weights)

    numbers = np.arange(recipe.seed, recipe.seed + recipe.seeds, dtype=np.uint32)
    starts, orders, noises, backs = jax.vmap(keys_of)(numbers)
    # A place for every array, as for one seed.
    jit = partial(jax.jit, out_shardings=layout.places())
    state = jit(jax.vmap(create, out_axes=AXES))(starts, orders, noises, backs)

    def steps_of_all(state, x, y, weights=None):
        in_axes = (0, 0, AXES, 0, 0, 0 if _of_examples(weights) else None)
        of_all = jax.vmap(steps, in_axes=in_axes, out_axes=(AXES, {"loss": 1}))
        return of_all(noises, backs, state, x, y, weights)

    return Together(jit(steps_of_all, donate_argnums=0), state, orders)


def judge_each(judge: Callable[[Any], tuple[float, float]], seeds: int) -> Callable[[Any], Any]:
    """params -> the loss and the metric, of several seeds (seeds,) each."""
    if seeds == 1:
        return judge
    return lambda params: np.array([judge(of_seed(params, number)) for number in range(seeds)]).T


@jax.jit
def of_seed(tree: Any, number: Any) -> Any:
    """What of a tree is that seed's."""
    return jax.tree.map(lambda leaf: leaf[number], tree)


def state_of_seed(state: TrainState, number: int) -> TrainState:
    """The state of one seed of several."""
    params, opt_state, key = of_seed((state.params, state.opt_state, state.key), number)
    return state._replace(params=params, opt_state=opt_state, key=key)


def of_first(diagnose: Callable[[TrainState], Any]) -> Callable[[TrainState], Any]:
    """The same of the first seed of several."""
    return lambda state: diagnose(state_of_seed(state, 0))


def pieces_of_seed(pieces: Iterable[tuple[Any, Any, Any]], number: int) -> Iterator[tuple[Any, Any, Any]]:
    """Its batches."""
    return ((x[number], y[number], weights[number] if _of_examples(weights) else weights) for x, y, weights in pieces)


def _of_examples(weights):
    """Whether they are of examples, in whose order seeds differ, and not of places in a batch alone."""
    return weights is not None and weights.ndim == 3


def best_of(epoch: Epoch | None) -> int:
    """Which seed has the least validation loss after the epoch, counted from 0; the first where none has ended."""
    return 0 if epoch is None or epoch.seeds is None else int(np.argmin(epoch.seeds["validation_loss"]))
