"""Where a layer is in a network: a walk that changes each layer, and tells it its place."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from jaxnet.layer import Layer, bind, draws


class Place(NamedTuple):
    """A layer where it is.

    Attributes:
      layer: as it is in the network, unchanged.
      path: which part it is of the layer around it, and that of the one around that, outermost first; () for the
        network itself.
    """

    layer: Layer
    path: tuple[int, ...]


def at_places(change: Callable[[Layer, Place], Layer], net: Layer, path: tuple[int, ...] = ()) -> Layer:
    """The same network with every layer changed, those made of others too.

    Args:
      change: `(layer, place) -> layer`; what it is given is made of changed layers already.
      net: the network, or the part of it at the path.
      path: of the net.
    """
    layer, place = net, Place(net, path)
    if net.made is not None:
        parts = (at_places(change, part, (*path, number)) for number, part in enumerate(net.made.args))
        layer = net.made.func(*parts, **net.made.keywords)
    changed = change(layer, place)
    if not draws(net):
        return changed
    # Bound again, or only in the rounds of a repeated layer: the change goes on to what `bind` makes of it.
    return changed._replace(keyed=lambda key: at_places(change, bind(net, key), path))


def places_of(net: Layer, path: tuple[int, ...] = ()) -> Iterator[Place]:
    """The network and all layers that it is made of, each before those that it is made of itself."""
    yield Place(net, path)
    for number, part in enumerate(net.made.args if net.made is not None else ()):
        yield from places_of(part, (*path, number))


def combinator_of(layer: Layer) -> str:
    """The name of the function that made a layer of others."""
    assert layer.made is not None
    return layer.made.func.__name__
