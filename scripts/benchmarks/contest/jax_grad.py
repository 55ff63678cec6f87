"""JAX alone: a compiled step with donated parameters, in a Python loop."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.contest.problems import Problem


def prepare(problem: Problem) -> Callable[[], list[jax.Array]]:
    """`jax.value_and_grad` of the mean loss, and W := W - eta dW."""
    net = problem.net
    activation, loss = getattr(jax.nn, net.activation), getattr(optax, net.loss)

    def mean_loss(params, x, y):
        *hidden, (W, b) = params
        for V, c in hidden:
            x = activation(x @ V.T + c)
        return loss(x @ W.T + b, y).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(params, x, y):
        value, grads = jax.value_and_grad(mean_loss)(params, x, y)
        return jax.tree.map(lambda p, g: p - net.learning_rate * g, params, grads), value

    return loop(step, jax.tree.map(jnp.asarray, problem.params), problem)


def loop(step: Callable[..., tuple[Any, jax.Array]], state: Any, problem: Problem) -> Callable[[], list[jax.Array]]:
    """A pass of `step`, (state, x, y) -> (state, loss), that ends when all is computed."""
    batches = problem.batches(jnp.asarray)

    def one_pass():
        nonlocal state
        losses = []
        for x, y in batches:
            state, value = step(state, x, y)
            losses.append(value)
        jax.block_until_ready((state, value))
        return losses

    return one_pass
