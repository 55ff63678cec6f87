"""How far an update points away from the gradient."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnet.norms import long_type, scale_of


def angle(update: PyTree[Array], gradient: PyTree[Array]) -> Float[Array, ""]:
    """The angle between two trees of the same structure, all their numbers in a row, in degrees from 0 to 180.

    Below 90 degrees, a small step along the one also lowers the loss whose gradient is the other. It does not change
    with the length of either, and is NaN where one is 0.

    Args:
      update, gradient: the structure of the parameters.

    Example:
      >>> round(float(jn.feedback.angle({"W": jnp.array([1.0, 0.0])}, {"W": jnp.array([1.0, 1.0])})), 1)
      45.0
    """
    unit, other = _unit(update), _unit(gradient)
    apart, together = (_norm(jax.tree.map(combine, unit, other)) for combine in (jnp.subtract, jnp.add))
    # Kahan's form, which keeps its digits near 0 and 180 where the cosine has lost them.
    return jnp.degrees(2 * jnp.arctan2(apart, together))


def _unit(tree):
    tree = jax.tree.map(lambda leaf: leaf.astype(long_type(leaf.dtype)), tree)
    # By the largest number first: the norm itself may be beyond the type.
    scale = scale_of(jnp.stack([jnp.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(tree)]).max())
    # Cut off at 4, which changes nothing but keeps the compiler from squaring what it knows before it is divided.
    tree = jax.tree.map(lambda leaf: jnp.clip(leaf * (1 / scale), -4, 4), tree)
    norm = _norm(tree)
    return jax.tree.map(lambda leaf: leaf / norm, tree)


def _norm(tree):
    return jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(tree)))
