"""Features of several arrays beside one another; what comes back is taken apart again."""

from typing import TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet.layer import Layer

Parts: TypeAlias = tuple[Float[Array, "m ..."], ...]
Shapes: TypeAlias = tuple[Float[Array, "0 ..."], ...]


def concatenate_forward(params: tuple[()], x: Parts) -> tuple[Float[Array, "m ..."], Shapes]:
    """y = (x_1, ..., x_n) along the features. The cache is the parts' shapes."""
    if not isinstance(x, tuple) or not x or len({jnp.shape(part)[:-1] for part in x}) > 1:
        got = ", ".join(str(jnp.shape(part)) for part in x) if isinstance(x, tuple) else f"a {type(x).__name__}"
        raise ValueError(
            f"concatenate: expected a tuple of arrays of one shape but for their features, the last axis, got {got}"
        )
    return jnp.concatenate(x, axis=-1), tuple(part[:0] for part in x)


def concatenate_backward(params: tuple[()], of_parts: Shapes, dy: Float[Array, "m ..."]) -> tuple[tuple[()], Parts]:
    """dx_k is what of dy came to its features."""
    ends = [sum(part.shape[-1] for part in of_parts[: k + 1]) for k in range(len(of_parts))]
    starts = [0, *ends[:-1]]
    return params, tuple(dy[..., start:end] for start, end in zip(starts, ends, strict=True))


def concatenate_second(params: tuple[()], of_parts: Shapes, dy: Float[Array, "m ..."]) -> None:
    """y is linear in x."""


def _no_parameters(key):
    return ()


concatenate = Layer(
    _no_parameters, concatenate_forward, concatenate_backward, concatenate_second, decoder="positionwise"
)
"""y (m, ..., d_1 + ... + d_n) of a tuple of arrays (m, ..., d_k): features beside one another. It keeps nothing."""
