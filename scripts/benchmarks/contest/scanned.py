"""jaxnet, and the same program with `jax.value_and_grad` in the place of our backward pass: one `lax.scan` a pass."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax

import jaxnet as jn
from benchmarks.contest.problems import Problem


def by_hand(problem: Problem) -> Callable[[], jax.Array]:
    """jaxnet."""
    return _scanned(problem, jn.value_and_grad)


def automatic(problem: Problem) -> Callable[[], jax.Array]:
    """JAX's own differentiation of the same network and loss."""
    return _scanned(problem, _automatic)


def _automatic(network, loss):
    def mean_loss(params, x, y, weights=None):
        return loss.forward(network.apply(params, x), y).mean()

    return jax.value_and_grad(mean_loss)


def _scanned(problem, value_and_grad):
    net = problem.net
    network = jn.mlp(net.sizes, getattr(jn.activations, net.activation))
    parts = network, getattr(jn.losses, net.loss), optax.sgd(net.learning_rate)
    steps = _on_one_batch(parts, net.steps, value_and_grad) if net.batches == 1 else _on_all(parts, value_and_grad)
    state = jn.TrainState.create(_params(network, problem.params), parts[-1])
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)

    def one_pass():
        nonlocal state
        state, metrics = jax.block_until_ready(steps(state, x, y))
        return metrics["loss"]

    return one_pass


def _on_all(parts, value_and_grad):
    return jn.make_steps(*parts, value_and_grad=value_and_grad)


def _on_one_batch(parts, steps, value_and_grad):
    """The same batch in every step: given once, not stacked."""
    step = jn.make_step(*parts, value_and_grad=value_and_grad)

    def scan(state, x, y):
        return lax.scan(lambda state, _: step(state, x[0], y[0]), state, length=steps)

    return jax.jit(scan, donate_argnums=0)


def _params(network, params):
    layers = iter(params)
    return tuple(
        jn.Dense(*map(jnp.asarray, next(layers))) if isinstance(layer, jn.Dense) else layer
        for layer in jax.eval_shape(network.init, jax.random.key(0))
    )
