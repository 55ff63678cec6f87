"""What the layers are doing, after each epoch: readings of the same signals that training sends forward and back.

A unit is flat for an example where its activation's slope g'(z), the signal that comes back for a signal of 1, is below
a hundredth of the steepest: what is learnt there is next to nothing. ReLU is flat where it is 0; sigmoid and tanh are
where they saturate.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnet import per_example
from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.split import Part
from jaxnet.experiment.data.windows import Windows
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.training import blocks
from jaxnet.experiment.training.objective import Objective
from jaxnet.notes import in_order, with_notes
from jaxnet.training import TrainState

FLAT = 0.01
# Of the training part, looked at for flat units.
EXAMPLES = 1024
# Of a text, as many tokens at most.
TOKENS = 2**13
# Where an activation's slope is looked at for its steepest: close by around 0, and where only its ends are left.
GRID = (-1e4, *(k / 4 for k in range(-32, 33)), 1e4)


def make_diagnose(
    objective: Objective, part: Part, problem: Problem, batch_size: int, dtype: str, layout: Layout, batches: int = 1
) -> Callable[[TrainState], dict[str, Any]]:
    """state -> what metrics.jsonl holds as 'diagnostics'; see docs/cli.md.

    Args:
      objective: of the run.
      part: of whose first examples a batch is taken for gradient and update, and up to `EXAMPLES` for flat units.
      problem, batch_size, dtype, layout: of the run; the dtype is that of the parameters.
      batches: for one update, which here are all the same one.
    """
    batch, many = (
        blocks.block(part, _places(part, size), problem, dtype, layout)[:3] for size in (batch_size, EXAMPLES)
    )

    @jax.jit
    def measure(state, batch, many):
        x, y, weights = batch
        weights = weights / weights.sum()
        _, grads = objective.value_and_grad(state.params, x, y, weights)
        repeated = (jnp.broadcast_to(array, (batches, *array.shape)) for array in (x, y, weights))
        after, _ = objective.steps(state, *repeated)
        updates = jax.tree.map(jnp.subtract, after.params, state.params)
        layers = _of_layers(objective.net, (state.params, grads, updates), *many)
        told = {"gradient_norm": optax.tree.norm(grads), "layers": layers}
        return told | ({"noise_scale": _noise_scale(objective, state.params, x, y)} if problem.positions else {})

    def diagnose(state):
        measured = layout.fetch(measure(state, batch, many))
        return jax.tree.map(_number, {**measured, "layers": [_first_that_bends(*told) for told in measured["layers"]]})

    return diagnose


def _places(part, size):
    """The first examples of a part; of a text windows from all over it, and no more than so many tokens."""
    if not isinstance(part.x, Windows):
        return slice(0, size)
    size = max(2, min(size, TOKENS // part.x.context, len(part.x)))
    every = len(part.x) // size
    return slice(0, size * every, every)


def _noise_scale(objective, params, x, y):
    z, cache = objective.net.forward(params, x)
    dparams, _ = objective.net.backward(params, cache, objective.loss.backward(z, y))
    return per_example.noise_scale(dparams)


def _of_layers(net, trees, x, y, weights):
    """For each layer with weights, in each of its rounds: what is measured of it, and of the activations after it."""
    noted_net = with_notes(net, back=partial(_flat_shares, weights))
    z, cache = noted_net.forward(trees[0], x)
    note, _ = noted_net.backward(trees[0], cache, jnp.ones_like(z))
    layers: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for noted in in_order(net, note, *trees):
        if any(noted.weights):
            params, grads, updates = noted.trees
            ratio = _norm_of_weights(noted, updates) / _norm_of_weights(noted, params)
            layers.append(({"gradient_norm": optax.tree.norm(grads), "update_to_weight": ratio}, []))
        elif noted.back and layers:
            layers[-1][1].append(noted.back)
    return layers


def _norm_of_weights(noted, tree):
    arrays = zip(jax.tree.leaves(tree), noted.weights, strict=True)
    return optax.tree.norm([array for array, is_weight in arrays if is_weight])


def _flat_shares(weights, layer, params, cache, dy):
    """Of an activation: the shares of dead units, and of flat values, and whether its slope changes at all."""
    if layer.kind != "elementwise":
        return {}
    _, slope = layer.backward(params, cache, jnp.ones_like(dy))
    slopes = _slopes(layer, params, dy)
    flat = jnp.abs(slope) < FLAT * slopes.max()
    return {
        # What fills up the last rows is an example too.
        "dead": flat.all(axis=0).astype(dy.dtype).mean(),
        "saturated": jnp.tensordot(weights, flat.astype(dy.dtype), axes=1).mean() / weights.sum(),
        "bends": slopes.max() > slopes.min(),
    }


def _slopes(layer, params, like):
    """|g'(z)| of the activation over all z that matter."""
    z = jnp.asarray(GRID, like.dtype).reshape(-1, *(1,) * (like.ndim - 1))
    # Of constants by the thousand XLA would compute all that follows while it compiles, for seconds.
    z = jax.lax.optimization_barrier(jnp.broadcast_to(z, (len(GRID), *like.shape[1:])))
    _, cache = layer.forward(params, z)
    _, slopes = layer.backward(params, cache, jnp.ones_like(z))
    return jnp.abs(slopes)


def _first_that_bends(measured, activations):
    """What is measured of a layer, and the shares of its activation: one whose slope is not the same everywhere."""
    bent = [shares for shares in activations if shares.pop("bends")]
    return measured | (bent[0] if bent else {})


def _number(value):
    """For JSON, which knows no infinity: a layer of zeros has no ratio to its weights."""
    return float(value) if np.isfinite(value) else None
