"""Straight from the network's output to each of its layers."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
from jaxtyping import Array, PyTree

from jaxnet.arguments import instance_of
from jaxnet.feedback.other_weights import Backward
from jaxnet.layer import Layer, at_leaves
from jaxnet.parameters import structure_by_layer


def direct_weights(net: Layer, params: PyTree[Any], x: Array | jax.ShapeDtypeStruct, key: jax.Array) -> PyTree[Array]:
    """Random feedback weights for `direct`: from the network's outputs straight to the inputs of each layer.

    Args:
      net: any network of layers and combinators; its layers with parameters each take one array.
      params: its parameters.
      x: inputs, or their shapes (`jax.ShapeDtypeStruct`).
      key: of the draws.

    Returns:
      The structure of the parameters, but for each layer that is made of no others one B (outputs of the network,
      features of the layer's input), from N(0, 1 / outputs); () where the layer has no parameters, and where the
      network's input comes to it through layers without any. Those of a repeated layer have a leading axis, as its
      parameters have; the first of them has a B too, since the others come after it.

    Raises:
      ValueError: when a layer that needs a B takes several arrays, or has another layer's parameters, as by `tied`.

    Example:
      >>> weights = jn.feedback.direct_weights(net, params, x, key)
      >>> jax.tree.map(jnp.shape, weights)
      ((), (), (2, 4))
    """
    instance_of(Layer, "feedback.direct_weights", "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")
    # What nothing that learns has touched.
    untouched: list[Any] = []
    # Which layers need a B, and which have a place for it.
    needed, drawn_for = {}, set()

    def drawing(layer):
        """The layer, whose forward notes how many features it takes, and whose init then draws B."""
        features = []

        def forward(params, x):
            y, cache = layer.forward(params, x)
            arrays, learns = jax.tree.leaves(x), bool(jax.tree.leaves(params))
            if all(any(array is one for one in untouched) for array in arrays):
                untouched.extend([] if learns else jax.tree.leaves(y))
            elif learns:
                features.append(_single(layer, arrays).shape[-1])
                needed[id(features)] = layer.name
            return y, cache

        def init(key):
            drawn_for.add(id(features))
            if not features:
                return ()
            shape = (outputs.shape[-1], features[-1])
            return jax.random.normal(key, shape, outputs.dtype) / shape[0] ** 0.5

        return layer._replace(init=init, forward=forward)

    drawn = at_leaves(drawing, net)

    def apply(params, x):
        untouched.extend(jax.tree.leaves(x))
        y = drawn.apply(params, x)
        untouched.clear()
        return y

    outputs = jax.eval_shape(apply, params, x)
    weights = drawn.init(key)
    for name in (name for number, name in needed.items() if number not in drawn_for):
        raise ValueError(
            f"feedback.direct_weights: expected layers with parameters of their own, got {name} with another layer's"
        )
    return weights


def direct(net: Layer, weights: PyTree[Array]) -> Backward:
    """Direct feedback alignment: each layer hears from the output itself, dx = e B in place of dz W.

    e is the signal at the network's output. Between two layers with parameters the signal passes activations, and what
    comes back on several paths adds up, as ever.

    Args:
      net: any network of layers and combinators.
      weights: as `direct_weights` draws them.

    Returns:
      `(params, cache, dy) -> (dparams, dx)`.

    Raises:
      ValueError: when the weights are another network's; when traced, naming a layer whose input has other positions
        than the network's output.

    Source: Nokland, Direct feedback alignment provides learning in deep neural networks, 2016.

    Example:
      >>> backward = jn.feedback.direct(net, jn.feedback.direct_weights(net, params, x, key))
      >>> J, update = jn.value_and_grad(net, loss, backward=backward)(params, x, y)
      >>> jax.tree.map(jnp.shape, update[0])
      Dense(W=(4, 3), b=(4,))
    """
    instance_of(Layer, "feedback.direct", "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")
    structure, directed = structure_by_layer(net), at_leaves(_directed, net)
    try:
        of_layers = structure.flatten_up_to(weights)
    except ValueError:
        raise ValueError(f"feedback.direct: expected weights as direct_weights draws them for {net!r}") from None

    def backward(params, cache, dy):
        # B goes where the parameters go: into a repeated layer's scan with those of each round.
        pairs = structure.unflatten(zip(structure.flatten_up_to(params), of_layers, strict=True))
        dparams, signal = directed.backward(pairs, cache, _with_error(dy, dy))
        return dparams, _alone(signal)

    return backward


@partial(jax.tree_util.register_dataclass, data_fields=["dy", "error"], meta_fields=[])
@dataclass(frozen=True)
class _Signal:
    """A signal that has the error at the output aboard, which is the same on every path."""

    dy: Any
    error: Any
    asked_by: ClassVar[str] = "feedback.direct"
    instead: ClassVar[str] = "feedback.alignment"

    def __add__(self, other):
        return replace(self, dy=self.dy + other.dy)


def _is_signal(part):
    return isinstance(part, _Signal)


def _with_error(dy, error):
    return jax.tree.map(lambda part: _Signal(part, error), dy)


def _alone(signal):
    return jax.tree.map(lambda part: part.dy, signal, is_leaf=_is_signal)


def _directed(layer):
    """The layer, whose parameters come with B, and which sends e B on."""

    def backward(params_and_weights, cache, signal):
        params, B = params_and_weights
        error = jax.tree.leaves(signal, is_leaf=_is_signal)[0].error
        dparams, dx = layer.backward(params, cache, _alone(signal))
        if not isinstance(B, tuple):
            dx = _of_shape(dx.shape, error @ B, layer)
        return dparams, _with_error(dx, error)

    return layer._replace(backward=backward)


def _of_shape(shape, from_error, layer):
    if from_error.shape != shape:
        raise ValueError(
            f"feedback.direct: expected an error at the output for each position of the input of {layer.name}, "
            f"{shape}, got e B of shape {from_error.shape}"
        )
    return from_error


def _single(layer, arrays):
    if len(arrays) != 1:
        raise ValueError(f"feedback.direct_weights: expected {layer.name} to take one array, got {len(arrays)}")
    return arrays[0]
