"""More of x, or less: pad with a constant, take a part. The one is the way back of the other."""

from collections.abc import Sequence
from functools import partial
from typing import Any, SupportsIndex, TypeAlias

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Shaped

from jaxnet.arguments import integers, shown
from jaxnet.layer import Layer

Signal: TypeAlias = Shaped[Array, "m ..."]
Widths: TypeAlias = tuple[tuple[int, int], ...]


def _no_parameters(key):
    return ()


def affine(params: tuple[()], cache: Array | tuple[()], dy: Signal) -> None:
    """y is linear in x, but for a constant."""


def pad_forward(params: tuple[()], x: Signal, *, widths: Widths, value: float = 0.0) -> tuple[Signal, tuple[()]]:
    """y is x with so many values before and after it along each axis. Nothing is kept."""
    x = jnp.asarray(x)
    if x.ndim < len(widths) + 1:
        raise ValueError(
            f"pad({widths}): expected x with at least {len(widths)} axes after the examples, got shape {x.shape}"
        )
    return lax.pad(x, jnp.asarray(value, x.dtype), [(low, high, 0) for low, high in _of_all_axes(widths, x)]), ()


def pad_backward(
    params: tuple[()], cache: tuple[()], dy: Signal | None, *, widths: Widths
) -> tuple[tuple[()], Signal | None]:
    """dx is what is left of dy without the padding."""
    if dy is None:
        return params, None
    inside = zip(_of_all_axes(widths, dy), dy.shape, strict=True)
    return params, dy[tuple(slice(low, size - high) if low or high else slice(None) for (low, high), size in inside)]


def take_forward(
    part: int | slice, params: tuple[()], x: Signal, *, axis: int
) -> tuple[Signal, Shaped[Array, "0 ..."]]:
    """y is a part of x along an axis. The cache is x's shape."""
    x = jnp.asarray(x)
    size = _size(part, axis, x)
    if isinstance(part, slice):
        return x[(*(slice(None),) * (axis % x.ndim), part)], x[:0]
    if not -size <= part < size:
        raise ValueError(f"{_call(part, axis)}: expected x with that position along the axis, got shape {x.shape}")
    return lax.index_in_dim(x, part, axis, keepdims=False), x[:0]


def take_backward(
    part: int | slice, params: tuple[()], of_x: Shaped[Array, "0 ..."], dy: Signal | None, *, axis: int
) -> tuple[tuple[()], Signal | None]:
    """dx is dy at the part's places, and 0 elsewhere: before, between and after them."""
    if dy is None:
        return params, None
    axis, size = axis % of_x.ndim, of_x.shape[axis]
    if not isinstance(part, slice):
        dy, part = jnp.expand_dims(dy, axis), slice(part, part + 1 or None)
    places = range(size)[part]
    if places.step < 0:
        dy, places = lax.rev(dy, (axis,)), places[::-1]
    widths = [(0, 0, 0)] * dy.ndim
    widths[axis] = (places[0], size - 1 - places[-1], places.step - 1 if len(places) > 1 else 0)
    return params, lax.pad(dy, jnp.zeros((), dy.dtype), widths)


def pad(widths: Sequence[Sequence[int]], *, value: float = 0.0) -> Layer:
    """x with a constant around it, along the axes that follow the examples.

    Args:
      widths: a pair (before, after) for each of the first axes after the examples, at least 0; axes that it does not
        reach, such as the features, stay as they are: `pad(((1, 1), (1, 1)))` frames images x (m, h, w, c).
      value: of the padding.

    Returns:
      A layer without parameters, which keeps nothing.

    Raises:
      ValueError: when widths are no pairs of numbers; and, when the layer is traced, if x has too few axes.

    Example:
      >>> jn.pad(((1, 1), (1, 1)))((), jnp.ones((1, 1, 1, 1)))[0, :, :, 0]
      Array([[0., 0., 0.],
             [0., 1., 0.],
             [0., 0., 0.]], dtype=float32)
    """
    pairs = [integers(pair) for pair in widths] if hasattr(widths, "__iter__") else [None]
    if not all(pair is not None and len(pair) == 2 and min(pair) >= 0 for pair in pairs):
        raise ValueError(f"pad: expected widths to be pairs (before, after) of at least 0, got {shown(widths)}")
    known = tuple((pair[0], pair[1]) for pair in pairs if pair)
    options: dict[str, Any] = {"value": value} if value else {}
    functions = partial(pad_forward, widths=known, **options), partial(pad_backward, widths=known)
    return Layer(_no_parameters, *functions, affine)


def take(part: SupportsIndex | slice, *, axis: SupportsIndex = 1) -> Layer:
    """A part of x along one axis: y = x[:, part] for the first after the examples.

    Args:
      part: an integer, whose axis is gone then, or a slice: `take(-1)` is the last position of x (m, t, d), and
        `take(slice(0, 2), axis=-1)` its first two features. Negative steps go backwards.
      axis: any but that of the examples; 1 for the first positions, -1 for the features.

    Returns:
      A layer without parameters, which keeps nothing.

    Raises:
      ValueError: when part is neither, or the axis is 0 or no integer; and, when the layer is traced, if x does not
        have the part.

    Example:
      >>> jn.take(-1)((), jnp.ones((5, 7, 3))).shape
      (5, 3)
    """
    (number,) = integers((axis,)) or (0,)
    if number == 0:
        raise ValueError(f"take: expected an axis other than 0, that of the examples, got {shown(axis)}")
    known = part if isinstance(part, slice) else (integers((part,)) or (None,))[0]
    if known is None:
        raise ValueError(f"take: expected part to be an integer or a slice, got {shown(part)}")
    functions = partial(take_forward, known, axis=number), partial(take_backward, known, axis=number)
    # Of features the same part everywhere; of positions another matrix at each.
    kind = "linear" if isinstance(known, slice) and number == -1 else None
    return Layer(_no_parameters, *functions, affine, kind)  # type: ignore[arg-type]


def _of_all_axes(widths, signal):
    return ((0, 0), *widths, *((0, 0),) * (signal.ndim - 1 - len(widths)))


def _call(part, axis):
    return f"take({part}, axis={axis})"


def _size(part, axis, x):
    """The length of the axis, which is there, and not that of the examples."""
    if not -x.ndim < axis < x.ndim:
        raise ValueError(f"{_call(part, axis)}: expected x with that axis after the examples, got shape {x.shape}")
    size = x.shape[axis]
    if isinstance(part, slice) and not range(size)[part]:
        raise ValueError(f"{_call(part, axis)}: expected a part with something in it, got none of x's shape {x.shape}")
    return size
