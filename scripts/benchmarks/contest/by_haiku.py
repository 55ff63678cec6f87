"""Haiku, as its MNIST example trains; with the donation of its ImageNet example."""

from collections.abc import Callable
from functools import partial

import haiku as hk
import jax
import jax.numpy as jnp
import optax

from benchmarks.contest.jax_grad import loop
from benchmarks.contest.problems import Problem


def prepare(problem: Problem) -> Callable[[], list[jax.Array]]:
    """`hk.transform` of a Sequential of Linear layers; a compiled update with optax."""
    net = problem.net
    activation, loss, optimizer = (
        getattr(jax.nn, net.activation),
        getattr(optax, net.loss),
        optax.sgd(net.learning_rate),
    )

    def forward(x):
        *hidden, outputs = net.sizes[1:]
        layers = [layer for size in hidden for layer in (hk.Linear(size), activation)]
        return hk.Sequential([*layers, hk.Linear(outputs)])(x)

    network = hk.without_apply_rng(hk.transform(forward))

    def mean_loss(params, x, y):
        return loss(network.apply(params, x), y).mean()

    @partial(jax.jit, donate_argnums=0)
    def update(state, x, y):
        params, opt_state = state
        value, grads = jax.value_and_grad(mean_loss)(params, x, y)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), value

    names = network.init(jax.random.key(0), jnp.asarray(problem.x[0]))
    params = {
        name: {"w": jnp.asarray(W.T), "b": jnp.asarray(b)} for name, (W, b) in zip(names, problem.params, strict=True)
    }
    return loop(update, (params, optimizer.init(params)), problem)
