"""JAX alone: `jax.value_and_grad` of the plain program, in a loop and scanned; in float64 it is a reference."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks.contest import networks, optimizers
from benchmarks.contest.problems import Problem
from benchmarks.contest.program import Program


def prepare(problem: Problem) -> Program:
    """A compiled step with a donated state, in a Python loop."""
    step, state = _parts(problem, jnp.asarray)
    step = jax.jit(step, donate_argnums=0)
    x, y = jnp.asarray(problem.x[0]), jnp.asarray(problem.y[0])
    return Program(loop(step, state, problem), step, state, x, y)


def scanned(problem: Problem) -> Program:
    """The same step, in one `lax.scan` for a pass.

    XLA's CPU compiler (jax 0.10.2) has no fast programs for the CNN's way back in a scan: there the loop is faster.
    """
    step, state = _parts(problem, jnp.asarray)
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)

    @partial(jax.jit, donate_argnums=0)
    def steps(state, x, y):
        # The same batch in every step is given once, not stacked.
        if len(x) == 1:
            return lax.scan(lambda state, _: step(state, x[0], y[0]), state, length=problem.net.steps)
        return lax.scan(lambda state, batch: step(state, *batch), state, (x, y))

    def one_pass():
        nonlocal state
        state, losses = jax.block_until_ready(steps(state, x, y))
        return losses

    return Program(one_pass, steps, state, x, y)


def losses(problem: Problem, steps: int) -> np.ndarray:
    """The first steps' losses in float64, from the float32 weights and data that all contestants are given."""

    def exact(array):
        return jnp.asarray(array, None if np.issubdtype(array.dtype, np.integer) else np.float64)

    with jax.enable_x64(True):
        step, state = _parts(problem, exact)
        step, told = jax.jit(step), []
        for x, y in problem.batches(exact)[:steps]:
            state, value = step(state, x, y)
            told.append(float(value))
        return np.array(told)


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


def _parts(problem, convert):
    """(state, x, y) -> (state, loss), and the state before."""
    net = problem.net
    (apply, params), loss, optimizer = networks.of(net).by_jax(problem), getattr(optax, net.loss), optimizers.of(net)
    params = jax.tree.map(convert, params)

    def mean_loss(params, x, y):
        return loss(apply(params, x), y).mean()

    def step(state, x, y):
        params, opt_state = state
        value, grads = jax.value_and_grad(mean_loss)(params, x, y)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    return step, (params, optimizer.init(params))
