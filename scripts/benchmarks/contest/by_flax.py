"""Flax's nnx in the two ways that its performance guide recommends for small models."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.contest.jax_grad import loop
from benchmarks.contest.problems import Problem


class Perceptron(nnx.Module):
    """Linear layers with an activation between them."""

    def __init__(self, problem: Problem) -> None:
        self.activation = getattr(jax.nn, problem.net.activation)
        self.layers = nnx.List(nnx.Linear(i, o, rngs=nnx.Rngs(0)) for i, o in pairwise(problem.net.sizes))
        for layer, (W, b) in zip(self.layers, problem.params, strict=True):
            layer.kernel[...] = jnp.asarray(W.T)
            layer.bias[...] = jnp.asarray(b)

    def __call__(self, x):
        """The outputs (m, o) for the inputs (m, i)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)


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
    model = Perceptron(problem)

    def learn(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        value, grads = nnx.value_and_grad(lambda model: loss(model(x), y).mean())(model)
        optimizer.update(model, grads)
        return value

    return model, nnx.Optimizer(model, optax.sgd(net.learning_rate), wrt=nnx.Param), learn
