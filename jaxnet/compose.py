"""Layers made of layers. Backward is forward read in reverse."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import instance_of
from jaxnet.layer import Layer, added


def chain_init(layers, key):
    keys = jax.random.split(key, len(layers))
    return tuple(layer.init(key) for layer, key in zip(layers, keys, strict=True))


def chain_forward(
    layers: tuple[Layer, ...], params: tuple[Any, ...], x: PyTree[Array]
) -> tuple[PyTree[Array], tuple[Any, ...]]:
    """y = f_n(... f_2(f_1(x))). The cache is the layers' caches, in order."""
    _check_params(layers, params)
    caches = []
    for position, (layer, layer_params) in enumerate(zip(layers, params, strict=True)):
        with named_in_errors(position, layer):
            x, cache = layer.forward(layer_params, x)
        caches.append(cache)
    return x, tuple(caches)


def chain_backward(
    layers: tuple[Layer, ...], params: tuple[Any, ...], caches: tuple[Any, ...], dy: PyTree[Array]
) -> tuple[tuple[Any, ...], PyTree[Array]]:
    """The chain rule, from the last layer to the first: dx of each layer is dy of the one before it."""
    dparams, signals = _walk_back(layers, params, caches, dy)
    return dparams, signals[0]


def chain(*layers: Layer) -> Layer:
    """Layers one after the other: y = f_n(... f_2(f_1(x))). Without any, y = x.

    Args:
      layers: the layers, first to last. A chain is a layer itself, so chains nest.

    Returns:
      A layer whose parameters are the tuple of the layers' parameters: `params[0].W` for a first `dense`.

    Raises:
      ValueError: when something is no layer.

    Example:
      >>> net = jn.chain(jn.dense(3, 4), jn.tanh, jn.dense(4, 1))
      >>> params = net.init(key)
      >>> params[0].W.shape, net(params, jnp.ones((5, 3))).shape
      ((4, 3), (5, 1))
    """
    for position, layer in enumerate(layers):
        instance_of(Layer, "chain", f"a Layer at position {position}", layer, "jaxnet.tanh")
    functions = partial(chain_init, layers), partial(chain_forward, layers), partial(chain_backward, layers)
    return Layer(*functions, made=partial(chain, *layers))


def signals(net: Layer, params: Any, cache: Any, dy: PyTree[Array]) -> tuple[PyTree[Array], ...]:
    """What comes back along a chain, at every edge: the cotangents of its input, between its layers, of its output.

    Args:
      net: a chain; any other layer counts as a chain of one.
      params, cache, dy: as for `net.backward`.

    Returns:
      The cotangent of each layer's input, in the order of the layers, then dy; None for that of integers. For the
      lesson's network `chain(dense(3, 4), tanh, dense(4, 1), sigmoid)` and the lesson's loss: (dX, dZ1, dA1, dZ2, dA2).

    Source: the lesson (docs/lesson.md), S9.

    Example:
      >>> net, loss = jn.chain(jn.dense(3, 4), jn.tanh, jn.dense(4, 1)), jn.losses.half_squared_error
      >>> params, x = net.init(key), jnp.ones((5, 3))
      >>> z, cache = net.forward(params, x)
      >>> edges = jn.signals(net, params, cache, loss.backward(z, jnp.zeros((5, 1))))
      >>> [edge.shape for edge in edges]
      [(5, 3), (5, 4), (5, 4), (5, 1)]
    """
    if net.made is not None and net.made.func is chain:
        _, edges = _walk_back(net.made.args, params, cache, dy)
        return edges
    _, dx = net.backward(params, cache, dy)
    return dx, dy


def residual_forward(inner: Layer, params: Any, x: PyTree[Array]) -> tuple[Float[Array, "..."], Any]:
    """y = x + f(x). The cache is f's."""
    if not hasattr(x, "shape"):
        raise ValueError(f"residual: expected x to be an array, got {_kind_of(x)}")
    fx, cache = inner.forward(params, x)
    shape = getattr(fx, "shape", None)
    if shape != x.shape:
        got = _kind_of(fx) if shape is None else shape
        raise ValueError(f"residual: expected {inner.name} to keep the shape {x.shape} of x, got {got}")
    return x + fx, cache


def residual_backward(inner: Layer, params: Any, cache: Any, dy: PyTree[Array]) -> tuple[Any, PyTree[Array]]:
    """dx = dy + (df/dx)^T dy: what came back goes both ways."""
    dparams, dx = inner.backward(params, cache, dy)
    return dparams, added(dy, dx)


def residual(inner: Layer) -> Layer:
    """A layer with a skip connection: y = x + f(x).

    Args:
      inner: f, a layer whose output has its input's shape; its parameters are the residual layer's.

    Raises:
      ValueError: when f is no layer; when traced, if it changes the shape.

    Source: He et al., Deep Residual Learning for Image Recognition, 2015, equation 1.

    Example:
      >>> layer = jn.residual(jn.chain(jn.dense(3, 3), jn.relu))
      >>> layer(layer.init(key), jnp.ones((5, 3))).shape
      (5, 3)
    """
    instance_of(Layer, "residual", "inner to be a Layer", inner, "jaxnet.dense(4, 4)")
    functions = inner.init, partial(residual_forward, inner), partial(residual_backward, inner)
    return Layer(*functions, made=partial(residual, inner))


@contextmanager
def named_in_errors(position: int, layer: Layer) -> Iterator[None]:
    """Has a ValueError tell in which layer of a chain it arose."""
    try:
        yield
    except ValueError as error:
        error.add_note(f"in layer [{position}] of the chain, {layer.name}")
        raise


def _kind_of(signal):
    return f"a {type(signal).__name__} of {len(jax.tree.leaves(signal))} arrays"


def _walk_back(layers, params, caches, dy):
    _check_params(layers, params)
    dparams, edges = [], [dy]
    for position in reversed(range(len(layers))):
        with named_in_errors(position, layers[position]):
            layer_dparams, dx = layers[position].backward(params[position], caches[position], edges[-1])
        dparams.append(layer_dparams)
        edges.append(dx)
    return tuple(reversed(dparams)), tuple(reversed(edges))


def _check_params(layers, params):
    # A layer's own parameters may be a named tuple, by chance of the right length.
    if type(params) is not tuple or len(params) != len(layers):
        got = f"{len(params)}" if type(params) is tuple else f"a {type(params).__name__}"
        raise ValueError(f"chain: expected a tuple of {len(layers)} layers' parameters, got {got}")
