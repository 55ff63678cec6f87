"""How a layer's backward changes with its input, where each number of the output depends on several of the input.

For f = sum_k dy_k y_k of one example, a `Bend` is d2f/dx2 as a sum of columns with weights of either sign,

    d2f/dx2 = sum_v w_v S_v S_v^T,

which travel back as any other columns do. What makes them: a diagonal c is a unit vector for each number, with c as
weights, and a pair of vectors a and b, by a b^T + b a^T = ((a + b)(a + b)^T - (a - b)(a - b)^T) / 2, two columns.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, PyTree


class Bend(NamedTuple):
    """What `second` returns where d2f/dx2 is no diagonal: sum_v w_v S_v S_v^T.

    Attributes:
      S: columns (v, m, *f), in the structure of x.
      w: their weights (v, m), of either sign.

    Example:
      >>> bend = jn.Bend(S=jnp.ones((1, 5, 3)), w=-jnp.ones((1, 5)))  # of each example the matrix -1 1^T
      >>> jn.log_softmax.second((), jnp.zeros((5, 3)), jnp.ones((5, 3))).S.shape
      (4, 5, 3)
    """

    S: PyTree[Array]
    w: Float[Array, "v m"]

    def along(self, d: PyTree[Array]) -> PyTree[Array]:
        """sum_v w_v S_v <S_v, d>: how backward changes along d, of x's structure and shapes."""
        parts = zip(jax.tree.leaves(self.S), jax.tree.leaves(d), strict=True)
        first, *more = ((S * of_part[None]).sum(tuple(range(2, S.ndim))) for S, of_part in parts)
        shares = self.w * sum(more, start=first)
        return jax.tree.map(lambda S: (S * shares.reshape(*shares.shape, *(1,) * (S.ndim - 2))).sum(0), self.S)

    def astype(self, dtype: DTypeLike) -> "Bend":
        """The same in another type."""
        return jax.tree.map(lambda leaf: leaf.astype(dtype), self)


def at_each(values: Float[Array, "m ..."]) -> tuple[Float[Array, "v 1 *f"], Float[Array, "v m"]]:
    """A unit vector for each number of an example, the same for all examples, and the values in the same order."""
    units = jnp.eye(math.prod(values.shape[1:]), dtype=values.dtype).reshape(-1, 1, *values.shape[1:])
    # As a sum over an example's numbers, which works where those are spread over devices, and v is not.
    return units, (units * values[None]).sum(axis=tuple(range(2, units.ndim)))


def diagonal(values: Float[Array, "m ..."]) -> Bend:
    """diag(values)."""
    units, weights = at_each(values)
    return Bend(units * jnp.ones_like(values)[None], weights)


def beside(*bends: Bend) -> Bend:
    """The sum of several: their columns beside one another."""
    S, w = ([of_one[part] for of_one in bends] for part in (0, 1))
    return Bend(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *S), jnp.concatenate(w))
