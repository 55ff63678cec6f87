"""Equinox, as its MNIST example trains, in the low-overhead loop that its documentation gives under 'Tricks'."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.contest import networks, optimizers
from benchmarks.contest.jax_grad import loop
from benchmarks.contest.problems import Problem


def prepare(problem: Problem) -> Callable[[], list[jax.Array]]:
    """A compiled step with optax; model and optimizer's state cross its border as plain leaves."""
    loss, optimizer = getattr(optax, problem.net.loss), optimizers.of(problem.net)
    model, x = networks.of(problem.net).by_equinox(problem)
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

    return loop(lambda leaves, x, y: make_step((x, y), leaves), leaves, problem._replace(x=x))


def filled(model: Any, arrays: Sequence[np.ndarray]) -> Any:
    """The model with these parameters, in the order of its own; biases of channels gain axes of one position."""
    parts, rest = eqx.partition(model, eqx.is_array)
    places, structure = jax.tree.flatten(parts)
    given = [jnp.asarray(array).reshape(place.shape) for place, array in zip(places, arrays, strict=True)]
    return eqx.combine(jax.tree.unflatten(structure, given), rest)
