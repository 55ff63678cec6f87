"""What a recurrence starts from: zeros, or a vector that is learnt, the same for all examples.

s_i = s for every example i, and ds of each example is what came back to its s_i
"""

from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import positive_integer
from jaxnet.factored import Each
from jaxnet.factored.layouts import rows_of
from jaxnet.layer import Layer
from jaxnet.standardised import laid_out


class InitialState(NamedTuple):
    """The parameters of a learnt `initial_state`, or whatever has their structure.

    Attributes:
      s: the state (size,); 0 at the start.
    """

    s: Any


def initial_state_init(size, learnt, key):
    return InitialState(jnp.zeros(size)) if learnt else ()


def initial_state_forward(
    size: int, params: InitialState | tuple[()], x: PyTree[Array], *, learnt: bool = False
) -> tuple[Float[Array, "m h"], PyTree[Array]]:
    """s for each example of x. The cache is x's shape."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(x)]
    shape, sharding = (leaves[0].shape[0], size), rows_of(leaves[0], 2)
    of_x = jax.tree.map(lambda leaf: leaf[:0], x)
    if not learnt:
        floating = (leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating))
        return jnp.zeros(shape, next(floating, None), out_sharding=sharding), of_x
    if not isinstance(params, InitialState) or jnp.shape(params.s) != (size,):
        got = f"s {jnp.shape(params.s)}" if isinstance(params, InitialState) else f"a {type(params).__name__}"
        raise ValueError(
            f"initial_state({size}, learnt=True): expected parameters InitialState(s ({size},)), got {got}"
        )
    s = laid_out(params.s, rows_of(leaves[0], 2).update(spec=jax.sharding.PartitionSpec(None)))
    return jnp.broadcast_to(s[None], shape, out_sharding=sharding), of_x


def initial_state_backward(
    size: int,
    params: InitialState | tuple[()],
    of_x: PyTree[Array],
    ds: Float[Array, "m h"],
    *,
    learnt: bool = False,
) -> tuple[Any, PyTree[Array]]:
    """ds of each example, as it came; x told how many there are, and has no share in the state: dx = 0."""

    def nothing(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return None
        return jnp.zeros((ds.shape[0], *leaf.shape[1:]), leaf.dtype, out_sharding=rows_of(ds, leaf.ndim))

    dparams = InitialState(Each(ds)) if learnt else params
    return dparams, jax.tree.map(nothing, of_x)


def initial_state(size: SupportsIndex, *, learnt: bool = False) -> Layer:
    """The state that `recurrent` starts from: s for every example, 0 or learnt.

    Args:
      size: the number of features h of the state, at least 1.
      learnt: whether s is a parameter, which starts at 0.

    Returns:
      A layer from any x with the examples first to s (m, h), with parameters `InitialState(s (h,))`, or () where s
      is not learnt and 0, of x's type.

    Raises:
      ValueError: when size is not a positive integer; when traced, if the parameters are another layer's.

    Example:
      >>> start = jn.initial_state(4, learnt=True)
      >>> params = start.init(key)
      >>> jax.tree.map(jnp.shape, params)
      InitialState(s=(4,))
      >>> start(params, jnp.ones((2, 5, 3))).shape
      (2, 4)
    """
    size = positive_integer("initial_state", "size", size)
    options: dict[str, Any] = {"learnt": True} if learnt else {}
    forward, backward = (
        partial(initial_state_forward, size, **options),
        partial(initial_state_backward, size, **options),
    )
    return Layer(partial(initial_state_init, size, learnt), forward, backward)
