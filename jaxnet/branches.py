"""Several layers at the same input, whose outputs stand beside one another: y = (f_1(x), ..., f_n(x))."""

from functools import partial, reduce
from typing import Any

import jax
from jaxtyping import Array, PyTree

from jaxnet.arguments import instance_of
from jaxnet.layer import Layer, added


def branches_init(layers, key):
    keys = jax.random.split(key, len(layers))
    return tuple(layer.init(key) for layer, key in zip(layers, keys, strict=True))


def branches_forward(
    layers: tuple[Layer, ...], params: tuple[Any, ...], x: PyTree[Array]
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """y = (f_1(x), ..., f_n(x)). The cache is the layers' caches, in order."""
    ys, caches = zip(*(layer.forward(p, x) for layer, p in zip(layers, params, strict=True)), strict=True)
    return ys, caches


def branches_backward(
    layers: tuple[Layer, ...], params: tuple[Any, ...], caches: tuple[Any, ...], dy: tuple[Any, ...]
) -> tuple[tuple[Any, ...], PyTree[Array]]:
    """dx = sum_k (df_k/dx)^T dy_k: what comes back along the branches adds up."""
    each = zip(layers, params, caches, dy, strict=True)
    dparams, dxs = zip(*(layer.backward(p, cache, d) for layer, p, cache, d in each), strict=True)
    return dparams, reduce(added, dxs)


def branches(*layers: Layer) -> Layer:
    """Layers beside one another, at the same input: y = (f_1(x), ..., f_n(x)), a tuple.

    Such as queries, keys and values of attention, `chain(branches(dense(d, d), dense(d, d), dense(d, d)), attend)`,
    where `attend` is a layer that takes a tuple.

    Args:
      layers: at least one.

    Returns:
      A layer whose parameters are the tuple of the layers' parameters.

    Raises:
      ValueError: when there is no layer, or something is none.

    Example:
      >>> layer = jn.branches(jn.dense(3, 4), jn.dense(3, 2))
      >>> wide, narrow = layer(layer.init(key), jnp.ones((5, 3)))
      >>> wide.shape, narrow.shape
      ((5, 4), (5, 2))
    """
    check_layers("branches", layers)
    functions = partial(branches_init, layers), partial(branches_forward, layers), partial(branches_backward, layers)
    return Layer(*functions, made=partial(branches, *layers))


def check_layers(where: str, layers: tuple[Any, ...]) -> None:
    """Refuses what is no layer, and none at all."""
    if not layers:
        raise ValueError(f"{where}: expected at least one layer, got none")
    for position, layer in enumerate(layers):
        instance_of(Layer, where, f"a Layer at position {position}", layer, "jaxnet.dense(4, 4)")
