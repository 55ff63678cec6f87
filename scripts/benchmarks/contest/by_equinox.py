"""Equinox, as its MNIST example trains, in the low-overhead loop that its documentation gives under 'Tricks'."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from benchmarks.contest.jax_grad import loop
from benchmarks.contest.problems import Problem


class Perceptron(eqx.Module):
    """Linear layers with activations between them, for one example."""

    layers: list[Any]

    def __call__(self, x):
        """The outputs (o,) for the inputs (i,)."""
        for layer in self.layers:
            x = layer(x)
        return x


def prepare(problem: Problem) -> Callable[[], list[jax.Array]]:
    """A compiled step with optax; model and optimizer's state cross its border as plain leaves."""
    loss, optimizer = getattr(optax, problem.net.loss), optax.sgd(problem.net.learning_rate)
    model = _model(problem)
    leaves, structure = jax.tree.flatten((model, optimizer.init(eqx.filter(model, eqx.is_array))))

    @eqx.filter_value_and_grad
    def value_and_grad(model, x, y):
        return loss(jax.vmap(model)(x), y).mean()

    # Donates all but the first argument.
    @eqx.filter_jit(donate="all-except-first")
    def make_step(batch, leaves):
        model, opt_state = jax.tree.unflatten(structure, leaves)
        value, grads = value_and_grad(model, *batch)
        updates, opt_state = optimizer.update(grads, opt_state, eqx.filter(model, eqx.is_array))
        return jax.tree.leaves((eqx.apply_updates(model, updates), opt_state)), value

    return loop(lambda leaves, x, y: make_step((x, y), leaves), leaves, problem)


def _model(problem):
    net = problem.net
    key, activation = jax.random.key(0), getattr(jax.nn, net.activation)
    layers = []
    for (i, o), (W, b) in zip(pairwise(net.sizes), problem.params, strict=True):
        linear = eqx.nn.Linear(i, o, key=key)
        parts = jnp.asarray(W), jnp.asarray(b)
        layers += [eqx.tree_at(lambda linear: (linear.weight, linear.bias), linear, parts), activation]
    return Perceptron(layers[:-1])
