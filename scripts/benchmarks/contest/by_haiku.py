"""Haiku, as its MNIST example trains; with the donation of its ImageNet example."""

from collections.abc import Callable
from functools import partial

import haiku as hk
import jax
import jax.numpy as jnp
import optax

from benchmarks.contest import networks, optimizers
from benchmarks.contest.jax_grad import loop
from benchmarks.contest.problems import Problem


def prepare(problem: Problem) -> Callable[[], list[jax.Array]]:
    """`hk.transform` of a function of x; a compiled update with optax."""
    net = problem.net
    loss, optimizer = getattr(optax, net.loss), optimizers.of(net)
    network = hk.without_apply_rng(hk.transform(networks.of(net).by_haiku(problem)))

    def mean_loss(params, x, y):
        return loss(network.apply(params, x), y).mean()

    @partial(jax.jit, donate_argnums=0)
    def update(state, x, y):
        params, opt_state = state
        value, grads = jax.value_and_grad(mean_loss)(params, x, y)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    params = network.init(jax.random.key(0), jnp.asarray(problem.x[0]))
    return loop(update, (params, optimizer.init(params)), problem)
