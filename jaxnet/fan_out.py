"""Several layers at the same input, whose outputs are summed: y = f_1(x) + ... + f_n(x)."""

from functools import partial, reduce
from typing import Any

from jaxtyping import Array, PyTree

from jaxnet.branches import branches_backward, branches_forward, branches_init, check_layers
from jaxnet.layer import Layer, added


def fan_out_forward(
    layers: tuple[Layer, ...], params: tuple[Any, ...], x: PyTree[Array]
) -> tuple[PyTree[Array], tuple[Any, ...]]:
    """y = f_1(x) + ... + f_n(x). The cache is the layers' caches, in order."""
    ys, caches = branches_forward(layers, params, x)
    shapes = [getattr(y, "shape", type(y).__name__) for y in ys]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"fan_out: expected outputs of the same shape, got {', '.join(map(str, shapes))}")
    return reduce(added, ys), caches


def fan_out_backward(
    layers: tuple[Layer, ...], params: tuple[Any, ...], caches: tuple[Any, ...], dy: PyTree[Array]
) -> tuple[tuple[Any, ...], PyTree[Array]]:
    """dx = sum_k (df_k/dx)^T dy: each branch hears the same, and what they answer adds up."""
    return branches_backward(layers, params, caches, (dy,) * len(layers))


def fan_out(*layers: Layer) -> Layer:
    """Layers at the same input, summed: y = f_1(x) + ... + f_n(x).

    Args:
      layers: at least one, all with outputs of one shape. `residual(f)` is `fan_out(identity, f)`.

    Returns:
      A layer whose parameters are the tuple of the layers' parameters.

    Raises:
      ValueError: when there is no layer, or something is none; when traced, if outputs differ in shape.

    Example:
      >>> layer = jn.fan_out(jn.identity, jn.dense(3, 3))  # what residual(dense(3, 3)) is
      >>> layer(layer.init(key), jnp.ones((5, 3))).shape
      (5, 3)
    """
    check_layers("fan_out", layers)
    functions = partial(branches_init, layers), partial(fan_out_forward, layers), partial(fan_out_backward, layers)
    return Layer(*functions, made=partial(fan_out, *layers))
