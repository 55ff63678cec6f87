"""Several batches for one update: their gradients are averaged, and parameters stay as they are until the last."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Int


class Accumulated(NamedTuple):
    """What is kept between two updates.

    Attributes:
      total: the sum of the gradients since the last one.
      seen: of how many batches.
      inner: the optimizer's state.
    """

    total: Any
    seen: Int[Array, ""]
    inner: Any


def accumulated(optimizer: optax.GradientTransformation, batches: int) -> optax.GradientTransformationExtraArgs:
    """The optimizer, given the mean gradient of so many batches, in the last of them: g = (1/n) sum_k g_k.

    What else it looks at, such as the examples, are those of the last batch. Between two updates it is not computed,
    which `optax.MultiSteps` does for every batch.

    Args:
      optimizer: of the mean gradients.
      batches: n, at least 1.
    """
    inner = optax.with_extra_args_support(optimizer)

    def init(params):
        return Accumulated(jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32), inner.init(params))

    def update(grads, state, params=None, **beside):
        total = jax.tree.map(jnp.add, state.total, grads)
        nothing = jax.tree.map(jnp.zeros_like, total)

        def due(state):
            mean = jax.tree.map(lambda leaf: leaf / batches, total)
            updates, of_inner = inner.update(mean, state.inner, params, **beside)
            return updates, Accumulated(nothing, jnp.zeros_like(state.seen), of_inner)

        def early(state):
            return nothing, Accumulated(total, state.seen + 1, state.inner)

        return lax.cond(state.seen + 1 == batches, due, early, state)

    return optax.GradientTransformationExtraArgs(init, update)
