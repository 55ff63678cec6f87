"""The forward passes of all layers of a network, traced: what flows through them, and what each keeps for backward.

The network's cache tells who keeps what: each layer's part of it is marked, and is what is left of it after all the
layers around it had it in their hands: stacked by a scan, dropped where it is computed again.
"""

import math
import operator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnet.places import Place, at_places

PARAMETERS = "the parameters"


@dataclass
class Call:
    """A layer's forward pass.

    Attributes:
      place: of the layer.
      params, x, y: what it was given, and what it returned: of one round, where it goes in rounds.
      index: that of its parameters in the network's: '[1][0]'.
      rounds: for each scan around the layer, innermost last, how often it goes round.
      copies: those of its rounds for which it has parameters of their own.
      keeps: whether there is anything left of its cache.
      kept: the arrays of the cache that no layer inside this one keeps, for all rounds, and whose they are: None for
        its own, else the index of a layer that keeps the same array, or `PARAMETERS`.
    """

    place: Place
    params: Any
    x: Any
    y: Any
    index: str = ""
    rounds: tuple[int, ...] = ()
    copies: tuple[int, ...] = ()
    keeps: bool = False
    kept: list[tuple[Any, str | None]] = field(default_factory=list)


@partial(jax.tree_util.register_dataclass, data_fields=["mark", "cache"], meta_fields=["number"])
@dataclass(frozen=True)
class _Kept:
    """The cache of the call of that number, with a scalar to which each scan gives an axis."""

    mark: Any
    cache: Any
    number: int


def calls_of(net: Any, params: Any, x: Any) -> list[Call]:
    """The calls of a network's layers in the order of forward, that of a layer after those inside it.

    Args:
      net: any layer or network.
      params, x: arrays or their shapes: nothing is computed.
    """
    calls: list[Call] = []

    def noting(layer, place):
        def forward(params, x):
            y, cache = layer.forward(params, x)
            calls.append(Call(place, params, x, y))
            return y, _Kept(jnp.zeros(()), cache, len(calls) - 1)

        forward.__name__ = f"{layer.name}_forward"
        return layer._replace(forward=forward)

    traced, (y, kept) = jax.make_jaxpr(at_places(noting, net).forward, return_shape=True)(params, x)
    _tell_indices(calls)
    variables = map(id, traced.jaxpr.outvars[len(jax.tree.leaves(y)) :])
    parameters = map(id, traced.jaxpr.invars[: len(jax.tree.leaves(params))])
    _share_out(kept, calls, variables, dict.fromkeys(parameters, PARAMETERS))
    _tell_rounds(calls)
    # A scan may have traced some in vain.
    lasting = {call.place.path for call in calls if call.keeps}
    return [call for call in calls if call.keeps or call.place.path not in lasting]


def _share_out(kept, calls, variables, owners):
    """Tells each call what is its own of the network's whole cache."""
    call = calls[kept.number]
    call.keeps, call.rounds = True, kept.mark.shape
    next(variables)
    for part in jax.tree.leaves(kept.cache, is_leaf=lambda part: isinstance(part, _Kept)):
        if isinstance(part, _Kept):
            _share_out(part, calls, variables, owners)
        else:
            variable = next(variables)
            call.kept.append((part, owners.get(variable)))
            owners.setdefault(variable, call.index)


def _tell_indices(calls):
    """Parts are counted, as the layers of a chain are; but the only part may have the parameters of the whole.

    A part that has the parameters of an earlier one has its index.
    """
    by_path = {call.place.path: call for call in calls}
    for path in sorted(by_path):
        if path:
            call, around = by_path[path], by_path[path[:-1]]
            same = len(around.place.layer.made.args) == 1 and _same_structure(call.params, around.params)
            earlier = (by_path[(*path[:-1], number)] for number in range(path[-1]) if (*path[:-1], number) in by_path)
            twin = next((other for other in earlier if _same_arrays(call.params, other.params)), None)
            call.index = twin.index if twin else around.index + ("" if same else f"[{path[-1]}]")
    for call in calls:
        call.index = by_path[call.place.path].index


def _tell_rounds(calls):
    """What is computed again is so in the rounds of the layer around it; parameters are one layer's or all rounds'."""
    by_path = {call.place.path: call for call in sorted(calls, key=lambda call: call.keeps)}
    for path in sorted(by_path):
        if path:
            call, around = by_path[path], by_path[path[:-1]]
            call.rounds = call.rounds or around.rounds
            more = call.rounds[len(around.rounds) :]
            parts = {p: part for p, part in by_path.items() if p and p[:-1] == path[:-1]}
            once = sum(size_of(part.params) for part in parts.values())
            call.copies = around.copies + (more if size_of(around.params) == math.prod(more) * once else ())


def size_of(tree: Any) -> int:
    """How many numbers there are in arrays."""
    return sum(math.prod(array.shape) for array in jax.tree.leaves(tree))


def _same_structure(tree, other):
    of_tree: Any = jax.tree.structure(tree)
    return of_tree == jax.tree.structure(other)


def _same_arrays(tree, other):
    arrays, of_other = jax.tree.leaves(tree), jax.tree.leaves(other)
    return bool(arrays) and len(arrays) == len(of_other) and all(map(operator.is_, arrays, of_other))
