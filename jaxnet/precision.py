"""Mixed precision: arithmetic in a short type, parameters and their gradients in a long one.

Each layer rounds its parameters, its input and its signal to the short type, and keeps its cache in that. What sums
over examples is summed in the parameters' own type: dW = dZ^T A takes short factors and gives a long product, as the
matrix units of accelerators do at no cost. So a small update is not lost in a large weight, nor a large sum in its last
digits. What is added up along the depth, x + f(x), is added in x's type.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike

from jaxnet.arguments import instance_of
from jaxnet.compose import chain, inner_of, layers_of, residual
from jaxnet.factored import map_leaves
from jaxnet.layer import Layer
from jaxnet.recompute import recompute, recomputed_of
from jaxnet.repeat import repeat, repeated_of


def mixed_precision_forward(layer: Layer, dtype: DTypeLike, params: Any, x: Array) -> tuple[Array, Any]:
    """y = f(params, x) in the short type, as x's type. The cache is f's, in the short type.

    Where x has no floating-point type, such as token ids, it stays as it is, and y has the type that f gives it.
    """
    long = x.dtype
    if not jnp.issubdtype(long, jnp.floating):
        # Asked in the parameters' own types, so that a layer which takes no integers names those.
        long = jax.eval_shape(layer.forward, params, x)[0].dtype
    y, cache = layer.forward(_cast(params, dtype), _cast(x, dtype))
    return y.astype(long), cache


def mixed_precision_backward(layer: Layer, dtype: DTypeLike, params: Any, cache: Any, dy: Array) -> tuple[Any, Array]:
    """f's backward in the short type, with the parameters' gradients to be summed in the parameters' own."""
    dparams, dx = layer.backward(_cast(params, dtype), cache, dy.astype(dtype))
    return map_leaves(lambda leaf, of_params: leaf.summed_in(of_params.dtype), dparams, params), dx.astype(dy.dtype)


def mixed_precision_second(layer: Layer, dtype: DTypeLike, params: Any, cache: Any, dy: Array) -> Array | None:
    """f's second derivative in the short type, as dy's type."""
    assert layer.second is not None
    bend = layer.second(_cast(params, dtype), cache, dy.astype(dtype))
    return None if bend is None else bend.astype(dy.dtype)


def mixed_precision(net: Layer, dtype: DTypeLike = jnp.bfloat16) -> Layer:
    """The network with its arithmetic in a short type; parameters, gradients, inputs and outputs keep theirs.

    Args:
      net: any layer or network; combinators of this library stay what they are, around layers in mixed precision.
      dtype: the short type, bfloat16 by default, which has float32's range: no scaling of the loss is needed.
        Integers and booleans never become of it.

    Returns:
      A layer with the same parameters. In bfloat16 a value has 8 bits: forward and signals err by some 2^-9,
      relatively, at each layer.

    Raises:
      ValueError: when dtype is no floating-point type.

    Source: Micikevicius et al., Mixed precision training, 2018; Kalamkar et al., A study of bfloat16 for deep learning
    training, 2019.
    """
    instance_of(Layer, "mixed_precision", "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"mixed_precision: expected a floating-point type, got {jnp.dtype(dtype)}")
    layers, inner, recomputed, repeated = layers_of(net), inner_of(net), recomputed_of(net), repeated_of(net)
    if layers is not None:
        return chain(*(mixed_precision(layer, dtype) for layer in layers))
    if inner is not None:
        return residual(mixed_precision(inner, dtype))
    if recomputed is not None:
        return recompute(mixed_precision(recomputed, dtype))
    if repeated is not None:
        layer, n = repeated
        return repeat(mixed_precision(layer, dtype), n)
    second = None if net.second is None else partial(mixed_precision_second, net, dtype)
    forward, backward = partial(mixed_precision_forward, net, dtype), partial(mixed_precision_backward, net, dtype)
    return Layer(net.init, forward, backward, second)


def _cast(tree, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)
