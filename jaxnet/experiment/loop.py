"""Training, epoch by epoch: a compiled scan, then a look at the validation part."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import feedback, gradient, per_example
from jaxnet.experiment import model, optimizers
from jaxnet.experiment.config import TrainConfig
from jaxnet.experiment.errors import Failure, interrupted
from jaxnet.experiment.problem import Problem, loss_of
from jaxnet.experiment.split import Part, Split
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.training import TrainState, make_epoch


class Epoch(NamedTuple):
    """What is known after an epoch.

    Attributes:
      number: counted from 1.
      train_loss: mean over the epoch, each batch before its update.
      validation_loss: after the epoch.
      validation_metric: accuracy, or RMSE in the target's units.
      seconds: since training began, compilation included.
    """

    number: int
    train_loss: float
    validation_loss: float
    validation_metric: float
    seconds: float


class Trained(NamedTuple):
    """The outcome: the parameters that were kept, and the epoch after which they stood."""

    params: Any
    kept: Epoch


def train(config: TrainConfig, problem: Problem, parts: Split) -> Iterator[Epoch | Trained]:
    """Yields each `Epoch` as it ends, and last `Trained`.

    With early stopping the parameters of the best validation loss are kept, otherwise the last ones.

    Raises:
      Failure: when the loss is no longer finite.
    """
    net, loss = make_network(config, problem, parts.train.x.shape[1]), loss_of(problem)
    start, order, noise, back = (jax.random.fold_in(jax.random.key(config.seed), number) for number in range(4))
    batch_size = min(config.batch_size, len(parts.train.x))
    optimizer = optimizers.make_optimizer(config, net, loss, batch_size, noise)
    params = net.init(start)
    state = TrainState.create(params, optimizer, order)
    gradient_of = make_value_and_grad(config, net, params, parts.train.x.shape[1], back)
    epoch = make_epoch(net, loss, optimizer, batch_size, value_and_grad=gradient_of)
    evaluate = make_evaluate(net, loss, problem)
    train_x, train_y = as_arrays(parts.train, problem, config.dtype)
    validation = as_arrays(parts.validation, problem, config.dtype)

    began, kept = time.perf_counter(), None
    for number in range(1, config.epochs + 1):
        state, metrics = epoch(state, train_x, train_y)
        train_loss, (validation_loss, metric) = jax.device_get((metrics["loss"], evaluate(state.params, *validation)))
        value = problem.metric_of(metric)
        ended = Epoch(number, float(train_loss), float(validation_loss), value, time.perf_counter() - began)
        if interrupted():
            raise KeyboardInterrupt
        if not np.isfinite(ended.train_loss + ended.validation_loss):
            raise Failure(f"the loss is no longer finite in epoch {number}; {_remedy(config, problem)}")
        yield ended
        if not config.early_stopping:
            kept = Trained(state.params, ended)
        elif kept is None or ended.validation_loss < kept.kept.validation_loss:
            # A copy, because the next epoch takes over the state's memory.
            kept = Trained(jax.tree.map(jnp.copy, state.params), ended)
        elif number - kept.kept.number >= config.early_stopping:
            break
    assert kept is not None
    yield kept


def _remedy(config, problem):
    if problem.loss == "binary_cross_entropy":
        return "it is not where a sigmoid rounds to 0 or 1; use --loss sigmoid_binary_cross_entropy"
    rate = optimizers.learning_rate(config)
    lower = "give a --learning-rate" if rate is None else f"lower --learning-rate ({rate:g})"
    return f"{lower} or look for extreme values in the data"


def make_network(config: TrainConfig, problem: Problem, features: int) -> Layer:
    """The network that the options ask for, for so many features."""
    sizes = model.sizes_of(config, features, problem)
    return model.network(sizes, config.activation, problem.output_activation, config.init)


def make_evaluate(net: Layer, loss: Loss, problem: Problem) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """(params, x, y) -> (mean loss, metric), jit-compiled."""

    def evaluate(params, x, y):
        z = net.apply(params, x)
        return loss.forward(z, y).mean(), problem.measure(z, y)

    return jax.jit(evaluate)


def as_arrays(part: Part, problem: Problem, dtype: str) -> tuple[jax.Array, jax.Array]:
    """Inputs and encoded targets on the device."""
    return jnp.asarray(part.x, dtype), jnp.asarray(problem.encode(part.y, dtype))


def make_value_and_grad(
    config: TrainConfig, net: Layer, params: Any, features: int, key: jax.Array
) -> Callable[[Layer, Loss], Callable[..., Any]]:
    """What `make_epoch` takes for `--backward`, `--feedback` and `--clip-examples`.

    Args:
      config: the options.
      net, params: the network, and its parameters at the start.
      features: of its input.
      key: of random feedback weights.
    """
    if config.backward == "autodiff":
        return _autodiff_value_and_grad
    x = jax.ShapeDtypeStruct((1, features), config.dtype)
    backward = {
        "transpose": lambda: net.backward,
        "random": lambda: feedback.alignment(net, net.init(key)),
        "sign": lambda: feedback.sign_symmetry(net),
        "direct": lambda: feedback.direct(net, feedback.direct_weights(net, params, x, key)),
    }[config.feedback]()
    read = None if config.clip_examples is None else per_example.clipped(config.clip_examples)
    return partial(gradient.value_and_grad, backward=backward, read=read)


def _autodiff_value_and_grad(net, loss):
    """The same function as `jaxnet.value_and_grad`, by jax.grad."""

    def weighted_loss(params, x, y, weights=None):
        losses = loss.forward(net.apply(params, x), y)
        return losses.mean() if weights is None else (losses * weights.astype(losses.dtype)).sum()

    return jax.value_and_grad(weighted_loss)
