"""Batches of differentially private training: each example is in each of them by itself, with the same probability."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxnet.arguments import positive_integer, shown

BITS = 2**32


def poisson_batches(
    key: Key[Array, ""], steps: Int[Array, " k"], examples: int, rate: float, size: int
) -> tuple[Int[Array, "k m"], Float[Array, "k m"]]:
    """Which examples make up the batches of some steps, each by itself with probability q, in arrays of one shape.

    A batch depends on the key and on the number of its step alone, so that training that goes on at some step sees the
    batches it would have seen. q is rounded down, to a multiple of 2^-32. Of more examples than find room the last ones
    are left out: choose m so large that this hardly ever happens, and add the probability to delta. Draws `examples`
    numbers for each step.

    Args:
      key: decides which; for privacy not to be guessed, and never to be told.
      steps: (k,), the numbers of the steps.
      examples: n, how many there are.
      rate: q, above 0 and at most 1; q n examples are expected in a batch.
      size: m, at least 1, for how many examples there is room.

    Returns:
      rows (k, m), the numbers of the examples, and weights (k, m): 1 over the examples in the batch, and 0 for what
      fills it up. All are 0 where the batch is empty.

    Raises:
      ValueError: when examples, rate or size are out of their ranges.

    Source: Abadi et al., Deep learning with differential privacy, 2016, section 3.1; for rows that find no room, Chua
    et al., Scalable DP-SGD: shuffling vs. Poisson subsampling, 2024.

    Example:
      >>> rows, weights = jn.poisson_batches(key, jnp.arange(3), examples=100, rate=0.05, size=16)
      >>> rows.shape, (weights > 0).sum(1)  # how many examples each of the three batches has
      ((3, 16), Array([ 8, 10,  3], dtype=int32))
    """
    examples = positive_integer("poisson_batches", "examples", examples)
    size = positive_integer("poisson_batches", "size", size)
    if not (hasattr(rate, "__float__") and 0 < rate <= 1):
        raise ValueError(f"poisson_batches: expected rate to be above 0 and at most 1, got {shown(rate)}")
    # 2^32 is no number of 32 bits: where every example is in every batch, nothing is drawn.
    below = None if rate == 1 else jnp.uint32(int(float(rate) * BITS))

    def batch(step):
        if below is None:
            drawn = jnp.ones(examples, bool)
        else:
            drawn = jax.random.bits(jax.random.fold_in(key, step), (examples,), jnp.uint32) < below
        (rows,) = jnp.nonzero(drawn, size=size, fill_value=0)
        present = (jnp.arange(size) < drawn.sum()).astype(float)
        return rows, present / jnp.maximum(present.sum(), jnp.ones((), present.dtype))

    return lax.map(batch, steps)
