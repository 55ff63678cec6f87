"""One iteration, as it is called from a loop."""

from collections.abc import Callable
from typing import Any

import optax
from jaxtyping import Array

from jaxnet import gradient
from jaxnet.arguments import count_examples
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.metrics import Metric
from jaxnet.training.compiled import Compiled, Labels
from jaxnet.training.state import TrainState, check_state
from jaxnet.training.update import check_parts, make_update


def make_step(
    net: Layer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    value_and_grad: Callable[..., Callable[..., Any]] = gradient.value_and_grad,
    metrics: dict[str, Metric] | None = None,
) -> Callable[[TrainState, Array, Array], tuple[TrainState, dict[str, Any]]]:
    """One iteration of gradient descent, jit-compiled: forward, backward, update.

    With `optax.sgd(eta)` it is the lesson's step: W := W - eta dW, b := b - eta db.

    Args:
      net: the network. What its layers draw, such as dropout's masks, they draw anew in each step, by the state's key
        and the number of the step.
      loss: its mean over the batch is what is minimised.
      optimizer: any optax optimizer. Its update is given what it takes of `value`, `grad`, `value_fn` (`obj_fn`),
        `grad_fn`, `x`, `y` and `weights`: those that look at the loss or evaluate it again, like `optax.lbfgs`, may,
        and so may those that ask for gradients elsewhere, like `optax.contrib.sam`, or look at the batch, like
        `optimizers.kfac`. `optax.contrib.dpsgd` wants each example's gradient: let `value_and_grad` read by
        `per_example.each`. `optax.lookahead`, whose parameters are pairs of networks, does not fit.
      value_and_grad: from (net, loss) to `(params, x, y, weights=None) -> (J, grads)`; the hand-derived one by default.
        The net that it is given is bound to the step's key, see `jaxnet.bind`: of that it has to make a `backward` of
        its own, as in `lambda net, loss: value_and_grad(net, loss, backward=feedback.sign_symmetry(net))`.
      metrics: more readings of the gradient's backward pass, by name, such as
        `{"noise scale": per_example.noise_scale}`: `(dparams) -> value` or `(dparams, weights) -> value`, a value being
        any pytree of arrays. They cost no second pass, but memory: see `jaxnet.value_and_grad`, whose argument they
        are; another `value_and_grad` must take them too.

    Returns:
      `(state, x, y) -> (state, {"loss": J, "noise scale": ..., ...})` with J the mean loss before the update, and the
      metrics' values of the same pass. The state is consumed: its memory is reused for the one that is returned, with
      which to go on, and using it again is refused.

    Raises:
      ValueError: when an argument is something else; when called, if the state was used before, or the loss does not
        take the values of y, which the first call with each shape looks at; when traced, if x and y differ in the
        number of examples or have none, or the state is not of this optimizer.

    Source: the lesson (docs/lesson.md), S10 and S11.

    Example:
      >>> net, optimizer = jn.mlp((3, 4, 1)), optax.sgd(0.1)
      >>> state = jn.TrainState.create(net.init(key), optimizer)
      >>> step = jn.make_step(net, jn.losses.half_squared_error, optimizer)
      >>> x, y = jnp.ones((5, 3)), jnp.zeros((5, 1))
      >>> for _ in range(20):
      ...     state, metrics = step(state, x, y)
      >>> bool(metrics["loss"] < 0.01), int(state.step)
      (True, 20)
    """
    check_parts("make_step", net, loss, optimizer, value_and_grad, metrics)
    labels = Labels(loss, axes=1)
    update = make_update("make_step", net, labels.noting, optimizer, value_and_grad, metrics)

    def step(state, x, y):
        check_state("make_step", optimizer, state)
        count_examples("make_step", x, y, least=0)
        return update(state, x, y, None)

    return Compiled("make_step", step, labels)
