"""The optimizers that `--optimizer` names: optax's, and K-FAC."""

from functools import partial
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from jaxnet import optimizers
from jaxnet.experiment.training.recipe import Recipe
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.parameters import Sides

DECOUPLED = ("adamw", "nadamw", "lion")
RATES = {"sgd": 0.1, "momentum": 0.01, "nesterov": 0.01, "adagrad": 0.01, "lion": 3e-4}
USUAL_RATE = 1e-3
# Gradients that are not finite, one after the other.
NEVER_ACCEPTED = 2**31 - 1


def learning_rate(recipe: Recipe) -> float | None:
    """The one that was asked for, or what suits the optimizer; None where that chooses for itself."""
    if recipe.learning_rate is not None or recipe.optimizer == "kfac":
        return recipe.learning_rate
    return RATES.get(recipe.optimizer, USUAL_RATE)


def weight_decay(recipe: Recipe) -> float:
    """The one that was asked for, or what suits the optimizer."""
    if recipe.weight_decay is not None:
        return recipe.weight_decay
    return 0.3 if recipe.optimizer in DECOUPLED else 0.0


def make_optimizer(
    recipe: Recipe,
    net: Layer,
    loss: Loss,
    batch_size: int,
    key: jax.Array,
    sides: PyTree[Sides],
    inputs: PyTree[Any] = None,
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of the recipe. Weight decay is for weights: it spares biases, and whatever else is none.

    Args:
      recipe: names it.
      net, loss: what K-FAC takes the curvature of.
      batch_size: examples in a batch, without what fills it up.
      key: of the noise, and of K-FAC's labels.
      sides: of the network's parameters, see `parameters.sides_of`.
      inputs: the network's, as shapes alone, by which K-FAC makes its state; None where the parameters' shapes tell it.
    """
    kfac = partial(
        optimizers.kfac,
        net,
        loss,
        batch_size=batch_size,
        interval=recipe.kfac_interval,
        factor_interval=recipe.kfac_factor_interval,
        positions=recipe.kfac_positions,
        one_block=recipe.kfac_one_block,
        inputs=inputs,
        key=key,
    )
    optimizer = _without_noise(recipe, kfac, jax.tree.map(lambda of_one: of_one.is_weight, sides))
    if recipe.noise_multiplier:
        assert recipe.clip_examples is not None
        noise = optimizers.private_noise(recipe.clip_examples, recipe.noise_multiplier, batch_size, key)
        optimizer = optax.chain(noise, optimizer)
    if recipe.on_nan == "skip":
        optimizer = optax.apply_if_finite(optimizer, max_consecutive_errors=NEVER_ACCEPTED)
    return optax.with_extra_args_support(optimizer)


def skipped(opt_state: optax.OptState) -> int | None:
    """How many batches `--on-nan skip` has passed over; None with another `--on-nan`."""
    return int(opt_state.total_notfinite) if isinstance(opt_state, optax.ApplyIfFiniteState) else None


def _without_noise(recipe, kfac, is_weight):
    rate, decay = learning_rate(recipe), weight_decay(recipe)
    if recipe.optimizer in DECOUPLED:
        return getattr(optax, recipe.optimizer)(rate, weight_decay=decay, mask=is_weight)
    optimizer = {
        "sgd": lambda: optax.sgd(rate),
        "momentum": lambda: optax.sgd(rate, momentum=0.9),
        "nesterov": lambda: optax.sgd(rate, momentum=0.9, nesterov=True),
        "adam": lambda: optax.adam(rate),
        "rmsprop": lambda: optax.rmsprop(rate),
        "adagrad": lambda: optax.adagrad(rate),
        "kfac": lambda: kfac(rate),
    }[recipe.optimizer]()
    return optax.chain(optax.add_decayed_weights(decay, mask=is_weight), optimizer) if decay else optimizer
