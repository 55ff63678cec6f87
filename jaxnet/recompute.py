"""Less memory for more time: what forward would keep for backward is computed again."""

from functools import partial
from typing import Any

from jax import lax
from jaxtyping import Array, PyTree

from jaxnet.arguments import instance_of
from jaxnet.layer import Layer


def recompute_forward(layer: Layer, params: Any, x: PyTree[Array]) -> tuple[PyTree[Array], tuple[Any, Any]]:
    """y = f(x). The cache is the input, and the parameters by reference: backward may be given others."""
    y, _ = layer.forward(params, x)
    return y, (params, x)


def recompute_backward(
    layer: Layer, params: Any, cache: tuple[Any, Any], dy: PyTree[Array]
) -> tuple[Any, PyTree[Array]]:
    """Forward once more, for f's cache; then f's backward."""
    # The barrier keeps the compiler from seeing that this was computed before, and from keeping it; it also makes the
    # second forward wait for dy, so that the caches of several layers are not there at the same time.
    (params_of_forward, x), dy = lax.optimization_barrier((cache, dy))
    _, cache = layer.forward(params_of_forward, x)
    return layer.backward(params, cache, dy)


def recompute(layer: Layer) -> Layer:
    """A layer that keeps its input alone for backward, and computes the rest again: f's cache for one more forward.

    For a network of L blocks `repeat(recompute(block), L)` keeps L inputs, and one block's cache at a time. So does a
    chain of recomputed blocks on a GPU or TPU; XLA for CPUs sees there that it has computed the same before, and keeps
    it (jax 0.10.2), as it does with `jax.checkpoint`.

    Args:
      layer: f, whose parameters are this layer's.

    Returns:
      A layer with the same values, gradients and per-example readings as f.

    Raises:
      ValueError: when f is no layer.

    Source: Chen et al., Training deep nets with sublinear memory cost, 2016; `jax.checkpoint` does it for autodiff.

    Example:
      >>> block = jn.chain(jn.dense(3, 3), jn.tanh, jn.dense(3, 3), jn.tanh)
      >>> params, x = block.init(key), jnp.ones((5, 3))
      >>> for layer in (block, jn.recompute(block)):
      ...     print(jax.tree.map(jnp.shape, layer.forward(params, x)[1]))  # what is kept for backward
      ((5, 3), (5, 3), (5, 3), (5, 3))
      ((Dense(W=(3, 3), b=(3,)), (), Dense(W=(3, 3), b=(3,)), ()), (5, 3))
    """
    instance_of(Layer, "recompute", "layer to be a Layer", layer, "jaxnet.dense(4, 4)")
    functions = layer.init, partial(recompute_forward, layer), partial(recompute_backward, layer)
    return Layer(*functions, made=partial(recompute, layer))
