"""Training, epoch by epoch: compiled scans over its batches, then a look at the validation part."""

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
from jaxnet.experiment.errors import Failure
from jaxnet.experiment.problem import Problem, loss_of
from jaxnet.experiment.schedule import Schedule
from jaxnet.experiment.split import Part, Split
from jaxnet.experiment.stream import Rows, blocks, most_batches, pieces
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.precision import mixed_precision
from jaxnet.training import TrainState, batch_weights, epoch_order, make_steps

# Of the batches that are gathered at a time.
PIECE_BYTES = 64 * 2**20


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


class Position(NamedTuple):
    """All that a run is between two of its steps: from here it goes on as if it had never stopped.

    Attributes:
      state: of the training.
      losses: of the epoch's batches so far.
      best: the parameters with the least validation loss, where early stopping looks for them.
      epochs: those that have ended.
      best_epoch: after which `best` stood; 0 before there is one.
      seconds: of training so far.
    """

    state: TrainState
    losses: np.ndarray
    best: Any
    epochs: tuple[Epoch, ...]
    best_epoch: int
    seconds: float

    @property
    def step(self) -> int:
        """Updates so far."""
        return int(self.state.step)


def train(
    config: TrainConfig,
    problem: Problem,
    parts: Split,
    stop: Callable[[], bool] = lambda: False,
    restore: Callable[[Position], Position] = lambda start: start,
) -> Iterator[Epoch | Position | Trained]:
    """Yields each `Epoch` as it ends, a `Position` when a checkpoint is due or a stop is asked for, and last `Trained`.

    With early stopping the parameters of the best validation loss are kept, otherwise the last ones.

    Args:
      config, problem, parts: what is trained.
      stop: asked between pieces of an epoch.
      restore: from the position at the start, which tells shapes and dtypes, to that where the run goes on.

    Raises:
      Failure: when a loss is no longer finite, naming the first batch where it is not.
    """
    features, dtype = parts.train.x.shape[1], config.parameters_dtype
    net, loss = make_network(config, problem, features), loss_of(problem)
    trained_net = mixed_precision(net) if config.dtype == "bfloat16" else net
    examples = len(parts.train.y)
    batch_size = min(config.batch_size, examples)
    start, order_key, noise, back = _keys(config.seed)
    optimizer = optimizers.make_optimizer(config, trained_net, loss, batch_size, noise)
    params = jax.jit(net.init)(start)
    state = jax.jit(partial(TrainState.create, optimizer=optimizer))(params, key=order_key)
    steps = make_steps(
        trained_net, loss, optimizer, value_and_grad=make_value_and_grad(config, trained_net, params, features, back)
    )
    judge = _judge(net, loss, problem, parts.validation, dtype)
    pieces_of, most = _pieces(parts.train, problem, dtype, batch_size)
    order_of = jax.jit(epoch_order, static_argnums=(2, 3))
    weights = _weights(examples, batch_size)
    schedule = Schedule.read(config.checkpoint_every)

    no_losses = np.zeros(0, dtype)
    best = jax.tree.map(jnp.copy, params) if config.early_stopping else ()
    state, at_first, best, done_before, best_epoch, seconds = restore(Position(state, no_losses, best, (), 0, 0.0))
    epochs, batches = list(done_before), -(-examples // batch_size)
    losses: list[Any] = [at_first]
    saved, began = time.monotonic(), time.perf_counter() - seconds

    def here(losses):
        done = _finite(losses, len(epochs) + 1, config, problem)
        return Position(state, done, best, tuple(epochs), best_epoch, time.perf_counter() - began)

    for number in range(len(epochs) + 1, config.epochs + 1):
        if _is_over(config, epochs, best_epoch):
            break
        done, before = sum(map(len, losses)), (number - 1) * batches
        order = order_of(order_key, number - 1, examples, batch_size)
        cuts = schedule.cuts(done, batches, before, most)
        for (first, end), (x, y) in zip(cuts, pieces_of(order, cuts), strict=True):
            state, metrics = steps(state, x, y, None if weights is None else weights[first:end])
            # Not more than two pieces are handed to the device at a time.
            jax.block_until_ready(losses[-1])
            losses.append(metrics["loss"])
            if end < batches and (stop() or schedule.due(before + end, None, saved)):
                yield here(losses)
                saved = time.monotonic()
        state = state._replace(epoch=jnp.asarray(number, jnp.int32))
        validation_loss, value = judge(state.params)
        train_loss = _mean(_finite(losses, number, config, problem), examples, batch_size)
        losses = [no_losses]
        ended = Epoch(number, train_loss, validation_loss, value, time.perf_counter() - began)
        if not np.isfinite(ended.validation_loss):
            raise Failure(f"the validation loss is not finite after epoch {number}; {_remedy(config, problem)}")
        epochs.append(ended)
        if config.early_stopping and (not best_epoch or ended.validation_loss < epochs[best_epoch - 1].validation_loss):
            # A copy, because the next epoch takes over the state's memory.
            best, best_epoch = jax.tree.map(jnp.copy, state.params), number
        yield ended
        if stop() or schedule.due(number * batches, number, saved):
            yield here(losses)
            saved = time.monotonic()
    yield Trained(best, epochs[best_epoch - 1]) if config.early_stopping else Trained(state.params, epochs[-1])


def _judge(net, loss, problem, part, dtype):
    """params -> the mean loss over a part, and its accuracy or RMSE."""
    evaluate, blocks = make_evaluate(net, loss, problem), blocks_of(part, problem, dtype)

    def judge(params):
        evaluated = [(len(x), evaluate(params, x, y)) for x, y in blocks()]
        counts, measured = zip(*jax.device_get(evaluated), strict=True)
        loss, metric = (np.average(values, axis=0, weights=counts) for values in zip(*measured, strict=True))
        return float(loss), problem.metric_of(np.asarray(metric))

    return judge


def _weights(examples, batch_size):
    """Of each batch's examples, where the last batch is filled up; None elsewhere."""
    if examples % batch_size == 0:
        return None
    return jax.device_get(jax.jit(batch_weights, static_argnums=(0, 1))(examples, batch_size))


def _finite(losses, number, config, problem):
    """The losses of an epoch's batches so far, on the host, once it is sure that all are finite."""
    values = np.concatenate(jax.device_get(losses))
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise Failure(f"the loss is no longer finite in epoch {number}, batch {bad[0] + 1}; {_remedy(config, problem)}")
    return values


def _is_over(config, epochs, best_epoch):
    return bool(config.early_stopping and best_epoch and len(epochs) - best_epoch >= config.early_stopping)


def _mean(losses, examples, batch_size):
    """Over all examples of an epoch, from the means over its batches."""
    counts = np.full(len(losses), batch_size)
    counts[-1] = examples - batch_size * (len(losses) - 1)
    return float(np.average(losses, weights=counts))


def _pieces(part, problem, dtype, batch_size):
    """(order, cuts) -> the batches of each piece, one piece after the other; and the most batches in a piece."""
    features = part.x.shape[1]
    if isinstance(part.x, Rows):
        on_disk, most = (part.x, part.y), most_batches(batch_size, features, dtype)
        return lambda order, cuts: pieces(*on_disk, np.asarray(order), cuts, problem, dtype), most
    (on_device,) = blocks_of(part, problem, dtype)()
    gather = jax.jit(lambda x, y, rows: (x[rows], y[rows]))
    most = max(1, PIECE_BYTES // (batch_size * features * np.dtype(dtype).itemsize))
    return lambda order, cuts: (gather(*on_device, order[first:end]) for first, end in cuts), most


# Compiled as one, here and where parameters and state are made: one by one, operations take longer to compile.
@jax.jit
def _keys(seed):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(4))
    return keys[0], keys[1], keys[2], keys[3]


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
