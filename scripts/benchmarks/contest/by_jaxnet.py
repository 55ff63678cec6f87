"""jaxnet: a pass is one `lax.scan`, as `jn.make_steps` makes it."""

import jax
import jax.numpy as jnp
from jax import lax

import jaxnet as jn
from benchmarks.contest import networks, optimizers
from benchmarks.contest.problems import SOFTMAX, Problem
from benchmarks.contest.program import Program


def prepare(problem: Problem) -> Program:
    """The network's layer with the parameters that were drawn."""
    net = problem.net
    (network, arrays), optimizer = networks.of(net).by_jaxnet(problem), optimizers.of(net, _decay)
    parts = network, _loss(problem), optimizer
    steps = _on_one_batch(parts, net.steps) if net.batches == 1 else jn.make_steps(*parts)
    state = jn.TrainState.create(_params(network, arrays), optimizer)
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)

    def one_pass():
        nonlocal state
        state, metrics = jax.block_until_ready(steps(state, x, y))
        return metrics["loss"]

    return Program(one_pass, steps, state, x, y)


def _on_one_batch(parts, steps):
    """The same batch in every step: given once, not stacked."""
    step = jn.make_step(*parts)

    def scan(state, x, y):
        return lax.scan(lambda state, _: step(state, x[0], y[0]), state, length=steps)

    return jax.jit(scan, donate_argnums=0)


def _loss(problem):
    """Where there are labels at each position, their mean."""
    if problem.net.loss == SOFTMAX and problem.y.ndim > 2:
        return jn.losses.cross_entropy(over_positions="mean")
    return getattr(jn.losses, problem.net.loss)


def _params(network, arrays):
    """The arrays in the layer's structure."""
    shapes, structure = jax.tree.flatten(jax.eval_shape(network.init, jax.random.key(0)))
    assert [array.shape for array in arrays] == [leaf.shape for leaf in shapes]
    return jax.tree.unflatten(structure, map(jnp.asarray, arrays))


def _decay(params):
    """What decays: all but the norms', which may be stacked, so that their number of axes does not tell."""
    return jax.tree.map(lambda part: jax.tree.map(lambda _: not _is_norm(part), part), params, is_leaf=_is_norm)


def _is_norm(part):
    return isinstance(part, (jn.LayerNorm, jn.GroupNorm))
