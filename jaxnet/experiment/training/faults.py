"""Numbers that are no longer finite: which step made them, and where in it they arose first.

The compiled loop only watches the losses. Where one is not finite, the epoch's steps are made again from its start, one
at a time, up to the first whose loss or new parameters are not finite; that one is then gone through operation by
operation: inputs, forward layer by layer, loss, gradients from the last layer to the first, update.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.compose import layers_of
from jaxnet.experiment.console.errors import Failure
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.training import updates
from jaxnet.experiment.training.objective import Objective, copied
from jaxnet.layers.dense import Dense
from jaxnet.training import TrainState


class Fault(Failure):
    """A loss, a gradient or parameters that are not finite."""


def find(
    objective: Objective, layout: Layout, state: TrainState, pieces: Iterable[tuple[Any, Any, Any]]
) -> tuple[int, str, str] | None:
    """The first step that makes what is not finite: how many steps there were before it, what, and where it arose.

    Args:
      objective, layout: of the run.
      state: from which the batches were trained on.
      pieces: those batches: inputs, targets and weights, if any.

    Returns:
      None where this time all is finite.
    """
    done, state = 0, copied(state)
    for x, y, weights in pieces:
        before = copied(state)
        state, metrics = objective.steps(state, x, y, weights)
        if _sound(before, state, metrics):
            done += len(x)
            continue
        for number in range(len(x)):
            batch = [None if array is None else array[number : number + 1] for array in (x, y, weights)]
            state, metrics = objective.steps(copied(before), *batch)
            if not _sound(before, state, metrics):
                # Of the state the parameters alone: random keys, which an optimizer may keep too, are no NumPy arrays.
                return done + number, *where(objective, *layout.fetch((before.params, *batch)))
            before = state
        done += len(x)
    return None


def where(objective: Objective, params: Any, x: Any, y: Any, weights: Any) -> tuple[str, str]:
    """What of a step is not finite, and which part of it is the first, as phrases.

    Args:
      objective: of the run.
      params: before the step.
      x, y, weights: of its batch, with a first axis of length 1.
    """
    x, y, weights = (None if array is None else jnp.asarray(array)[0] for array in (x, y, weights))
    if not np.isfinite(x).all():
        return "the loss", f"the inputs are the first that are not, for {_examples(x, weights)}"
    names = layer_names(params, objective.net)
    z = x
    for layer, name, of_layer in zip(layers_of(objective.trained_net) or (), names, params, strict=True):
        z, _ = layer.forward(of_layer, z)
        if not np.isfinite(z).all():
            return "the loss", f"the output of {name} is the first that is not, for {_examples(z, weights)}"
    losses = objective.loss.forward(z, y)
    if not np.isfinite(losses).all():
        return "the loss", f"all outputs are, the loss of {_examples(losses, weights)} is not"
    _, grads = objective.value_and_grad(params, x, y, weights)
    for name, of_layer in zip(reversed(names), reversed(grads), strict=True):
        if not all_finite(of_layer):
            return "a gradient", f"that of {name} is the first that is not"
    return "an update", "the loss and all gradients are"


def layer_names(params: Any, net: Any) -> list[str]:
    """'layer 1 (dense 64-256)', 'relu after layer 1', ...: what messages call the layers of a chain."""
    names, number = [], 0
    for layer, of_layer in zip(layers_of(net) or (), params, strict=True):
        if isinstance(of_layer, Dense):
            number += 1
            outputs, inputs = of_layer.W.shape
            names.append(f"layer {number} (dense {inputs}-{outputs})")
        else:
            names.append(f"{layer.name} after layer {number}")
    return names


def all_finite(tree: Any) -> bool:
    """Whether every number is."""
    return bool(_all_finite(tree))


@jax.jit
def _all_finite(tree):
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))


def _sound(before, after, metrics):
    """Whether steps made nothing that is not finite, and skipped nothing."""
    skipped = [updates.skipped(state.opt_state) for state in (before, after)]
    return skipped[0] == skipped[1] and all_finite((after.params, metrics))


def _examples(values, weights):
    """'2 of 32 examples', of those that are not finite; what fills up a batch does not count."""
    bad = ~np.isfinite(np.asarray(values)).reshape(len(values), -1).all(axis=1)
    real = np.ones_like(bad) if weights is None else np.asarray(weights) > 0
    return f"{(bad & real).sum()} of {real.sum()} examples"
