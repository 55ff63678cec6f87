"""What the layers are doing, after each epoch: readings of the same signals that training sends forward and back.

A unit is flat for an example where its activation's slope g'(z), the signal that comes back for a signal of 1, is below
a hundredth of the steepest: what is learnt there is next to nothing. ReLU is flat where it is 0; sigmoid and tanh are
where they saturate.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnet import activations
from jaxnet.compose import layers_of
from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.split import Part
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.training import blocks
from jaxnet.experiment.training.objective import Objective
from jaxnet.layers.dense import Dense
from jaxnet.training import TrainState

FLAT = 0.01
# Of the training part, looked at for flat units.
EXAMPLES = 1024


def make_diagnose(
    objective: Objective, part: Part, problem: Problem, config: TrainConfig, layout: Layout
) -> Callable[[TrainState], dict[str, Any]]:
    """state -> what metrics.jsonl holds as 'diagnostics'; see the README.

    Args:
      objective: of the run.
      part: of whose first examples a batch is taken for gradient and update, and up to `EXAMPLES` for flat units.
      problem, config, layout: of the run.
    """
    dtype = config.parameters_dtype
    batch, many = (
        blocks.block(part.x, part.y, slice(0, size), problem, dtype, layout)[:3]
        for size in (config.batch_size, EXAMPLES)
    )

    @jax.jit
    def measure(state, batch, many):
        x, y, weights = batch
        weights = weights / weights.sum()
        _, grads = objective.value_and_grad(state.params, x, y, weights)
        after, _ = objective.steps(state, x[None], y[None], weights[None])
        updates = jax.tree.map(jnp.subtract, after.params, state.params)
        layers = [
            {
                "gradient_norm": optax.tree.norm(of_grads),
                "update_to_weight": jnp.linalg.norm(of_updates.W) / jnp.linalg.norm(of_params.W),
            }
            for of_params, of_grads, of_updates in zip(state.params, grads, updates, strict=True)
            if isinstance(of_params, Dense)
        ]
        for number, shares in enumerate(_flat_shares(objective.net, state.params, *many)):
            layers[number] |= shares
        return {"gradient_norm": optax.tree.norm(grads), "layers": layers}

    return lambda state: jax.tree.map(_number, layout.fetch(measure(state, batch, many)))


def _flat_shares(net, params, x, y, weights):
    """For each layer with an activation: the shares of dead units, and of flat values."""
    for layer, of_layer in zip(layers_of(net) or (), params, strict=True):
        x, cache = layer.forward(of_layer, x)
        if activations.is_activation(layer) and layer != activations.identity:
            _, slope = layer.backward(of_layer, cache, jnp.ones_like(x))
            flat = jnp.abs(slope) < FLAT * _steepest(layer)
            yield {
                # What fills up the last rows is an example too.
                "dead": flat.all(axis=0).astype(x.dtype).mean(),
                "saturated": (weights @ flat.astype(x.dtype)).mean() / weights.sum(),
            }


def _steepest(layer):
    return 0.25 if layer == activations.sigmoid else 1.0


def _number(value):
    """For JSON, which knows no infinity: a layer of zeros has no ratio to its weights."""
    return float(value) if np.isfinite(value) else None
