"""What layers note of themselves while signals pass, each at its place, in whatever network.

A layer with notes puts what it sees ahead beside its own cache, and sends back a note where its parameters' gradients
would be. So notes take the way that gradients take: scans stack them, recomputed layers make them anew.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnet.factored import Factored, map_leaves
from jaxnet.layer import Layer
from jaxnet.places import Place, at_places, combinator_of, places_of


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["mark", "ahead", "back", "inside"],
    meta_fields=["path", "weights", "ranks"],
)
@dataclass(frozen=True)
class Note:
    """What a layer sends back in place of its parameters' gradients.

    Attributes:
      mark: a scalar, with an axis for each scan that the layer was in.
      ahead, back: what was noted on the way forward, and on the way back.
      inside: what the layers that this one is made of sent back; () for a layer that is made of no others.
      path: of the layer's place.
      weights: of each array of the layer's parameters, whether it is a weight matrix; () for a layer made of others.
      ranks: how many axes each of them has in one round.
    """

    mark: Any
    ahead: Any
    back: Any
    inside: Any
    path: tuple[int, ...]
    weights: tuple[bool, ...]
    ranks: tuple[int, ...]

    def add(self, other: "Note | Notes") -> "Note | Notes":
        """The notes of layers that share their parameters; of one layer that is used twice, what both uses note."""
        if isinstance(other, Notes) or other.path != self.path:
            return Notes((self,)).add(other)
        fields = [(note.mark, note.ahead, note.back, note.inside) for note in (self, other)]
        mark, ahead, back, inside = map_leaves(_sum, *fields)
        return Note(mark, ahead, back, inside, self.path, self.weights, self.ranks)


@partial(jax.tree_util.register_dataclass, data_fields=["notes"], meta_fields=[])
@dataclass(frozen=True)
class Notes:
    """What the layers that share their parameters send back in the place of these."""

    notes: tuple[Note, ...]

    def add(self, other: "Note | Notes") -> "Notes":
        return Notes((*self.notes, *(other.notes if isinstance(other, Notes) else (other,))))


class Noted(NamedTuple):
    """What a layer noted, once for each round that it was gone through.

    Attributes:
      place: the layer's.
      rounds: the name of each layer around it that goes in rounds, and which round it was, from 1; outermost first.
      ahead, back, weights: as in `Note`.
      trees: of trees with the structure of the network's parameters, the part that is the layer's.
    """

    place: Place
    rounds: tuple[tuple[str, int], ...]
    ahead: Any
    back: Any
    weights: tuple[bool, ...]
    trees: tuple[Any, ...]


def with_notes(
    net: Layer,
    *,
    ahead: Callable[[Any], Any] = lambda y: (),
    back: Callable[[Layer, Any, Any, Any], Any] = lambda layer, params, cache, dy: (),
    around: Callable[[Any], Any] = lambda dy: (),
) -> Layer:
    """The same network, whose backward returns a `Note` in place of dparams.

    Args:
      net: any network.
      ahead: `(y) -> note` for the output of each layer, those made of others too.
      back: `(layer, params, cache, dy) -> note` for each layer that is made of no others.
      around: `(dy) -> note` for each layer that is made of others, of what comes back to it.
    """

    def noting(layer, place):
        def forward(params, x):
            y, cache = layer.forward(params, x)
            return y, (cache, ahead(y))

        def backward(params, cache, dy):
            cache, of_y = cache
            dparams, dx = layer.backward(params, cache, dy)
            mark, ranks = jnp.zeros(()), tuple(map(jnp.ndim, jax.tree.leaves(params)))
            if place.layer.made is not None:
                return Note(mark, of_y, around(dy), dparams, place.path, (), ranks), dx
            weights = tuple(form.sides is not None for form in jax.tree.leaves(dparams, is_leaf=_is_form))
            return Note(mark, of_y, back(layer, params, cache, dy), (), place.path, weights, ranks), dx

        forward.__name__ = f"{layer.name}_forward"
        return layer._replace(forward=forward, backward=backward)

    return at_places(noting, net)


def in_order(net: Layer, note: Note, *trees: Any) -> Iterator[Noted]:
    """What the layers noted, in the order of forward: round by round, and a layer after those that it is made of.

    Args:
      net: the network.
      note: what the backward of `with_notes(net)` returned.
      trees: with the structure of the network's parameters.
    """
    places = {place.path: place for place in places_of(net)}
    return _side_by_side(places, [(note, trees)], ())


def _sum(part, other):
    return part.add(other) if hasattr(part, "add") else part + other


def _is_form(leaf):
    return isinstance(leaf, Factored)


def _side_by_side(places, pairs, rounds):
    """Of the layers that one is made of; where it goes through them in rounds, all of a round before the next."""
    lengths = {note.mark.shape[:1] for note, _ in pairs}
    if len(lengths) == 1 and (length := lengths.pop()):
        around = combinator_of(places[pairs[0][0].path[:-1]].layer)
        for number in range(*length):
            of_round = [_of_round(number, *pair) for pair in pairs]
            yield from _side_by_side(places, of_round, (*rounds, (around, number + 1)))
        return
    for note, trees in pairs:
        if note.mark.ndim:
            yield from _side_by_side(places, [(note, trees)], rounds)
            continue
        place = places[note.path]
        if place.layer.made is not None:
            yield from _side_by_side(places, _parts(note, trees), rounds)
        yield Noted(place, rounds, note.ahead, note.back, note.weights, trees)


def _of_round(number, note, trees):
    """The note of one round, and its part of the trees; what all rounds share is all theirs."""

    def part(tree):
        structure: Any
        arrays, structure = jax.tree.flatten(tree)
        ranked = zip(arrays, note.ranks, strict=True)
        return structure.unflatten([array[number] if jnp.ndim(array) > rank else array for array, rank in ranked])

    return jax.tree.map(lambda array: array[number], note), tuple(map(part, trees))


def _parts(note: Note, trees: Sequence[Any]) -> list[tuple[Note, tuple[Any, ...]]]:
    """The notes inside a layer's, with their parts of the trees: dparams has the structure of params."""

    def is_note(part):
        return isinstance(part, Note | Notes)

    structure: Any
    at_parts, structure = jax.tree.flatten(note.inside, is_leaf=is_note)
    parts = zip(*map(structure.flatten_up_to, trees), strict=True) if trees else [()] * len(at_parts)
    pairs = zip(at_parts, parts, strict=True)
    each = [(one, part) for at_part, part in pairs for one in getattr(at_part, "notes", (at_part,))]
    return sorted(each, key=lambda pair: pair[0].path)
