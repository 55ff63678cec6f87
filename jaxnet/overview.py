"""A network as a table: what each layer learns, puts out, and keeps in memory from forward to backward."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from jaxnet.compose import inner_of, layers_of
from jaxnet.layer import Layer

PARAMETERS = "the parameters"
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Leaf(NamedTuple):
    """A layer that is not made of layers, or the sum at the end of a residual layer, for which layer is None.

    Attributes:
      place: '[2]', or '[1][0]' in a chain within a chain.
      layer, params: None and () for the sum.
      bypass: for the sum, the place where its residual layer begins, as the number of leaves before it.
    """

    place: str
    layer: Layer | None
    params: Any
    bypass: int | None = None


def leaves(net: Layer, params: Any) -> tuple[Leaf, ...]:
    """The layers in the order of forward, with chains and residual layers taken apart."""
    found: list[Leaf] = []
    _take_apart(net, params, "", found)
    return tuple(found)


def summary(net: Layer, params: Any, x: Array | jax.ShapeDtypeStruct) -> str:
    """A table of the network for these parameters and inputs: `print(jaxnet.summary(net, params, x))`.

    Nothing is computed: the network is traced. An array that two layers keep, such as an activation that the next layer
    takes as its input, is counted where it first appears.

    Args:
      net: any layer or network.
      params: as `net.init(key)` returns them, or their shapes as `jax.eval_shape(net.init, key)` does.
      x: (m, ...), or a `jax.ShapeDtypeStruct`.

    Returns:
      Lines of text: for each layer its place, parameters, output's shape, what it keeps for backward, and how many
      bytes that is; then the sums. Under `jax.jit` XLA may keep less, by computing some of it again.
    """
    found = leaves(net, params)
    kept, traced = _trace(found, params, x)
    rows = [("layer", "parameters", "count", "output", "keeps for backward", "memory")]
    for leaf, (y, cache) in zip(found, traced, strict=True):
        new = [array for array, owner in cache if owner is None]
        own = [f"{array.shape}" + (f" of {owner}" if owner else "") for array, owner in cache if owner != PARAMETERS]
        keeps = ", ".join([PARAMETERS, *own] if len(own) < len(cache) else own)
        name = leaf.layer.name if leaf.layer else "x + f(x)"
        arrays = _named(leaf.params)
        learnt = ", ".join(f"{name} {array.shape}" for name, array in arrays)
        count = sum(array.size for _, array in arrays)
        rows.append(
            (f"{leaf.place} {name}".strip(), learnt or "-", f"{count:,}", f"{y.shape}", keeps or "-", _bytes(new))
        )
    arrays = [array for _, array in _named(params)]
    count, dtypes = sum(array.size for array in arrays), sorted({str(array.dtype) for array in arrays})
    rows.append(
        ("total", f"{_bytes(arrays)}{' of ' if dtypes else ''}{', '.join(dtypes)}", f"{count:,}", "", "", _bytes(kept))
    )
    return _columns(rows)


def _take_apart(layer, params, place, found):
    layers, inner = layers_of(layer), inner_of(layer)
    if layers is not None:
        for position, (each, its_params) in enumerate(zip(layers, params, strict=True)):
            _take_apart(each, its_params, f"{place}[{position}]", found)
    elif inner is not None:
        start = len(found)
        _take_apart(inner, params, place, found)
        found.append(Leaf(place, None, (), bypass=start))
    else:
        found.append(Leaf(place, layer, params))


def _trace(found, params, x):
    """Every array that is kept, once; and for each leaf its output, and its cache's arrays with whose they are."""

    def walk(all_params, x):
        edges, caches = [x], []
        for leaf, its_params in zip(found, all_params, strict=True):
            if leaf.layer is None:
                edges.append(edges[leaf.bypass] + edges[-1])
                caches.append(())
            else:
                y, cache = leaf.layer.forward(its_params, edges[-1])
                edges.append(y)
                caches.append(cache)
        return edges, caches

    jaxpr, (edges, caches) = jax.make_jaxpr(walk, return_shape=True)([leaf.params for leaf in found], x)
    variables = map(id, jaxpr.jaxpr.outvars[len(edges) :])
    inputs = dict(zip(map(id, jaxpr.jaxpr.invars), _owners(found), strict=True))
    owners: dict[int, str] = {}
    kept, traced = [], []
    for leaf, y, cache in zip(found, edges[1:], caches, strict=True):
        arrays: list[tuple[Any, str | None]] = []
        for array in jax.tree.leaves(cache):
            variable = next(variables)
            owner = owners.get(variable) or inputs.get(variable)
            if owner in (None, "x") and variable not in owners:
                kept.append(array)
                arrays.append((array, None))
            else:
                arrays.append((array, owner))
            owners.setdefault(variable, leaf.place)
        traced.append((y, arrays))
    return kept, traced


def _owners(found) -> Iterator[str]:
    """Whose the inputs of the traced function are: a parameter is kept anyway, x is not."""
    for leaf in found:
        yield from (PARAMETERS for _ in jax.tree.leaves(leaf.params))
    yield "x"


def _named(params):
    """Each array with its name: 'W' and 'b' of a dense layer."""
    named, _ = jax.tree_util.tree_flatten_with_path(params)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), array) for path, array in named]


def _bytes(arrays):
    size = float(sum(array.size * array.dtype.itemsize for array in arrays))
    power = 0
    while size >= 1024 and power < len(UNITS) - 1:
        size, power = size / 1024, power + 1
    return f"{size:.1f} {UNITS[power]}" if power else f"{size:.0f} B"


def _columns(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # Numbers to the right, all else to the left.
    alike = (str.ljust, str.ljust, str.rjust, str.ljust, str.ljust, str.rjust)
    lines = (
        "  ".join(place(cell, width) for place, cell, width in zip(alike, row, widths, strict=True)) for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
