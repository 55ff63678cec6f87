"""One pass over the examples in an order of its own, as one program."""

from collections.abc import Callable
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from jaxnet import gradient
from jaxnet.arguments import count_examples, positive_integer
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.metrics import Metric
from jaxnet.training.compiled import Compiled, Labels
from jaxnet.training.state import TrainState, check_state
from jaxnet.training.steps import make_scan
from jaxnet.training.update import check_parts


def make_epoch(
    net: Layer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    batch_size: SupportsIndex | None = None,
    *,
    value_and_grad: Callable[..., Callable[..., Any]] = gradient.value_and_grad,
    metrics: dict[str, Metric] | None = None,
) -> Callable[[TrainState, Array, Array], tuple[TrainState, dict[str, Any]]]:
    """One pass over shuffled minibatches, compiled as a single `lax.scan`.

    The order of the examples is a permutation by the state's key, with the epoch's number folded in. Where the batch
    size does not divide the examples, the last batch is filled up with examples of weight 0, and the rest weigh 1
    over their number: its update is that of the smaller batch.

    Args:
      net, loss, optimizer, value_and_grad, metrics: as for `make_step`. Where a batch is filled up, each of the metrics
        must take weights, as `per_example.noise_scale` does: then what it reads is of the smaller batch too.
      batch_size: examples in a minibatch, at least 1; None, or more than there are, for all at once.

    Returns:
      `(state, x, y) -> (state, {"loss": J, "noise scale": ..., ...})`, jit-compiled, with J the mean over all examples
      of their loss, each at the time its batch was seen, before that batch's update. The metrics' values are those of
      each batch, in the order of the batches, along a leading axis: how to average them, only the reading knows. The
      state is consumed, as by `make_step`.

    Raises:
      ValueError: as for `make_step`; when the batch size is not a positive integer; and when traced, if a batch is
        filled up and a metric does not take weights.

    Example:
      >>> net, optimizer = jn.mlp((3, 4, 1)), optax.sgd(0.1)
      >>> state = jn.TrainState.create(net.init(key), optimizer)
      >>> epoch = jn.make_epoch(net, jn.losses.half_squared_error, optimizer, batch_size=4)
      >>> state, metrics = epoch(state, jnp.ones((10, 3)), jnp.zeros((10, 1)))
      >>> int(state.epoch), int(state.step)  # batches of 4, 4 and 2 examples
      (1, 3)
    """
    check_parts("make_epoch", net, loss, optimizer, value_and_grad, metrics)
    size = None if batch_size is None else positive_integer("make_epoch", "batch_size", batch_size)
    labels = Labels(loss, axes=1)
    scan = make_scan("make_epoch", net, labels.noting, optimizer, value_and_grad, metrics)

    def epoch(state, x, y):
        check_state("make_epoch", optimizer, state)
        examples = count_examples("make_epoch", x, y)
        batch = min(size or examples, examples)
        rows = epoch_order(state.key, state.epoch, examples, batch)
        weights = None if examples % batch == 0 else batch_weights(examples, batch)
        # One gather is faster than one an iteration.
        x, y = jax.tree.map(lambda leaf: leaf[rows], (x, y))
        state, metrics = scan(state, x, y, weights)
        metrics["loss"] = _mean_of_epoch(metrics["loss"], examples, batch)
        return state._replace(epoch=state.epoch + 1), metrics

    return Compiled("make_epoch", epoch, labels)


def epoch_order(key: Key[Array, ""], epoch: Int[Array, ""] | int, examples: int, batch: int) -> Int[Array, "k m"]:
    """Which examples make up each batch of an epoch: a permutation by the key, with the epoch's number folded in.

    The last batch is filled up with the epoch's first examples.
    """
    # One sort of random bits; jax.random.permutation sorts twice, against ties that do no harm here.
    order = jnp.argsort(jax.random.bits(jax.random.fold_in(key, epoch), (examples,)))
    return jnp.resize(order, (-(-examples // batch), batch))


def batch_weights(examples: int, batch: int) -> Float[Array, "k m"]:
    """What each example of an epoch's batches weighs: 1 over the batch's examples, and 0 where it only fills up."""
    filled = jnp.arange(-(-examples // batch) * batch).reshape(-1, batch) < examples
    return filled.astype(float) / filled.sum(axis=1, keepdims=True).astype(float)


def _mean_of_epoch(values, examples, batch):
    """The mean over an epoch's examples, from the means over its batches."""
    in_last = examples - (len(values) - 1) * batch
    return (values[:-1].sum() * batch + values[-1] * in_last) / examples
