"""What an example's positions are divided by: nothing for a sum, and for a mean the number of those that count."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnet.arguments import shown


def takes_mean(where: str, over_positions: Any) -> bool:
    """Whether "mean" was said; refuses what is neither it nor "sum"."""
    if over_positions not in ("sum", "mean"):
        raise ValueError(f"{where}: expected over_positions to be 'sum' or 'mean', got {shown(over_positions)}")
    return bool(over_positions == "mean")


def per_position(counts: Bool[Array, "..."], dtype: Any) -> Float[Array, "..."]:
    """How many of each example's positions count, at least 1, with as many axes as positions have."""
    number = counts.sum(tuple(range(1, counts.ndim)), keepdims=True)
    return jnp.maximum(number, 1).astype(dtype)
