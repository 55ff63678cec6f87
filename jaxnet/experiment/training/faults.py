"""Numbers that are no longer finite: which step made them, and where in it they arose first.

The compiled loop only watches the losses. Where one is not finite, the epoch's steps are made again from its start, one
at a time, up to the first whose loss or new parameters are not finite; that one is then gone through operation by
operation: inputs, forward layer by layer, loss, gradients from the last layer to the first, update. Inside layers made
of others too, round by round: each layer notes whether its output is finite.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.experiment.console.errors import Failure
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.training import updates
from jaxnet.experiment.training.objective import Objective, copied
from jaxnet.notes import Noted, in_order, with_notes
from jaxnet.places import combinator_of
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
    bad = _not_finite(x)
    if bad.any():
        return "the loss", f"the inputs are the first that are not, for {_examples(bad, weights)}"
    net = with_notes(objective.trained_net, ahead=_not_finite)
    z, cache = net.forward(params, x)
    note, _ = net.backward(params, cache, jnp.zeros_like(z))
    _, grads = objective.value_and_grad(params, x, y, weights)
    noted = list(in_order(objective.net, note, params, grads))
    names = layer_names(noted)
    for name, of_layer in zip(names, noted, strict=True):
        if of_layer.ahead.any():
            told = f"the output of {name} is the first that is not, for {_examples(of_layer.ahead, weights)}"
            return "the loss", told
    bad = _not_finite(objective.loss.forward(z, y))
    if bad.any():
        return "the loss", f"all outputs are, the loss of {_examples(bad, weights)} is not"
    for name, of_layer in zip(reversed(names), reversed(noted), strict=True):
        if of_layer.place.layer.made is None and not all_finite(of_layer.trees[1]):
            return "a gradient", f"that of {name} is the first that is not"
    return "an update", "the loss and all gradients are"


def layer_names(noted: list[Noted]) -> list[str]:
    """'layer 1 (dense 64-256)', 'relu after layer 1', 'layer 2 (dense 8-8) in round 3 of repeat'.

    Args:
      noted: what the layers of a network noted, with its parameters as the first tree.
    """
    names: dict[tuple[int, ...], str] = {}
    number = 0
    for of_layer in noted:
        place = of_layer.place
        if place.path in names:
            continue
        name = place.layer.name if place.layer.made is None else combinator_of(place.layer)
        if any(of_layer.weights):
            number += 1
            names[place.path] = f"layer {number} ({name} {_sizes(of_layer)})"
        else:
            names[place.path] = f"{name} after layer {number}" if number else f"{name} before layer 1"
    return [names[of_layer.place.path] + _rounds(of_layer) for of_layer in noted]


def _sizes(of_layer):
    """'64-256' of a layer from 64 to 256 features."""
    arrays = zip(of_layer.weights, jax.tree.leaves(of_layer.trees[0]), strict=True)
    shape = next(array.shape for is_weight, array in arrays if is_weight)
    return "-".join(map(str, reversed(shape)))


def _rounds(of_layer):
    return "".join(f" in round {number} of {around}" for around, number in reversed(of_layer.rounds))


def all_finite(tree: Any) -> bool:
    """Whether every number is."""
    return bool(_all_finite(tree))


def not_finite(tree: Any) -> list[str]:
    """Where arrays of a pytree with numbers that are not finite are, as in "[0].W"."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    finite = jax.device_get(_each_finite(jax.tree.leaves(tree)))
    return [jax.tree_util.keystr(path) for path, sound in zip(paths, finite, strict=True) if not sound]


@jax.jit
def _all_finite(tree):
    return jnp.all(jnp.array(_each_finite(jax.tree.leaves(tree))))


# One program for all arrays: for each its own would take longer to compile than a checkpoint to write.
@jax.jit
def _each_finite(leaves):
    return [jnp.isfinite(leaf).all() for leaf in leaves]


def _sound(before, after, metrics):
    """Whether steps made nothing that is not finite, and skipped nothing."""
    skipped = [updates.skipped(state.opt_state) for state in (before, after)]
    return skipped[0] == skipped[1] and all_finite((after.params, metrics))


def _not_finite(values):
    """(m,): whether there is a number of the example that is not finite."""
    bad = [~jnp.isfinite(array) for array in jax.tree.leaves(values)]
    return jnp.stack([array.any(axis=tuple(range(1, array.ndim))) for array in bad]).any(axis=0)


def _examples(bad, weights):
    """'2 of 32 examples', of those that are not finite; what fills up a batch does not count."""
    bad = np.asarray(bad)
    real = np.ones_like(bad) if weights is None else np.asarray(weights) > 0
    return f"{(bad & real).sum()} of {real.sum()} examples"
