"""The linear part of a layer of neurons: z = x W^T + b."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet import initializers
from jaxnet.arguments import positive_integer
from jaxnet.factored import Each, Outer
from jaxnet.layer import Layer


class Dense(NamedTuple):
    """The parameters of `dense`, or whatever has their structure: gradients, factored gradients, moments.

    Attributes:
      W: weights (o, i), a row for each neuron.
      b: bias (o,); None for a layer without one.
    """

    W: Any
    b: Any = None


def dense_init(inputs, outputs, weight_init, bias_init, key):
    weight_key, bias_key = jax.random.split(key)
    if bias_init is None:
        return Dense(W=weight_init(weight_key, (outputs, inputs)))
    return Dense(W=weight_init(weight_key, (outputs, inputs)), b=bias_init(bias_key, (outputs,)))


def dense_forward(
    inputs: int, outputs: int, params: Dense, x: Float[Array, "*mt i"], *, bias: bool = True
) -> tuple[Float[Array, "*mt o"], Float[Array, "*mt i"]]:
    """z = x W^T + b, for samples as rows. The cache is x."""
    x = jnp.asarray(x)
    _check_params(inputs, outputs, bias, params)
    _check_input(params, x)
    if not bias:
        return x @ params.W.T, x
    z = x @ params.W.T + jnp.expand_dims(params.b, range(x.ndim - 1))
    return z, x


def dense_backward(
    inputs: int,
    outputs: int,
    params: Dense,
    x: Float[Array, "m *t i"],
    dz: Float[Array, "m *t o"],
    *,
    bias: bool = True,
) -> tuple[Dense, Float[Array, "m *t i"]]:
    """From z_j = sum_i W_ji x_i + b_j of each example: dW_ji = dz_j x_i, db_j = dz_j, dx_i = sum_j dz_j W_ji."""
    _check_params(inputs, outputs, bias, params)
    _check_cotangent(params, x, dz)
    dparams = Dense(W=Outer(dz, x, jax.typeof(params.W).sharding), b=Each(dz) if bias else None)
    # Laid out as x is: on a mesh with explicit axes, dz W over spread neurons is ambiguous.
    dx = jnp.matmul(dz, params.W, out_sharding=jax.typeof(x).sharding)
    return dparams, dx


def dense_second(params: Dense, x: Float[Array, "m *t i"], dz: Float[Array, "m *t o"]) -> None:
    """z is linear in x, and in W and b."""


def dense(
    inputs: SupportsIndex,
    outputs: SupportsIndex,
    *,
    bias: bool = True,
    weight_init: Callable[..., Array] = initializers.glorot,
    bias_init: Callable[..., Array] = initializers.zeros,
) -> Layer:
    """A layer of `outputs` linear neurons: z = x W^T + b.

    Args:
      inputs: the number of features i of `x (m, ..., i)`, at least 1.
      outputs: the number of neurons o of `z (m, ..., o)`, at least 1.
      bias: whether there is b. Without it z = x W^T.
      weight_init: `(key, (o, i)) -> W`, see `jaxnet.initializers`.
      bias_init: `(key, (o,)) -> b`.

    Returns:
      A layer with parameters `Dense(W (o, i), b (o,))`; without a bias b is None.

    Raises:
      ValueError: when a size is not a positive integer; and, when the layer is traced, if the parameters are of other
        sizes, or x has another number of features or another dtype than W.

    Source: the lesson (docs/lesson.md), S2 and S3.

    Example:
      >>> layer = jn.dense(3, 4)
      >>> params = layer.init(key)
      >>> jax.tree.map(jnp.shape, params)
      Dense(W=(4, 3), b=(4,))
      >>> z, cache = layer.forward(params, jnp.ones((5, 3)))
      >>> dparams, dx = layer.backward(params, cache, jnp.ones((5, 4)))
      >>> z.shape, dx.shape, jn.per_example.norms(dparams).shape
      ((5, 4), (5, 3), (5,))
    """
    sizes = positive_integer("dense", "inputs", inputs), positive_integer("dense", "outputs", outputs)
    forward, backward = partial(dense_forward, *sizes), partial(dense_backward, *sizes)
    if not bias:
        forward, backward = partial(forward, bias=False), partial(backward, bias=False)
    return Layer(
        partial(dense_init, *sizes, weight_init, bias_init if bias else None),
        forward,
        backward,
        dense_second,
        "linear",
    )


def _label(params):
    outputs, inputs = params.W.shape
    return f"dense({inputs}, {outputs}{'' if params.b is not None else ', bias=False'})"


def _check_params(inputs, outputs, bias, params):
    label = f"dense({inputs}, {outputs}{'' if bias else ', bias=False'})"
    if not isinstance(params, Dense):
        raise ValueError(f"{label}: expected parameters Dense(W, b), got a {type(params).__name__}")
    W, b = (None if leaf is None else jnp.shape(leaf) for leaf in params)
    expected = (outputs,) if bias else None
    if (W, b) != ((outputs, inputs), expected):
        raise ValueError(
            f"{label}: expected parameters W {(outputs, inputs)} and b {expected}, "
            f"got W {W} and b {b}; they are another layer's"
        )


def _check_input(params, x):
    inputs = params.W.shape[1]
    if x.ndim == 0 or x.shape[-1] != inputs:
        raise ValueError(f"{_label(params)}: expected x of shape (m, ..., {inputs}), got {x.shape}")
    if x.dtype != params.W.dtype:
        raise ValueError(
            f"{_label(params)}: expected x of W's dtype {params.W.dtype}, got {x.dtype}; "
            f"convert it with x.astype('{params.W.dtype}')"
        )


def _check_cotangent(params, x, dz):
    if x.ndim < 2:
        raise ValueError(
            f"{_label(params)}: backward needs the examples as the first axis, got x of shape {x.shape}; "
            "pass a single example as x[None]"
        )
    expected = (*x.shape[:-1], params.W.shape[0])
    if dz.shape != expected:
        raise ValueError(f"{_label(params)}: expected dz of shape {expected}, that of z, got {dz.shape}")
