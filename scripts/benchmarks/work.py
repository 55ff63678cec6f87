"""What each layer of a network is given, keeps, computes and looks at, by shapes alone: nothing is held or computed."""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
from jax.extend.core import jaxprs_in_params
from jax.interpreters import partial_eval

from jaxnet.layer import Layer
from jaxnet.per_example import mean


class Use(NamedTuple):
    """A layer, made of no others, where a network has it.

    Attributes:
      params: its parameters' places among the leaves of the network's.
      times: how often, each time with parameters of its own, as `repeat` has it.
      x, y: shapes of what it is given and returns.
      first: whether it sees the network's input, back to which nothing is sent.
      kept: bytes that it keeps, backward looks at, and no layer before it keeps, each time.
      products: multiplications and additions in the products of forward and backward, each time.
      seen: of the parameters, those that backward looks at.
    """

    params: tuple[int, ...]
    times: int
    x: Any
    y: Any
    first: bool
    kept: int
    products: int
    seen: tuple[int, ...]


@partial(jax.tree_util.register_dataclass, data_fields=["array"], meta_fields=["place"])
@dataclass(frozen=True)
class _Placed:
    """A parameter that says which of the network's leaves it is, wherever a combinator takes it."""

    array: Any
    place: int


@lru_cache(maxsize=8)
def uses_of(net: Layer, x: Any) -> tuple[Use, ...]:
    """Every layer of a network, in the order of forward.

    Args:
      net: any network, without `recompute`, which keeps other things.
      x: the shapes of its inputs.
    """
    structure: Any
    leaves, structure = jax.tree.flatten(jax.eval_shape(net.init, jax.random.key(0)))
    params = structure.unflatten([_Placed(leaf, place) for place, leaf in enumerate(leaves)])
    notes = _Notes({}, [], [])
    noting = _noting(net, 1, notes)

    def forward(params, x):
        notes.inputs.extend(jax.tree.leaves(x))
        return noting.forward(params, x)

    jax.eval_shape(forward, params, x)
    return tuple(use for use in notes.found.values() if use is not None)


class _Notes(NamedTuple):
    """What layers wrote so far, by their position; the network's inputs; and the arrays that are kept."""

    found: dict[int, Use | None]
    inputs: list[Any]
    kept: list[Any]


def _noting(net, times, notes):
    """The network, whose layers note what they are given; those made of others are made again."""
    if net.made is not None:
        # Only `repeat` has rounds.
        rounds = net.made.keywords.get("n", 1)
        parts = [_noting(part, times * rounds, notes) for part in net.made.args]
        return net.made.func(*parts, **net.made.keywords)
    position = len(notes.found)
    notes.found[position] = None

    def forward(placed, x):
        held = jax.tree.leaves(placed, is_leaf=_is_placed)
        params = jax.tree.map(lambda one: one.array, placed, is_leaf=_is_placed)
        y, cache = net.forward(params, x)
        first = any(leaf is one for leaf in jax.tree.leaves(x) for one in notes.inputs)
        shapes = jax.tree.map(_shape, (params, x, cache, y))
        seen, read = _looked_at(net, *shapes)
        # One and the same array is kept once, whoever asks for it; of parameters there is one anyway.
        known = [*notes.kept, *(leaf.array for leaf in held)]
        looked_at = itertools.compress(jax.tree.leaves(cache), read)
        new = [leaf for leaf in looked_at if not any(leaf is other for other in known)]
        notes.kept.extend(new)
        # A scan may ask a layer twice.
        notes.found[position] = Use(
            params=tuple(leaf.place for leaf in held),
            times=times,
            x=shapes[1],
            y=shapes[3],
            first=first,
            kept=sum(leaf.size * leaf.dtype.itemsize for leaf in new),
            products=_products(net, first, *shapes),
            seen=tuple(leaf.place for leaf in itertools.compress(held, seen)),
        )
        return y, cache

    return net._replace(forward=forward)


def _is_placed(part):
    return isinstance(part, _Placed)


def _shape(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _products(layer, first, params, x, cache, y):
    """Of forward, of the parameters' mean gradient, and of what goes back where something does."""

    def both(params, x, dy):
        y, cache = layer.forward(params, x)
        dparams, dx = layer.backward(params, cache, dy)
        return y, mean(dparams), None if first else dx

    return _counted(_needed(jax.make_jaxpr(both)(params, x, y).jaxpr)[0])


def _looked_at(layer, params, x, cache, y):
    """Whether backward, with the gradients formed, looks at each parameter, and at each part of the cache."""

    def back(params, cache, dy):
        dparams, dx = layer.backward(params, cache, dy)
        return mean(dparams), dx

    _, used = _needed(jax.make_jaxpr(back)(params, cache, y).jaxpr)
    parameters = len(jax.tree.leaves(params))
    return used[:parameters], used[parameters : parameters + len(jax.tree.leaves(cache))]


def _needed(jaxpr):
    """The program without what nobody needs, and which of its inputs it uses."""
    return partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))


def _counted(jaxpr):
    """Operations of all products in a program, in scans as often as they are done."""
    total = 0
    for equation in jaxpr.eqns:
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        within = [_counted(inner) for inner in jaxprs_in_params(equation.params)]
        # Of branches one is taken, such as that of the platform.
        total += max(within, default=0) if equation.primitive.name == "cond" else times * sum(within)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, out = equation.invars[0].aval, equation.outvars[0].aval
            total += 2 * math.prod(out.shape) * math.prod(left.shape[axis] for axis in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            window, out = equation.invars[1].aval, equation.outvars[0].aval
            outputs = window.shape[equation.params["dimension_numbers"].rhs_spec[0]]
            total += 2 * math.prod(out.shape) * math.prod(window.shape) // outputs
    return total
