"""Flax's nnx in the two ways that its performance guide recommends for small models."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax
from flax import nnx

from benchmarks.contest import networks, optimizers
from benchmarks.contest.jax_grad import loop
from benchmarks.contest.problems import Problem


def objects(problem: Problem) -> Callable[[], list[jax.Array]]:
    """`nnx.jit` of a step that changes model and optimizer in place, called through `nnx.cached_partial`."""
    model, optimizer, learn = _parts(problem)
    step = nnx.cached_partial(nnx.jit(learn, donate_argnums=(0, 1)), model, optimizer)
    # The parameters are those of the model; with the last loss they are computed too.
    return loop(lambda nothing, x, y: (nothing, step(x, y)), None, problem)


def functional(problem: Problem) -> Callable[[], list[jax.Array]]:
    """The model split into structure and state once, and `jax.jit` of a pure step."""
    model, optimizer, learn = _parts(problem)
    graphdef, state = nnx.split((model, optimizer))

    @partial(jax.jit, donate_argnums=1)
    def step(graphdef, state, x, y):
        model, optimizer = nnx.merge(graphdef, state)
        value = learn(model, optimizer, x, y)
        return nnx.state((model, optimizer)), value

    return loop(partial(step, graphdef), state, problem)


def _parts(problem):
    net = problem.net
    loss = getattr(optax, net.loss)
    model = networks.of(net).by_flax(problem)

    def learn(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        value, grads = nnx.value_and_grad(lambda model: loss(model(x), y).mean())(model)
        optimizer.update(model, grads)
        return value

    return model, nnx.Optimizer(model, optimizers.of(net), wrt=nnx.Param), learn
