"""The backward pass as a function that other programs call: in place of `jax.value_and_grad`, or under `jax.grad`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet import per_example
from jaxnet.layer import Layer
from jaxnet.losses import Loss


def weighted_mean(dparams: Any, weights: Float[Array, " m"] | None) -> Any:
    """The mean gradient; with weights, in place of 1/m, the total: what `value_and_grad` reads off by default."""
    return per_example.mean(dparams) if weights is None else per_example.total(dparams, weights)


def value_and_grad(
    net: Layer,
    loss: Loss,
    *,
    backward: Callable[[Any, Any, Array], tuple[Any, Array]] | None = None,
    read: Callable[[Any, Float[Array, " m"] | None], Any] = weighted_mean,
) -> Callable[..., tuple[Float[Array, ""], Any]]:
    """The mean loss and its gradient, by one forward and one hand-derived backward pass.

    J = (1/m) sum_i L(z_i, y_i) with z = net(x), or sum_i w_i L(z_i, y_i) when weights are given.

    Args:
      net: any layer or network.
      loss: what is minimised.
      backward: through which weights the signal travels, `net.backward` by default; see `jaxnet.feedback`.
      read: what is read off, `(dparams, weights) -> grads`, the mean gradient by default; see `per_example.clipped`.

    Returns:
      `(params, x, y, weights=None) -> (J, grads)`, a drop-in for `jax.value_and_grad` of the mean loss. J is a scalar,
      grads has the structure of params. `weights (m,)` takes the place of 1/m for each example; a zero leaves the
      example out, such as one that only fills up a batch.

    Source: the lesson, S8 and S9.
    """
    send_back = net.backward if backward is None else backward

    def hand_derived(params, x, y, weights=None):
        z, cache = net.forward(params, x)
        losses = loss.forward(z, y)
        dparams, _ = send_back(params, cache, loss.backward(z, y))
        value = losses.mean() if weights is None else (losses * weights.astype(losses.dtype)).sum()
        return value, read(dparams, weights)

    return hand_derived


def with_hand_derived_vjp(net: Layer) -> Callable[[Any, Array], Array]:
    """The network as a function whose `jax.grad`, anywhere in a program, runs our backward pass.

    Args:
      net: any layer or network.

    Returns:
      `(params, x) -> y`, equal to `net.apply`, with the hand-derived rule attached by `jax.custom_vjp`. Takes a batch
      `x (m, ..., i)`, or a single example `x (i,)`, so that it works under `vmap`. Reverse mode only, like every
      custom_vjp: where forward mode is needed, use `net.apply`.
    """

    @jax.custom_vjp
    def hand_derived(params, x):
        return net.apply(params, x)

    def forward(params, x):
        y, cache = net.forward(params, x)
        return y, (params, cache)

    def backward(saved, dy):
        params, cache = saved
        dparams, dx = net.backward(params, cache, dy)
        return per_example.total(dparams), dx

    hand_derived.defvjp(forward, backward)

    def function(params, x):
        if jnp.ndim(x) == 1:
            return hand_derived(params, x[None])[0]
        return hand_derived(params, x)

    return function
