"""One iteration is forward, backward, update; an epoch is a compiled scan over iterations."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxnet import gradient
from jaxnet.arguments import count_examples, instance_of, positive_integer, shown
from jaxnet.compiled import Compiled, Labels
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.weighting import check_weights, mean_loss, with_rows_that_count

Metrics = dict[str, Float[Array, ""]]


class TrainState(NamedTuple):
    """All that changes while a network is trained.

    Attributes:
      params: the network's parameters.
      opt_state: the optax optimizer's state.
      key: the source of the shuffles; it does not change, epochs fold their number into it.
      epoch: how many epochs `make_epoch` has done.
      step: how many updates were made.
    """

    params: Any
    opt_state: Any
    key: Key[Array, ""]
    epoch: Int[Array, ""]
    step: Int[Array, ""]

    @classmethod
    def create(
        cls, params: Any, optimizer: optax.GradientTransformation, key: Key[Array, ""] | None = None
    ) -> "TrainState":
        """A fresh state. It holds copies, since a step gives its state's memory to the next.

        Args:
          params: as `net.init(key)` returns them.
          optimizer: the optax optimizer that the step is made with.
          key: decides the order of examples in each epoch; `jax.random.key(0)` by default.

        Raises:
          ValueError: when an argument is something else.
        """
        _check_optimizer("TrainState.create", optimizer)
        if any(callable(leaf) for leaf in jax.tree.leaves(params)):
            raise ValueError(f"TrainState.create: expected params as net.init(key) returns them, got {shown(params)}")
        if key is not None and not hasattr(key, "dtype"):
            raise ValueError(f"TrainState.create: expected key to be one such as jax.random.key(0), got {shown(key)}")
        key = jax.random.key(0) if key is None else key
        zero = jnp.zeros((), jnp.int32)
        state = cls(params, optimizer.init(params), key, epoch=zero, step=zero)
        return jax.tree.map(_strong_copy, state)


def make_step(
    net: Layer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    value_and_grad: Callable[[Layer, Loss], Callable[..., Any]] = gradient.value_and_grad,
) -> Callable[[TrainState, Array, Array], tuple[TrainState, Metrics]]:
    """One iteration of gradient descent, jit-compiled: forward, backward, update.

    With `optax.sgd(eta)` it is the lesson's step: W := W - eta dW, b := b - eta db.

    Args:
      net: the network.
      loss: its mean over the batch is what is minimised.
      optimizer: any optax optimizer. Its update is given what it takes of `value`, `grad`, `value_fn` (`obj_fn`),
        `grad_fn`, `x`, `y` and `weights`: those that look at the loss or evaluate it again, like `optax.lbfgs`, may,
        and so may those that ask for gradients elsewhere, like `optax.contrib.sam`, or look at the batch, like
        `optimizers.kfac`. `optax.contrib.dpsgd` wants each example's gradient: let `value_and_grad` read by
        `per_example.each`. `optax.lookahead`, whose parameters are pairs of networks, does not fit.
      value_and_grad: from (net, loss) to `(params, x, y, weights=None) -> (J, grads)`; the hand-derived one by default.

    Returns:
      `(state, x, y) -> (state, {"loss": J})` with J the mean loss before the update. The state is consumed: its memory
      is reused for the one that is returned, with which to go on, and using it again is refused.

    Raises:
      ValueError: when an argument is something else; when called, if the state was used before, or the loss does not
        take the values of y, which the first call with each shape looks at; when traced, if x and y differ in the
        number of examples or have none, or the state is not of this optimizer.

    Source: the lesson, S10 and S11.
    """
    _check_parts("make_step", net, loss, optimizer)
    labels = Labels(loss, axes=1)
    update = _make_update("make_step", net, labels.noting, optimizer, value_and_grad)

    def step(state, x, y):
        _check_state("make_step", optimizer, state)
        count_examples("make_step", x, y, least=0)
        state, value = update(state, x, y, None)
        return state, {"loss": value}

    return Compiled("make_step", step, labels)


def make_epoch(
    net: Layer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    batch_size: SupportsIndex | None = None,
    *,
    value_and_grad: Callable[[Layer, Loss], Callable[..., Any]] = gradient.value_and_grad,
) -> Callable[[TrainState, Array, Array], tuple[TrainState, Metrics]]:
    """One pass over shuffled minibatches, compiled as a single `lax.scan`.

    The order of the examples is a permutation by the state's key, with the epoch's number folded in. Where the batch
    size does not divide the examples, the last batch is filled up with examples of weight 0, and the rest weigh 1
    over their number: its update is that of the smaller batch.

    Args:
      net, loss, optimizer, value_and_grad: as for `make_step`.
      batch_size: examples in a minibatch, at least 1; None, or more than there are, for all at once.

    Returns:
      `(state, x, y) -> (state, {"loss": J})`, jit-compiled, with J the mean over all examples of their loss, each at
      the time its batch was seen, before that batch's update. The state is consumed, as by `make_step`.

    Raises:
      ValueError: as for `make_step`; and when the batch size is not a positive integer.
    """
    _check_parts("make_epoch", net, loss, optimizer)
    size = None if batch_size is None else positive_integer("make_epoch", "batch_size", batch_size)
    labels = Labels(loss, axes=1)
    scan = _make_scan("make_epoch", net, labels.noting, optimizer, value_and_grad)

    def epoch(state, x, y):
        _check_state("make_epoch", optimizer, state)
        examples = count_examples("make_epoch", x, y)
        batch = min(size or examples, examples)
        rows = epoch_order(state.key, state.epoch, examples, batch)
        weights = None if examples % batch == 0 else batch_weights(examples, batch)
        # One gather is faster than one an iteration.
        x, y = jax.tree.map(lambda leaf: leaf[rows], (x, y))
        state, values = scan(state, x, y, weights)
        return state._replace(epoch=state.epoch + 1), {"loss": epoch_mean(values, examples, batch)}

    return Compiled("make_epoch", epoch, labels)


def make_steps(
    net: Layer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    value_and_grad: Callable[[Layer, Loss], Callable[..., Any]] = gradient.value_and_grad,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Many iterations, compiled as a single `lax.scan` over batches that are there already, in their order.

    For data that does not fit on the device: fill one block of batches while another is computed.

    Args:
      net, loss, optimizer, value_and_grad: as for `make_step`.

    Returns:
      `(state, x, y, weights=None) -> (state, {"loss": J})`, jit-compiled, for k batches of m examples: x (k, m, ...),
      y (k, m, ...), weights (k, m) in place of 1/m, if any, as for `value_and_grad`; J (k,) is each batch's loss before
      its update. The state is consumed, as by `make_step`.

    Raises:
      ValueError: as for `make_step`; when traced, if the weights are not one for each example of each batch.
    """
    _check_parts("make_steps", net, loss, optimizer)
    labels = Labels(loss, axes=2)
    scan = _make_scan("make_steps", net, labels.noting, optimizer, value_and_grad)

    def steps(state, x, y, weights=None):
        _check_state("make_steps", optimizer, state)
        count_examples("make_steps", x, y, axes=2)
        if weights is not None:
            check_weights("make_steps", weights, jax.tree.leaves(x)[0].shape[:2])
        state, values = scan(state, x, y, weights)
        return state, {"loss": values}

    return Compiled("make_steps", steps, labels)


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


def epoch_mean(values: Float[Array, " k"], examples: int, batch: int) -> Float[Array, ""]:
    """The mean over an epoch's examples, from the means over its batches."""
    in_last = examples - (len(values) - 1) * batch
    return (values[:-1].sum() * batch + values[-1] * in_last) / examples


def _make_scan(where, net, loss, optimizer, value_and_grad):
    update = _make_update(where, net, loss, optimizer, value_and_grad)

    def scan(state, x, y, weights):
        return lax.scan(lambda state, batch: update(state, *batch), state, (x, y, weights))

    return scan


def _make_update(where, net, loss, optimizer, value_and_grad):
    value_and_grad_of = value_and_grad(net, loss)
    hand_derived = gradient.with_hand_derived_vjp(net)
    may_see = _keywords(optimizer.update)

    def update(state, x, y, weights):
        value, grads = value_and_grad_of(state.params, x, y, weights)

        # A line search hands it every keyword that it does not take itself.
        def value_again(params, x=x, y=y, weights=weights, grad_fn=None, obj_fn=None):
            if weights is not None:
                x, y = with_rows_that_count(weights, (x, y))
            return mean_loss(loss.forward(hand_derived(params, x), y), weights)

        def grads_again(params, _):
            _, grads = value_and_grad_of(params, x, y, weights)
            return grads

        seen = {"value": value, "grad": grads, "value_fn": value_again, "x": x, "y": y, "weights": weights}
        # What optax.contrib's sam and sophia call the gradient and the loss.
        seen |= {"grad_fn": grads_again, "obj_fn": value_again}
        seen = {name: what for name, what in seen.items() if may_see is None or name in may_see}
        try:
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params, **seen)
        except TypeError as error:
            # A wrapper, such as optax.chain, takes every keyword and hands it on.
            if "unexpected keyword argument" not in str(error):
                raise
            raise ValueError(
                f"{where}: {error}: an optimizer inside another is given what that takes; make it the outermost, with "
                "the others inside"
            ) from error
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), value

    return update


def _keywords(function):
    """The names of what a function takes; None where it takes any keyword."""
    taken = inspect.signature(function).parameters
    return None if any(one.kind is one.VAR_KEYWORD for one in taken.values()) else taken.keys()


def _strong_copy(leaf):
    # A weakly typed leaf, such as one made from a Python number, would come back strong and compile the step again.
    return jnp.array(leaf, dtype=jnp.asarray(leaf).dtype, copy=True)


def _check_parts(where, net, loss, optimizer):
    instance_of(Layer, where, "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")
    instance_of(Loss, where, "loss to be a Loss", loss, "jaxnet.losses.half_squared_error")
    _check_optimizer(where, optimizer)


def _check_optimizer(where, optimizer):
    if not all(callable(getattr(optimizer, part, None)) for part in ("init", "update")):
        raise ValueError(
            f"{where}: expected optimizer to be one of optax's, such as optax.adam(1e-3), got {shown(optimizer)}"
        )


def _check_state(where, optimizer, state):
    expected = jax.eval_shape(optimizer.init, state.params)
    if _shapes(expected) != _shapes(state.opt_state):
        raise ValueError(
            f"{where}: the state is that of another optimizer, or of other parameters; make it by "
            "TrainState.create(params, optimizer), with the optimizer that is given here"
        )


def _shapes(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [jnp.shape(leaf) for leaf in leaves]
