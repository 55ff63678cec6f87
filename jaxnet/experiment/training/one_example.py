"""What one example does on its way through a network and back: what each layer puts out, and what comes back to it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnet import per_example
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.notes import in_order, with_notes
from jaxnet.places import combinator_of


class Parameter(NamedTuple):
    """One of a layer's arrays, and the gradient of the example's loss."""

    name: str
    value: np.ndarray
    gradient: np.ndarray


class Passed(NamedTuple):
    """A layer that the signal passed.

    Attributes:
      name: of the layer; of a combinator that adds, or does else what its layers do not, that of the combinator.
      rounds: as in `notes.Noted`.
      y: what it puts out, one array or several, without the axis of examples.
      dy: the loss's derivative by each; None for integers.
      parameters: of a layer that is made of no others.
    """

    name: str
    rounds: tuple[tuple[str, int], ...]
    y: tuple[np.ndarray, ...]
    dy: tuple[np.ndarray | None, ...]
    parameters: tuple[Parameter, ...]


class Way(NamedTuple):
    """All of it.

    Attributes:
      x: the input.
      layers: in the order of forward.
      z: the network's output.
      loss: of the example.
      dx: the loss's derivative by the input; None of integers.
    """

    x: np.ndarray
    layers: tuple[Passed, ...]
    z: np.ndarray
    loss: float
    dx: np.ndarray | None


def way_of(net: Layer, loss: Loss, params: PyTree[Any], x: np.ndarray, y: np.ndarray) -> Way:
    """The way of one example, by the network's own forward and backward, in the type of its parameters.

    Args:
      net, loss: without what is drawn in training.
      params: of the network.
      x, y: one example (1, ...) and its target as the loss takes it.
    """

    def gradients(layer, params, cache, dy):
        dparams, _ = layer.backward(params, cache, dy)
        # Of one example the mean is its own.
        return dy, per_example.mean(dparams)

    noting = with_notes(net, ahead=lambda y: y, back=gradients, around=lambda dy: (dy, ()))

    places: list[Any] = []

    @jax.jit
    def passes(params, x, y):
        z, cache = noting.forward(params, x)
        note, dx = noting.backward(params, cache, loss.backward(z, y))
        noted = list(in_order(net, note, params))
        places[:] = [(of.place.layer, of.rounds) for of in noted]
        return [(of.ahead, of.back, of.trees) for of in noted], z, loss.forward(z, y), dx

    noted, z, value, dx = jax.device_get(passes(params, jnp.asarray(x), y))
    layers: list[Passed] = []
    for (layer, rounds), (of_y, (dy, grads), (own,)) in zip(places, noted, strict=True):
        passed = _passed(layer, rounds, of_y, dy, own, grads)
        if layer.made is None or _is_new(passed, layers):
            layers.append(passed)
    return Way(np.asarray(x)[0], tuple(layers), z[0], float(value[0]), None if dx is None else dx[0])


def _passed(layer, rounds, y, dy, params, grads):
    if layer.made is not None:
        return Passed(combinator_of(layer), rounds, _arrays(y), _arrays(dy), ())
    named, _ = jax.tree_util.tree_flatten_with_path(params)
    names = (jax.tree_util.keystr(path, simple=True, separator=".") or "parameters" for path, _ in named)
    values = (np.asarray(value) for _, value in named)
    arrays = zip(names, values, map(np.asarray, jax.tree.leaves(grads)), strict=True)
    return Passed(layer.name, rounds, _arrays(y), _arrays(dy), tuple(Parameter(*of) for of in arrays))


def _arrays(tree):
    """Of the one example; what has no derivative is None."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None)
    return tuple(None if leaf is None else np.asarray(leaf)[0] for leaf in leaves)


def _is_new(passed, layers):
    """Whether a combinator puts out what none of the layers before it does: a chain does not."""
    before = [array for layer in layers for array in layer.y]
    return not all(any(np.array_equal(array, other) for other in before) for array in passed.y)
