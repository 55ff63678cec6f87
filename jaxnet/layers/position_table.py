"""Where a position is, told to what stands there by a table that is learnt.

y_t = x_t + E_t,        dE_t = dy_t of each example, dx_t = dy_t
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxnet import initializers
from jaxnet.arguments import positive_integer
from jaxnet.factored import Each
from jaxnet.layer import Decoder, Layer


class PositionTable(NamedTuple):
    """The parameters of `position_table`, or whatever has their structure.

    Attributes:
      E: a row for each position (length, d).
    """

    E: Any


def position_table_init(length, d, weight_init, key):
    return PositionTable(E=weight_init(key, (length, d)))


def position_table_forward(
    length: int, d: int, params: PositionTable, x: Float[Array, "m t d"]
) -> tuple[Float[Array, "m t d"], tuple[()]]:
    """y_t = x_t + E_t. There is nothing to keep."""
    label = f"position_table({length}, {d})"
    x = jnp.asarray(x)
    _check_table(label, length, d, params)
    if x.ndim != 3 or x.shape[-1] != d or x.shape[1] > length:
        raise ValueError(f"{label}: expected x of shape (m, t, {d}) with t of at most {length}, got {x.shape}")
    if x.dtype != params.E.dtype:
        raise ValueError(
            f"{label}: expected x of E's dtype {params.E.dtype}, got {x.dtype}; "
            f"convert it with x.astype('{params.E.dtype}')"
        )
    return x + params.E[None, : x.shape[1]], ()


def position_table_backward(
    length: int, d: int, params: PositionTable, cache: tuple[()], dy: Float[Array, "m t d"]
) -> tuple[PositionTable, Float[Array, "m t d"]]:
    """From y_t = x_t + E_t: dE_t = dx_t = dy_t; positions that an example does not have get no gradient."""
    _check_table(f"position_table({length}, {d})", length, d, params)
    of_table = jnp.pad(dy, ((0, 0), (0, length - dy.shape[1]), (0, 0)))
    return PositionTable(E=Each(of_table, ndim=2)), dy


def position_table_second(params: PositionTable, cache: tuple[()], dy: Float[Array, "m t d"]) -> None:
    """y is linear in x, and in E."""


def position_table_decoder(rows: int, d: int, length: int) -> Decoder:
    """y_t = x_t + E_t. The state is t, of which there are as many as rows."""

    def start(params, x):
        return jnp.zeros((), jnp.int32)

    def step(params, seen, x):
        return x + lax.dynamic_slice_in_dim(params.E, seen, x.shape[1])[None], seen + x.shape[1]

    return Decoder(start, step, min(rows, length))


def position_table(
    length: SupportsIndex, d: SupportsIndex, *, weight_init: Callable[..., Array] = initializers.small_normal
) -> Layer:
    """A vector for each position, learnt, and added to what stands there: y_t = x_t + E_t.

    Args:
      length: how many positions there are at most, at least 1.
      d: the number of features, at least 1.
      weight_init: `(key, (length, d)) -> E`, see `jaxnet.initializers`.

    Returns:
      A layer of `x (m, t, d)`, t of at most `length`, with parameters `PositionTable(E (length, d))`, whose gradients
      are `Each`: E is no weight.

    Raises:
      ValueError: when a size is not a positive integer; and, when the layer is traced, if the parameters are of other
        sizes, or x has more positions, another number of features, or another dtype than E.

    Source: Gehring et al., Convolutional sequence to sequence learning, 2017, section 3.1.

    Example:
      >>> positions = jn.position_table(16, 4)
      >>> params = positions.init(key)
      >>> jax.tree.map(jnp.shape, params)
      PositionTable(E=(16, 4))
      >>> positions(params, jnp.ones((2, 5, 4))).shape
      (2, 5, 4)
    """
    sizes = positive_integer("position_table", "length", length), positive_integer("position_table", "d", d)
    functions = partial(position_table_forward, *sizes), partial(position_table_backward, *sizes)
    return Layer(
        partial(position_table_init, *sizes, weight_init),
        *functions,
        position_table_second,
        "elementwise",
        decoder=partial(position_table_decoder, *sizes),
    )


def _check_table(label, length, d, params):
    if not isinstance(params, PositionTable):
        raise ValueError(f"{label}: expected parameters PositionTable(E), got a {type(params).__name__}")
    if jnp.shape(params.E) != (length, d):
        raise ValueError(
            f"{label}: expected parameters E {(length, d)}, got E {jnp.shape(params.E)}; they are another layer's"
        )
