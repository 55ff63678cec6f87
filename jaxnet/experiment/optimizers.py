"""The optimizers that `--optimizer` names, all optax's."""

import jax
import optax

from jaxnet.experiment.config import TrainConfig

DECOUPLED = ("adamw", "nadamw", "lion")
RATES = {"sgd": 0.1, "momentum": 0.01, "nesterov": 0.01, "adagrad": 0.01, "lion": 3e-4}
USUAL_RATE = 1e-3


def learning_rate(config: TrainConfig) -> float:
    """The one that was asked for, or what suits the optimizer."""
    return config.learning_rate if config.learning_rate is not None else RATES.get(config.optimizer, USUAL_RATE)


def weight_decay(config: TrainConfig) -> float:
    """The one that was asked for, or what suits the optimizer."""
    if config.weight_decay is not None:
        return config.weight_decay
    return 0.3 if config.optimizer in DECOUPLED else 0.0


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """The optimizer of the options. Weight decay is for leaves with two axes or more: it spares biases."""
    rate, decay = learning_rate(config), weight_decay(config)
    if config.optimizer in DECOUPLED:
        return getattr(optax, config.optimizer)(rate, weight_decay=decay, mask=_weights)
    optimizer = {
        "sgd": lambda: optax.sgd(rate),
        "momentum": lambda: optax.sgd(rate, momentum=0.9),
        "nesterov": lambda: optax.sgd(rate, momentum=0.9, nesterov=True),
        "adam": lambda: optax.adam(rate),
        "rmsprop": lambda: optax.rmsprop(rate),
        "adagrad": lambda: optax.adagrad(rate),
    }[config.optimizer]()
    return optax.chain(optax.add_decayed_weights(decay, mask=_weights), optimizer) if decay else optimizer


def _weights(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
