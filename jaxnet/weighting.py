"""What an example's weight does: it takes the place of 1/m, and 0 leaves the example out, whatever it holds.

Zero times NaN is NaN: an example is left out by selection, in what goes forward (inputs and targets, so that no cache
holds what it would have made) and in what is summed.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxnet.norms import long_type


def examples_of(x: Any) -> Any:
    """How many examples inputs hold: the length of the first axis of each of their arrays."""
    return jnp.shape(jax.tree.leaves(x)[0])[0]


def check_weights(name: str, weights: Any, expected: tuple[Any, ...]) -> None:
    """Refuses weights that are not an array of one for each example, which would broadcast."""
    shape = getattr(weights, "shape", None)
    if shape != expected:
        got = f"a {type(weights).__name__}" if shape is None else shape
        one = "one for each example" if len(expected) == 1 else "one for each example of each batch"
        raise ValueError(f"{name}: expected weights of shape {expected}, {one}, got {got}")


def with_rows_that_count(weights: Float[Array, " m"], tree: Any) -> Any:
    """The arrays with each example of weight 0 replaced by the first of another: one that the network can take."""
    counts = jnp.asarray(weights) != 0
    number = jnp.arange(counts.shape[0])
    first = counts & (number == jnp.where(counts, number, counts.shape[0]).min(initial=counts.shape[0]))

    def replaced(leaf):
        if jnp.shape(leaf)[:1] != counts.shape:
            return leaf
        # A sum, of one row, works where the examples are spread over devices, and an index does not.
        leaf = jnp.asarray(leaf)
        row = jnp.where(along_examples(first, leaf), leaf, jnp.zeros_like(leaf)).sum(0, keepdims=True, dtype=leaf.dtype)
        return jnp.where(along_examples(counts, leaf), leaf, row)

    return jax.tree.map(replaced, tree)


def rows_that_count(name: str, weights: Float[Array, " m"] | None, x: Any, y: Any) -> tuple[Any, Any]:
    """x and y as they are; or with `with_rows_that_count`, for weights that are one for each example."""
    if weights is None:
        return x, y
    check_weights(name, weights, (examples_of(x),))
    return with_rows_that_count(weights, (x, y))


def along_examples(weights: Shaped[Array, " m"], signal: Shaped[Array, "m ..."]) -> Shaped[Array, "m ..."]:
    """Weights (m,) with as many axes as the signal."""
    return jnp.expand_dims(weights, tuple(range(1, signal.ndim)))


def counting(weights: Float[Array, " m"], signal: Shaped[Array, "m ..."]) -> Shaped[Array, "m ..."]:
    """The signal, but 0 for examples of weight 0."""
    return jnp.where(along_examples(weights, signal) != 0, signal, jnp.zeros_like(signal))


def weighted(weights: Float[Array, " m"], signal: Float[Array, "m ..."]) -> Float[Array, "m ..."]:
    """weights_i signal_i, multiplied in the long type and rounded to the signal's; 0 for a weight of 0."""
    long = long_type(signal.dtype)
    product = signal.astype(long) * along_examples(weights, signal).astype(long)
    return counting(weights, product).astype(signal.dtype)


def mean_loss(losses: Float[Array, " m"], weights: Float[Array, " m"] | None) -> Float[Array, ""]:
    """J = (1/m) sum_i L_i, or sum_i weights_i L_i; 0 of no examples."""
    if weights is not None:
        return weighted(weights, losses).sum()
    return losses.mean() if losses.shape[0] else losses.sum()
