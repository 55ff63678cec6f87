"""What the parameters of a network are: which of them are weights, and which belong to one layer.

Neither is told by a shape or a name. A (t, d) table of positions has a weight's shape, and so has a stack of gains; but
their gradients take another form. So the backward pass is asked, with shapes alone: nothing is computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxnet.factored import Rows, map_leaves
from jaxnet.layer import Layer, at_leaves


@dataclass(frozen=True)
class Sides:
    """What a parameter is: a weight, which maps inputs to outputs, or anything else, such as a bias, a gain, a table.

    Attributes:
      outputs, inputs: the axes of a weight; axes before both count weights that are stacked. None for anything else.
    """

    outputs: int | None = None
    inputs: int | None = None

    @property
    def is_weight(self) -> bool:
        """Whether the parameter is a weight."""
        return self.outputs is not None


def sides_of(net: Layer, params: PyTree[Any], x: PyTree[Any]) -> PyTree[Sides]:
    """What each parameter of a network is.

    Args:
      net: any network.
      params, x: its parameters and inputs, or their shapes (`jax.ShapeDtypeStruct`).

    Returns:
      The structure of the parameters, `Sides` at each. `jax.tree.map(lambda sides: sides.is_weight, ...)` makes of it
      what optax takes as a mask of weight decay.
    """

    def read(params, x):
        # The signal that goes back has the shape of y, and nothing else of it counts.
        y, cache = net.forward(params, x)
        return _sides(net.backward(params, cache, y))

    # Without their places on a mesh, on which nothing here depends.
    return _traced(read, *jax.tree.map(_shape, (params, x)))


def sides_on_the_way_back(net: Layer, params: PyTree[Any], cache: Any, dy: PyTree[Array]) -> PyTree[Sides]:
    """As `sides_of`, for who has what `net.backward` takes, and no inputs."""
    return _traced(lambda dy: _sides(net.backward(params, cache, dy)), dy)


def structure_by_layer(net: Layer) -> jax.tree_util.PyTreeDef:
    """The parameters' structure down to the layers that are made of no others, each of which is one leaf.

    `structure_by_layer(net).flatten_up_to(params)` is a list of each layer's parameters, and `unflatten` undoes it.
    """

    def one_leaf(layer):
        return layer._replace(init=lambda key: jnp.zeros(()))

    return jax.tree.structure(jax.eval_shape(at_leaves(one_leaf, net).init, jax.random.key(0)))


@partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["number"])
@dataclass(frozen=True)
class _Numbered:
    """A layer's parameters, which say whose they are wherever a combinator takes them."""

    params: Any
    number: int


def seen_by_layer(net: Layer, params: PyTree[Any], x: PyTree[Any]) -> list[PyTree[Any]]:
    """What each layer that is made of no others is given, in the order of `structure_by_layer`.

    Layers that see the very same thing, as those that make queries, keys and values, have it here: `is` tells. Of a
    layer that is used several times it is what its first use sees.

    Args:
      net: any network.
      params, x: its parameters and inputs, or their shapes.
    """
    structure = structure_by_layer(net)
    seen: dict[int, Any] = {}

    def noted(layer):
        def forward(numbered, x):
            seen.setdefault(numbered.number, x)
            return layer.forward(numbered.params, x)

        return layer._replace(forward=forward)

    numbered = structure.unflatten([_Numbered(one, k) for k, one in enumerate(structure.flatten_up_to(params))])
    jax.eval_shape(at_leaves(noted, net).forward, *jax.tree.map(_shape, (numbered, x)))
    return [seen[number] for number in range(structure.num_leaves)]


def tables_of(net: Layer) -> PyTree[bool]:
    """Which parameters are tables whose rows are looked up by ids, as those of `embedding`, for who has no inputs.

    Each layer that is made of no others is asked by itself, with an id. What takes none has no such table.
    """

    def flags(layer, key):
        params = layer.init(key)
        return jax.tree.map(lambda is_table: jnp.zeros((), bool if is_table else float), _is_table(layer, params))

    # A scan that stacks them leaves their type as it is.
    def flagged(layer):
        return layer._replace(init=partial(flags, layer))

    marks = jax.eval_shape(at_leaves(flagged, net).init, jax.random.key(0))
    return jax.tree.map(lambda mark: mark.dtype == bool, marks)


def _is_table(layer, params):
    ids = jnp.zeros((1, 1), int)
    try:
        y, cache = layer.forward(params, ids)
        dparams, _ = layer.backward(params, cache, y)
        return map_leaves(lambda form: isinstance(form, Rows), dparams)
    except Exception:
        # Of its own kind in each layer: another type, another shape, a tuple.
        return jax.tree.map(lambda leaf: False, params)


def _sides(returned):
    dparams, _ = returned
    return map_leaves(lambda form: Sides(*(form.sides or ())), dparams)


def _traced(read: Callable[..., Any], *shapes: Any) -> Any:
    """What `read` returns, which need not be arrays, of shapes alone."""
    results: list[Any] = []
    jax.eval_shape(lambda *arrays: results.append(read(*arrays)), *shapes)
    return results[-1]


def _shape(leaf):
    return jax.ShapeDtypeStruct(jnp.shape(leaf), leaf.dtype)
