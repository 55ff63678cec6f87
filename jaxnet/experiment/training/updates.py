"""The optimizers that `--optimizer` names: optax's, and K-FAC."""

import jax
import optax
from jaxtyping import PyTree

from jaxnet import optimizers
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.parameters import Sides

DECOUPLED = ("adamw", "nadamw", "lion")
RATES = {"sgd": 0.1, "momentum": 0.01, "nesterov": 0.01, "adagrad": 0.01, "lion": 3e-4}
USUAL_RATE = 1e-3
# Gradients that are not finite, one after the other.
NEVER_ACCEPTED = 2**31 - 1


def learning_rate(config: TrainConfig) -> float | None:
    """The one that was asked for, or what suits the optimizer; None where that chooses for itself."""
    if config.learning_rate is not None or config.optimizer == "kfac":
        return config.learning_rate
    return RATES.get(config.optimizer, USUAL_RATE)


def weight_decay(config: TrainConfig) -> float:
    """The one that was asked for, or what suits the optimizer."""
    if config.weight_decay is not None:
        return config.weight_decay
    return 0.3 if config.optimizer in DECOUPLED else 0.0


def make_optimizer(
    config: TrainConfig, net: Layer, loss: Loss, batch_size: int, key: jax.Array, sides: PyTree[Sides]
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of the options. Weight decay is for weights: it spares biases, and whatever else is none.

    Args:
      config: the options.
      net, loss: what K-FAC takes the curvature of.
      batch_size: examples in a batch, without what fills it up.
      key: of the noise, and of K-FAC's labels.
      sides: of the network's parameters, see `parameters.sides_of`.
    """
    optimizer = _without_noise(config, net, loss, batch_size, key, jax.tree.map(lambda of_one: of_one.is_weight, sides))
    if config.noise_multiplier:
        assert config.clip_examples is not None
        noise = optimizers.private_noise(config.clip_examples, config.noise_multiplier, batch_size, key)
        optimizer = optax.chain(noise, optimizer)
    if config.on_nan == "skip":
        optimizer = optax.apply_if_finite(optimizer, max_consecutive_errors=NEVER_ACCEPTED)
    return optax.with_extra_args_support(optimizer)


def skipped(opt_state: optax.OptState) -> int | None:
    """How many batches `--on-nan skip` has passed over; None with another `--on-nan`."""
    return int(opt_state.total_notfinite) if isinstance(opt_state, optax.ApplyIfFiniteState) else None


def _without_noise(config, net, loss, batch_size, key, is_weight):
    rate, decay = learning_rate(config), weight_decay(config)
    if config.optimizer in DECOUPLED:
        return getattr(optax, config.optimizer)(rate, weight_decay=decay, mask=is_weight)
    optimizer = {
        "sgd": lambda: optax.sgd(rate),
        "momentum": lambda: optax.sgd(rate, momentum=0.9),
        "nesterov": lambda: optax.sgd(rate, momentum=0.9, nesterov=True),
        "adam": lambda: optax.adam(rate),
        "rmsprop": lambda: optax.rmsprop(rate),
        "adagrad": lambda: optax.adagrad(rate),
        "kfac": lambda: optimizers.kfac(net, loss, rate, batch_size=batch_size, key=key),
    }[config.optimizer]()
    return optax.chain(optax.add_decayed_weights(decay, mask=is_weight), optimizer) if decay else optimizer
