"""The optimizers that `--optimizer` names: optax's, and K-FAC."""

from functools import partial
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from jaxnet import optimizers
from jaxnet.experiment.training.accumulation import accumulated
from jaxnet.experiment.training.rates import rate_by_step
from jaxnet.experiment.training.recipe import Recipe
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.parameters import Sides

DECOUPLED = ("adamw", "nadamw", "lion")
# Gradients that are not finite, one after the other.
NEVER_ACCEPTED = 2**31 - 1


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
    batches: int = 1,
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of the recipe. Weight decay is for weights: it spares biases, and whatever else is none.

    Args:
      recipe: names it.
      net, loss: what K-FAC takes the curvature of, with samples of what the network predicts.
      batch_size: examples in a batch, without what fills it up.
      key: of the noise, and of K-FAC's labels.
      sides: of the network's parameters, see `parameters.sides_of`.
      inputs: the network's, as shapes alone, by which K-FAC makes its state; None where the parameters' shapes tell it.
      batches: in an epoch, which the learning rate's schedule counts.
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
    is_weight = jax.tree.map(lambda of_one: of_one.is_weight, sides)
    optimizer = _of_gradients(recipe, rate_by_step(recipe, batches), kfac, is_weight)
    if recipe.clip_gradient is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(recipe.clip_gradient), optimizer)
    if recipe.noise_multiplier:
        assert recipe.clip_examples is not None
        examples = batch_size * recipe.accumulate
        noise = optimizers.private_noise(recipe.clip_examples, recipe.noise_multiplier, examples, key)
        optimizer = optax.chain(noise, optimizer)
    if recipe.accumulate > 1:
        optimizer = accumulated(optimizer, recipe.accumulate)
    if recipe.on_nan == "skip":
        optimizer = optax.apply_if_finite(optimizer, max_consecutive_errors=NEVER_ACCEPTED)
    return optax.with_extra_args_support(optimizer)


def skipped(opt_state: optax.OptState) -> int | None:
    """How many batches `--on-nan skip` has passed over; None with another `--on-nan`."""
    return int(opt_state.total_notfinite) if isinstance(opt_state, optax.ApplyIfFiniteState) else None


def _of_gradients(recipe, rate, kfac, is_weight):
    """The optimizer that is named, of gradients as it is given them."""
    decay = weight_decay(recipe)
    given = {"b1": recipe.beta1, "b2": recipe.beta2}
    betas = {name: value for name, value in given.items() if value is not None}
    if recipe.optimizer in DECOUPLED:
        return getattr(optax, recipe.optimizer)(rate, weight_decay=decay, mask=is_weight, **betas)
    optimizer = {
        "sgd": lambda: optax.sgd(rate),
        "momentum": lambda: optax.sgd(rate, momentum=0.9),
        "nesterov": lambda: optax.sgd(rate, momentum=0.9, nesterov=True),
        "adam": lambda: optax.adam(rate, **betas),
        "rmsprop": lambda: optax.rmsprop(rate),
        "adagrad": lambda: optax.adagrad(rate),
        "kfac": lambda: kfac(rate),
    }[recipe.optimizer]()
    return optax.chain(optax.add_decayed_weights(decay, mask=is_weight), optimizer) if decay else optimizer
