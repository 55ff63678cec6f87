"""Training, epoch by epoch: a compiled scan, then a look at the validation part."""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxnet import feedback, gradient, per_example
from jaxnet.experiment import model, optimizers
from jaxnet.experiment.config import TrainConfig
from jaxnet.experiment.errors import Failure, interrupted
from jaxnet.experiment.problem import Problem, loss_of
from jaxnet.experiment.split import Part, Split
from jaxnet.experiment.stream import Rows, blocks, make_streamed_epoch
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.precision import mixed_precision
from jaxnet.training import TrainState, make_epoch, make_steps


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
    features = parts.train.x.shape[1]
    net, loss = make_network(config, problem, features), loss_of(problem)
    trained_net = mixed_precision(net) if config.dtype == "bfloat16" else net
    batch_size = min(config.batch_size, len(parts.train.y))
    start, order, noise, back = _keys(config.seed)
    optimizer = optimizers.make_optimizer(config, trained_net, loss, batch_size, noise)
    params = jax.jit(net.init)(start)
    state = jax.jit(partial(TrainState.create, optimizer=optimizer))(params, key=order)
    gradient_of = make_value_and_grad(config, trained_net, params, features, back)
    if isinstance(parts.train.x, Rows):
        steps = make_steps(trained_net, loss, optimizer, value_and_grad=gradient_of)
        streamed = make_streamed_epoch(steps, problem, batch_size, config.parameters_dtype)
        on_disk = parts.train.x, parts.train.y

        def epoch(state):
            return streamed(state, *on_disk)
    else:
        whole = make_epoch(trained_net, loss, optimizer, batch_size, value_and_grad=gradient_of)
        (on_device,) = blocks_of(parts.train, problem, config.parameters_dtype)()

        def epoch(state):
            return whole(state, *on_device)

    evaluate = make_evaluate(net, loss, problem)
    validation = blocks_of(parts.validation, problem, config.parameters_dtype)

    began, kept = time.perf_counter(), None
    for number in range(1, config.epochs + 1):
        state, metrics = epoch(state)
        evaluated = [(len(x), evaluate(state.params, x, y)) for x, y in validation()]
        train_loss, evaluated = jax.device_get((metrics["loss"], evaluated))
        counts, measured = zip(*evaluated, strict=True)
        validation_loss, metric = (np.average(values, axis=0, weights=counts) for values in zip(*measured, strict=True))
        value = problem.metric_of(np.asarray(metric))
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


# Compiled as one, here and where parameters and state are made: one by one, operations take longer to compile.
@jax.jit
def _keys(seed):
    return tuple(jax.random.fold_in(jax.random.key(seed), number) for number in range(4))


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


def blocks_of(
    part: Part, problem: Problem, dtype: str
) -> Callable[[], Iterable[tuple[Float[Array, "m i"], Shaped[Array, "m ..."]]]]:
    """() -> inputs and encoded targets on the device: all in one block that stays there, or one after the other."""
    if isinstance(part.x, Rows):
        return partial(blocks, part.x, part.y, problem, dtype)
    whole = jnp.asarray(part.x, dtype), jnp.asarray(problem.encode(part.y, dtype))
    return lambda: [whole]


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
    x = jax.ShapeDtypeStruct((1, features), config.parameters_dtype)
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
