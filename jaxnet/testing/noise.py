"""By how much a result differs for no other reason than rounding.

A gradient may be a sum of terms that cancel: that of an attention's key bias is 0, whatever the terms. Then hand and
autodiff give two different roundings of 0, and their difference says nothing relative to either. What it is to be
measured by is the size of the terms times the type's last place, and autodiff shows that itself: by how much its own
result changes when what goes in is moved in the last place.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.testing.closeness import is_floating

# Units in the last place. All arguments are stretched alike, so that equal numbers stay equal and zeros stay zero, as
# at a tie of a maximum. Results on one side of the point are compared with one another, so that a threshold which is
# met exactly at the point makes no difference.
SIDES = ((1, 2, 3), (-1, -2, -3))


def rounding_noise(result: Callable[[Any, Any], Any], arguments: Any, dy: Any) -> Any:
    """By how much each leaf of `result(arguments, dy)` changes when arguments and dy move in the last place.

    Args:
      result: `(arguments, dy) -> pytree of arrays`, linear in dy.
      arguments, dy: pytrees of NumPy arrays.

    Returns:
      A number for each leaf: its largest change, the lower median over several moves.
    """
    rng = np.random.default_rng(0)

    def times(leaf, units):
        factor = 1 + units * float(jnp.finfo(leaf.dtype).eps)
        return (leaf.astype(np.float64) * factor).astype(leaf.dtype)

    def moved(units):
        stretched = jax.tree.map(lambda leaf: times(leaf, units) if is_floating(leaf) else leaf, arguments)
        return result(stretched, jax.tree.map(lambda leaf: times(leaf, rng.uniform(-2, 2, leaf.shape)), dy))

    def change(leaf, other):
        return float(np.abs(np.asarray(leaf, np.float64) - np.asarray(other, np.float64)).max(initial=0.0))

    changes = []
    for side in SIDES:
        pairs = itertools.combinations([moved(units) for units in side], 2)
        changes += [jax.tree.map(change, *pair) for pair in pairs]
    return jax.tree.map(lambda *leaf: sorted(np.nan_to_num(leaf))[(len(leaf) - 1) // 2], *changes)
