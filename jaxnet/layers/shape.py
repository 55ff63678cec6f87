"""The same numbers in another shape or order: flatten, reshape, transpose. What comes back goes the same way back.

Backward needs the shape of x alone, which an array without examples keeps: x[:0], of no bytes.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from jaxnet.arguments import integers, shown
from jaxnet.factored.layouts import rows_of
from jaxnet.layer import Layer

Signal: TypeAlias = Shaped[Array, "m ..."]


def _no_parameters(key):
    return ()


def linear(params: tuple[()], cache: Array | tuple[()], dy: Signal) -> None:
    """y is linear in x."""


def flatten_forward(params: tuple[()], x: Signal) -> tuple[Shaped[Array, "m n"], Shaped[Array, "0 ..."]]:
    """y_i is the row of all numbers of x_i. The cache is x's shape."""
    x = jnp.asarray(x)
    _require_examples("flatten", x)
    return _in_shape(x, (math.prod(x.shape[1:]),), rows_of(x, 2)), x[:0]


def reshape_forward(params: tuple[()], x: Signal, *, shape: tuple[int, ...]) -> tuple[Signal, Shaped[Array, "0 ..."]]:
    """y_i is x_i in another shape. The cache is x's shape."""
    x = jnp.asarray(x)
    _require_examples(f"reshape({shape})", x)
    known, size = math.prod(n for n in shape if n != -1), math.prod(x.shape[1:])
    if size % known if -1 in shape else size != known:
        numbers = f"a multiple of {known}" if -1 in shape else known
        raise ValueError(f"reshape({shape}): expected {numbers} numbers in an example, got x of shape {x.shape}")
    return _in_shape(x, tuple(size // known if n == -1 else n for n in shape), rows_of(x, 1 + len(shape))), x[:0]


def reshape_backward(
    params: tuple[()], of_x: Shaped[Array, "0 ..."], dy: Signal | None
) -> tuple[tuple[()], Signal | None]:
    """dx is dy in x's shape, of `flatten` too."""
    return params, None if dy is None else _in_shape(dy, of_x.shape[1:], jax.typeof(of_x).sharding)


def transpose_forward(params: tuple[()], x: Signal, *, axes: tuple[int, ...]) -> tuple[Signal, tuple[()]]:
    """y's axis k is x's axis axes_k. Nothing is kept."""
    x = jnp.asarray(x)
    if x.ndim != len(axes) + 1:
        raise ValueError(f"transpose({axes}): expected x with {len(axes)} axes after the examples, got shape {x.shape}")
    return x.transpose(0, *axes), ()


def transpose_backward(
    params: tuple[()], cache: tuple[()], dy: Signal | None, *, axes: tuple[int, ...]
) -> tuple[tuple[()], Signal | None]:
    """dx's axis axes_k is dy's axis k."""
    back = sorted(range(len(axes)), key=lambda k: axes[k])
    return params, None if dy is None else dy.transpose(0, *(k + 1 for k in back))


flatten = Layer(_no_parameters, flatten_forward, reshape_backward, linear)
"""y (m, n): each example's numbers in a row, the last axis fastest; positions become features. It keeps nothing."""


def reshape(shape: Sequence[int]) -> Layer:
    """Each example in another shape: x (m, ...) to y (m, *shape), the last axis fastest.

    Args:
      shape: of an example; one of the lengths may be -1, and is what is left.

    Returns:
      A layer without parameters, which keeps nothing.

    Raises:
      ValueError: when shape is no sequence of positive lengths with at most one -1; and, when the layer is traced, if
        an example has another number of numbers.

    Example:
      >>> jn.reshape((2, -1))((), jnp.ones((5, 6))).shape
      (5, 2, 3)
    """
    lengths = integers(shape)
    if lengths is None or any(n < 1 and n != -1 for n in lengths) or lengths.count(-1) > 1:
        raise ValueError(f"reshape: expected shape to be positive lengths, at most one of them -1, got {shown(shape)}")
    return Layer(_no_parameters, partial(reshape_forward, shape=lengths), reshape_backward, linear)


def transpose(axes: Sequence[int]) -> Layer:
    """The axes of each example in another order: y's k-th axis is x's axis axes_k.

    Args:
      axes: the numbers 1 to n in any order, for x with n axes after the examples, whose axis is 0 and stays the first:
        `transpose((2, 1))` exchanges the positions and the features of x (m, t, d).

    Returns:
      A layer without parameters, which keeps nothing.

    Raises:
      ValueError: when axes are not the numbers 1 to n; and, when the layer is traced, if x has another number of axes.

    Example:
      >>> jn.transpose((2, 1))((), jnp.ones((5, 2, 3))).shape
      (5, 3, 2)
    """
    order = integers(axes)
    if order is None or sorted(order) != list(range(1, len(order) + 1)):
        raise ValueError(f"transpose: expected axes to be the numbers 1 to n in some order, got {shown(axes)}")
    functions = partial(transpose_forward, axes=order), partial(transpose_backward, axes=order)
    return Layer(_no_parameters, *functions, linear)


def _in_shape(signal, shape, sharding):
    return jnp.reshape(signal, (signal.shape[0], *shape), out_sharding=sharding)


def _require_examples(where, x):
    if x.ndim == 0:
        raise ValueError(f"{where}: expected x of shape (m, ...), got a scalar")
