"""Layers for the first of several signals; the others are carried along: lengths, a context.

    carried(f)            (x, *others) -> (f(x), *others)
    carried_residual(f)   (x, *others) -> (x + f(x, *others), *others)

A block of layers whose input and output are such tuples can be repeated: self-attention that knows each example's
length, attention to a context that all blocks look at. What comes back to the others adds up along the way; to integers
nothing comes back.
"""

from functools import partial
from typing import Any

from jaxtyping import Array, PyTree

from jaxnet.arguments import instance_of
from jaxnet.layer import Layer, added


def carried_forward(layer: Layer, params: Any, x: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
    """y = (f(x_0), x_1, ...). The cache is f's."""
    _check_input("carried", x)
    y, cache = layer.forward(params, x[0])
    return (y, *x[1:]), cache


def carried_backward(layer: Layer, params: Any, cache: Any, dy: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """dx_0 = (df/dx)^T dy_0; what came back to the others goes on."""
    dparams, dx = layer.backward(params, cache, dy[0])
    return dparams, (dx, *dy[1:])


def carried(layer: Layer) -> Layer:
    """A layer at the first part of a tuple: (x, *others) -> (f(x), *others).

    Args:
      layer: f, whose parameters are this layer's.

    Raises:
      ValueError: when f is no layer; when traced, if the input is no tuple.

    Example:
      >>> layer = jn.carried(jn.dense(3, 4))
      >>> y, lengths = layer(layer.init(key), (jnp.ones((2, 5, 3)), jnp.array([5, 2])))
      >>> y.shape, lengths
      ((2, 5, 4), Array([5, 2], dtype=int32))
    """
    instance_of(Layer, "carried", "layer to be a Layer", layer, "jaxnet.dense(4, 4)")
    functions = layer.init, partial(carried_forward, layer), partial(carried_backward, layer)
    return Layer(*functions, made=partial(carried, layer))


def carried_residual_forward(inner: Layer, params: Any, x: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
    """y = (x_0 + f(x), x_1, ...). The cache is f's."""
    _check_input("carried_residual", x)
    fx, cache = inner.forward(params, x)
    shape = getattr(fx, "shape", None)
    if shape != x[0].shape:
        got = f"a {type(fx).__name__}" if shape is None else shape
        raise ValueError(
            f"carried_residual: expected {inner.name} to give the shape {x[0].shape} of x's first part, got {got}"
        )
    return (x[0] + fx, *x[1:]), cache


def carried_residual_backward(
    inner: Layer, params: Any, cache: Any, dy: tuple[Any, ...]
) -> tuple[Any, PyTree[Array | None]]:
    """dx = dy + (df/dx)^T dy_0, part by part: f has a say in the others' too."""
    dparams, dx = inner.backward(params, cache, dy[0])
    return dparams, added(dy, dx)


def carried_residual(inner: Layer) -> Layer:
    """A skip connection for the first part of a tuple: (x, *others) -> (x + f(x, *others), *others).

    An encoder's block for signals (x, lengths), which can be repeated:

        chain(
            carried_residual(chain(carried(layer_norm(d)), multi_head_attention(d, heads, lengths=True))),
            carried(residual(chain(layer_norm(d), dense(d, 4 * d), gelu, dense(4 * d, d)))),
        )

    Args:
      inner: f, from the tuple to one array of its first part's shape; its parameters are this layer's.

    Raises:
      ValueError: when f is no layer; when traced, if the input is no tuple, or f gives something else.

    Example:
      >>> layer = jn.carried_residual(jn.multi_head_attention(8, 2, lengths=True))
      >>> y, lengths = layer(layer.init(key), (jnp.ones((2, 5, 8)), jnp.array([5, 2])))
      >>> y.shape, lengths
      ((2, 5, 8), Array([5, 2], dtype=int32))
    """
    instance_of(Layer, "carried_residual", "inner to be a Layer", inner, "jaxnet.pick(0)")
    functions = inner.init, partial(carried_residual_forward, inner), partial(carried_residual_backward, inner)
    return Layer(*functions, made=partial(carried_residual, inner))


def _check_input(where, x):
    if not isinstance(x, tuple) or not x:
        got = "an array" if hasattr(x, "shape") else f"a {type(x).__name__} of {len(x)}"
        raise ValueError(f"{where}: expected x to be a tuple of arrays, got {got}")
