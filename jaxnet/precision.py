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
from jaxtyping import Array, DTypeLike, PyTree

from jaxnet.arguments import instance_of
from jaxnet.bend import Bend
from jaxnet.description import named_as
from jaxnet.factored import map_leaves
from jaxnet.layer import Decoder, Layer, at_leaves


def mixed_precision_forward(layer: Layer, dtype: DTypeLike, params: Any, x: PyTree[Array]) -> tuple[PyTree[Array], Any]:
    """y = f(params, x) in the short type, as x's type. The cache is f's, in the short type.

    Where x has no floating-point type, such as token ids, it stays as it is, and y has the type that f gives it.
    """
    # Asked in the parameters' own types, so that a layer which takes no integers names those.
    long = _floating_type(x) or _floating_type(jax.eval_shape(layer.forward, params, x)[0])
    y, cache = layer.forward(_cast(params, dtype), _cast(x, dtype))
    return _cast(y, long), cache


def mixed_precision_backward(
    layer: Layer, dtype: DTypeLike, params: Any, cache: Any, dy: PyTree[Array]
) -> tuple[Any, PyTree[Array]]:
    """f's backward in the short type, with the parameters' gradients to be summed in the parameters' own."""
    dparams, dx = layer.backward(_cast(params, dtype), cache, _cast(dy, dtype))
    dparams = map_leaves(lambda leaf, of_params: leaf.summed_in(of_params.dtype), dparams, params)
    return dparams, _cast(dx, _floating_type(dy))


def mixed_precision_second(
    layer: Layer, dtype: DTypeLike, params: Any, cache: Any, dy: PyTree[Array]
) -> PyTree[Array] | Bend | None:
    """f's second derivative in the short type, as dy's type."""
    assert layer.second is not None
    return _cast(layer.second(_cast(params, dtype), cache, _cast(dy, dtype)), _floating_type(dy))


def mixed_precision_decoder(layer: Layer, dtype: DTypeLike, length: int) -> Decoder:
    """f's own way to go on, in the short type, as is its state; y as by `mixed_precision_forward`."""
    assert callable(layer.decoder)
    short = layer.decoder(length)

    def start(params, x):
        return short.start(_cast(params, dtype), _cast(x, dtype))

    def step(params, state, x):
        long = _floating_type(x) or _floating_type(jax.eval_shape(layer.forward, params, x)[0])
        y, state = short.step(_cast(params, dtype), state, _cast(x, dtype))
        return _cast(y, long), state

    return Decoder(start, step, short.room)


def mixed_precision(net: Layer, dtype: DTypeLike = jnp.bfloat16) -> Layer:
    """The network with its arithmetic in a short type; parameters, gradients, inputs and outputs keep theirs.

    Args:
      net: any layer or network; combinators stay what they are, around layers in mixed precision.
      dtype: the short type, bfloat16 by default, which has float32's range: no scaling of the loss is needed.
        Integers and booleans never become of it.

    Returns:
      A layer with the same parameters. In bfloat16 a value has 8 bits: forward and signals err by some 2^-9,
      relatively, at each layer.

    Raises:
      ValueError: when dtype is no floating-point type.

    Source: Micikevicius et al., Mixed precision training, 2018; Kalamkar et al., A study of bfloat16 for deep learning
    training, 2019.

    Example:
      >>> net = jn.mixed_precision(jn.dense(3, 4))
      >>> params = net.init(key)
      >>> z, cache = net.forward(params, jnp.ones((5, 3)))
      >>> params.W.dtype, z.dtype, jax.tree.leaves(cache)[0].dtype
      (dtype('float32'), dtype('float32'), dtype(bfloat16))
    """
    instance_of(Layer, "mixed_precision", "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"mixed_precision: expected a floating-point type, got {jnp.dtype(dtype)}")
    return at_leaves(partial(_in_short_type, dtype), net)


def _in_short_type(dtype, layer):
    forward = partial(mixed_precision_forward, layer, dtype)
    return layer._replace(
        forward=named_as(layer.forward, forward),
        backward=partial(mixed_precision_backward, layer, dtype),
        second=None if layer.second is None else partial(mixed_precision_second, layer, dtype),
        decoder=partial(mixed_precision_decoder, layer, dtype) if callable(layer.decoder) else layer.decoder,
    )


def _cast(tree, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)


def _floating_type(tree):
    """The first there is; None of integers alone."""
    return next((leaf.dtype for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)), None)
