"""How a weight starts: JAX's initialisers, told that the outputs of `W (out, ..., in)` are its first axis.

Axes between are a convolution's window: `in` and `out` below then count the channels times its places.
"""

from collections.abc import Sequence

import jax
from jaxtyping import Array, DTypeLike

__all__ = [
    "glorot",
    "he",
    "lecun",
    "orthogonal",
    "small_normal",
    "zeros",
]


def __dir__() -> list[str]:
    return __all__


zeros = jax.nn.initializers.zeros
"""W = 0. Hidden neurons then stay identical for ever (the lesson's S12); right for biases."""


# Functions of a module, and not what JAX's makers return, so that a layer that holds them can be pickled.
def small_normal(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = float) -> Array:
    """W ~ N(0, 0.01^2), the lesson's start for sigmoid and tanh (S13): small, for |z| where the slope is large.

    Example:
      >>> round(float(jn.initializers.small_normal(key, (500, 200)).std()), 3)
      0.01
    """
    initialise = jax.nn.initializers.normal(0.01)
    return initialise(key, shape, dtype)


def he(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = float) -> Array:
    """W ~ N(0, 2 / in), truncated at two standard deviations: keeps the variance of what flows through ReLU units.

    Source: He et al., Delving Deep into Rectifiers, 2015, equation 10.

    Example:
      >>> round(float(jn.initializers.he(key, (500, 200)).var()), 3)  # 2 / 200
      0.01
    """
    initialise = jax.nn.initializers.he_normal(in_axis=-1, out_axis=0)
    return initialise(key, shape, dtype)


def lecun(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = float) -> Array:
    """W ~ N(0, 1 / in), truncated at two standard deviations: keeps the variance of sums, and through SELU.

    Rows of an embedding have lengths near 1.

    Source: LeCun et al., Efficient BackProp, 1998, equation 16.

    Example:
      >>> round(float(jn.initializers.lecun(key, (500, 200)).var()), 3)  # 1 / 200
      0.005
    """
    initialise = jax.nn.initializers.lecun_normal(in_axis=-1, out_axis=0)
    return initialise(key, shape, dtype)


def glorot(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = float) -> Array:
    """W ~ U(-r, r) with r = sqrt(6 / (in + out)): the compromise between keeping the variance forward and backward.

    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010,
    equation 16.

    Example:
      >>> W = jn.initializers.glorot(key, (4, 2))  # of 2 inputs and 4 outputs
      >>> bool(abs(W).max() <= 1)
      True
    """
    initialise = jax.nn.initializers.glorot_uniform(in_axis=-1, out_axis=0)
    return initialise(key, shape, dtype)


def orthogonal(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = float) -> Array:
    """W with W^T W = 1, drawn evenly: keeps the length of a state, and of its cotangent, from one time to the next.

    Where W (out, in) is no square, its rows or its columns are orthonormal, whichever are fewer.

    Source: Saxe et al., Exact solutions to the nonlinear dynamics of learning in deep linear neural networks, 2014.

    Example:
      >>> W = jn.initializers.orthogonal(key, (3, 3))
      >>> abs(W.T @ W)
      Array([[1., 0., 0.],
             [0., 1., 0.],
             [0., 0., 1.]], dtype=float32)
    """
    initialise = jax.nn.initializers.orthogonal(column_axis=0)
    return initialise(key, shape, dtype)
