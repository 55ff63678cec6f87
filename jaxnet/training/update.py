"""Forward, backward, update: what every way to train repeats."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxnet import gradient
from jaxnet.arguments import accepts, instance_of, shown
from jaxnet.layer import Layer, bind
from jaxnet.losses import Loss
from jaxnet.metrics import Metric, check_metrics
from jaxnet.training.state import TrainState, check_optimizer
from jaxnet.weighting import mean_loss, with_rows_that_count


def make_update(
    where: str,
    net: Layer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    value_and_grad: Callable[..., Callable[..., Any]],
    metrics: dict[str, Metric] | None,
) -> Callable[..., tuple[TrainState, dict[str, Any]]]:
    """`(state, x, y, weights) -> (state, {"loss": J, ...})`, not compiled yet."""
    update_of = _with_what_it_takes(where, optimizer)

    def update(state, x, y, weights):
        # All that is evaluated in this step draws the same.
        bound = bind(net, _key_of_draws(state))
        value_and_grad_of, readings = value_and_grad(bound, loss), {}
        hand_derived = gradient.with_hand_derived_vjp(bound)
        if metrics is None:
            value, grads = value_and_grad_of(state.params, x, y, weights)
        else:
            and_metrics = value_and_grad(bound, loss, metrics=metrics)
            (value, readings), grads = and_metrics(state.params, x, y, weights)

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
        updates, opt_state = update_of(grads, state.opt_state, state.params, seen)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": value, **readings}

    return update


def check_parts(
    where: str, net: Any, loss: Any, optimizer: Any, value_and_grad: Callable[..., Any], metrics: Any
) -> None:
    """Refuses what no step can be made of."""
    instance_of(Layer, where, "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")
    instance_of(Loss, where, "loss to be a Loss", loss, "jaxnet.losses.half_squared_error")
    check_optimizer(where, optimizer)
    if not accepts(value_and_grad, "net", "loss"):
        raise ValueError(
            f"{where}: expected value_and_grad to be a function of (net, loss), such as jaxnet.value_and_grad or a "
            f"functools.partial of it, got {shown(value_and_grad)}"
        )
    if metrics is None:
        return
    check_metrics(where, metrics)
    if "loss" in metrics:
        raise ValueError(f"{where}: expected metrics of names other than 'loss', which is that of J")
    takes = _keywords(value_and_grad)
    if takes is not None and "metrics" not in takes:
        raise ValueError(
            f"{where}: expected a value_and_grad that takes metrics, as jaxnet.value_and_grad does, "
            f"got {shown(value_and_grad)}"
        )


def _with_what_it_takes(where, optimizer):
    """The optimizer's update, called with those of the keywords that it takes."""
    takes = _keywords(optimizer.update)

    def update_of(grads, opt_state, params, seen):
        given = {name: what for name, what in seen.items() if takes is None or name in takes}
        try:
            return optimizer.update(grads, opt_state, params, **given)
        except TypeError as error:
            # A wrapper, such as optax.chain, takes every keyword and hands it on.
            if "unexpected keyword argument" not in str(error):
                raise
            raise ValueError(
                f"{where}: {error}: an optimizer inside another is given what that takes; make it the outermost, with "
                "the others inside"
            ) from error

    return update_of


def _key_of_draws(state):
    # Epochs fold their number into the same key, and none has this one.
    return jax.random.fold_in(jax.random.fold_in(state.key, 2**32 - 1), state.step)


def _keywords(function):
    """The names of what a function takes; None where it takes any keyword."""
    taken = inspect.signature(function).parameters
    return None if any(one.kind is one.VAR_KEYWORD for one in taken.values()) else taken.keys()
