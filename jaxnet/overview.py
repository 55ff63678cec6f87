"""A network as a table: what each layer learns, puts out, and keeps in memory from forward to backward."""

import math
from typing import Any

import jax
from jaxtyping import Array, PyTree

from jaxnet.calls import PARAMETERS, Call, calls_of
from jaxnet.layer import Layer
from jaxnet.places import combinator_of

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def summary(net: Layer, params: Any, x: PyTree[Array | jax.ShapeDtypeStruct]) -> str:
    """A table of the network for these parameters and inputs: `print(jaxnet.summary(net, params, x))`.

    Nothing is computed: the network is traced. An array that two layers keep, such as an activation that the next layer
    takes as its input, is counted where it first appears. What layers are made of comes before them, and they have a
    row of their own where they put out or keep what that does not, or go through it in rounds.

    Args:
      net: any layer or network.
      params: as `net.init(key)` returns them, or their shapes as `jax.eval_shape(net.init, key)` does.
      x: (m, ...), or a `jax.ShapeDtypeStruct`.

    Returns:
      Lines of text: for each layer its place, parameters, output's shape, what it keeps for backward, and how many
      bytes that is; then the sums. In a repeated layer the output is that of one round, and all else that of all.
      Under `jax.jit` XLA may keep less, by computing some of it again.

    Example:
      >>> net = jn.mlp((3, 4, 1), jn.tanh)
      >>> print(jn.summary(net, net.init(key), jnp.ones((200, 3))))
      layer      parameters        count  output    keeps for backward   memory
      [0] dense  W (4, 3), b (4,)     16  (200, 4)  (200, 3)            2.3 KiB
      [1] tanh   -                     0  (200, 4)  (200, 4)            3.1 KiB
      [2] dense  W (1, 4), b (1,)      5  (200, 1)  (200, 4) of [1]         0 B
      total      84 B of float32      21                                5.5 KiB
    """
    calls = calls_of(net, params, x)
    rows = [("layer", "parameters", "count", "output", "keeps for backward", "memory")]
    rows += [_row(call, _rounds_inside(call, calls)) for call in calls if _tells_more(call, calls)]
    arrays = [array for _, array in _named(params)]
    dtypes = sorted({str(array.dtype) for array in arrays})
    learnt = f"{_bytes(arrays)}{' of ' if dtypes else ''}{', '.join(dtypes)}"
    count = sum(array.size for array in arrays)
    kept = [array for call in calls for array, owner in call.kept if owner is None]
    rows.append(("total", learnt, f"{count:,}", "", "", _bytes(kept)))
    return _columns(rows)


def shapes(tree: Any) -> str:
    """'(200, 4)', or those of several arrays."""
    return ", ".join(f"{array.shape}" for array in jax.tree.leaves(tree))


def _row(call, rounds):
    name, learnt, count = call.place.layer.name, "", 0
    if call.place.layer.made is not None:
        times = "".join(f", {number} times" for number in rounds)
        name = f"{combinator_of(call.place.layer)}{times}"
    else:
        arrays = [(array_name, call.copies + array.shape) for array_name, array in _named(call.params)]
        learnt = ", ".join(f"{array_name} {shape}".strip() for array_name, shape in arrays)
        count = sum(math.prod(shape) for _, shape in arrays)
    own = [f"{array.shape}" + (f" of {owner}" if owner else "") for array, owner in call.kept if owner != PARAMETERS]
    keeps = ", ".join([PARAMETERS, *own] if len(own) < len(call.kept) else own)
    new = _bytes([array for array, owner in call.kept if owner is None])
    return f"{call.index} {name}".strip(), learnt or "-", f"{count:,}", shapes(call.y), keeps or "-", new


def _tells_more(call, calls):
    """Whether a layer is made of no others, or is or does more than they: not so a chain."""
    if call.place.layer.made is None:
        return True
    inside = _inside(call, calls)
    ends = [part.y for part in inside] or [call.x]
    owns = [owner for _, owner in call.kept if owner != PARAMETERS]
    return bool(owns or _rounds_inside(call, calls) or call.y is not ends[-1])


def _rounds_inside(call, calls):
    """How often the layer goes through those inside it."""
    return max((part.rounds[len(call.rounds) :] for part in _inside(call, calls)), key=len, default=())


def _inside(call: Call, calls: list[Call]) -> list[Call]:
    return [part for part in calls if part.place.path and part.place.path[:-1] == call.place.path]


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
