"""By how much a result differs for no other reason than rounding.

A gradient may be a sum of terms that cancel: that of an attention's key bias is 0, whatever the terms. Then hand and
autodiff give two different roundings of 0, and their difference says nothing relative to either. What it is to be
measured by is the size of the terms times the type's last place, and autodiff shows that itself: by how much its own
result changes when what goes in is moved in the last place.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.testing.compare import is_floating

# Units in the last place. All arguments are stretched alike, so that equal numbers stay equal and zeros stay zero, as
# at a tie of a maximum; and both ways, so that a threshold which is met exactly is crossed by half of them.
STRETCHES = (1, -1, 2, -2, 3, -3)


def rounding_noise(result: Callable[[Any, Any], Any], arguments: Any, dy: Any) -> Any:
    """By how much each leaf of `result(arguments, dy)` changes when arguments and dy move in the last place.

    Args:
      result: `(arguments, dy) -> pytree of arrays`, linear in dy.
      arguments, dy: pytrees of NumPy arrays.

    Returns:
      A number for each leaf: its largest change, the lower median over several moves. The changes that a kink or a jump
      at the point itself makes on one of its sides are not among it.
    """
    rng = np.random.default_rng(0)
    base = result(arguments, dy)

    def times(leaf, units):
        factor = 1 + units * float(jnp.finfo(leaf.dtype).eps)
        return (leaf.astype(np.float64) * factor).astype(leaf.dtype)

    def stretch(units):
        return jax.tree.map(lambda leaf: times(leaf, units) if is_floating(leaf) else leaf, arguments)

    def change(leaf, at_base):
        return float(np.abs(np.asarray(leaf, np.float64) - np.asarray(at_base, np.float64)).max(initial=0.0))

    changes = []
    for units in STRETCHES:
        shaken = jax.tree.map(lambda leaf: times(leaf, rng.uniform(-2, 2, leaf.shape)), dy)
        changes.append(jax.tree.map(change, result(stretch(units), shaken), base))
    return jax.tree.map(lambda *leaf: sorted(np.nan_to_num(leaf))[(len(leaf) - 1) // 2], *changes)
