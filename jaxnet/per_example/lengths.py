"""How long each example's gradient is."""

from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from jaxnet.factored import map_leaves, require_forms
from jaxnet.norms import joined
from jaxnet.per_example.forms import require_parameters


def norms(dparams: PyTree[Any]) -> Float[Array, " m"]:
    """Each example's gradient norm |g_i|, over all parameters: (m,), in float32 at least.

    A weight has |dz_i| |a_i|: no product of matrices, O(m (o + i)). With T positions the root of sum_ts <dz_t, dz_s>
    <a_t, a_s> where T (o + i) < o i, else |g_i| from that weight's gradients. The factors are scaled before they are
    squared, so that a norm is right wherever it is a number of the type.

    Args:
      dparams: what `backward` returned.

    Returns:
      (m,), in units of loss per parameter.

    Raises:
      ValueError: when there are no parameters.

    Source: Goodfellow, Efficient per-example gradient computations, 2015; with positions Rochette et al., Efficient
    per-example gradient computations in convolutional neural networks, 2019.

    Example:
      >>> jn.per_example.norms(dparams)
      Array([2.89, 1.9 , 1.8 , 3.29, 0.64, 2.36], dtype=float32)
    """
    return norms_of("norms", dparams)


def squared_norms(dparams: PyTree[Any]) -> Float[Array, " m"]:
    """Each example's squared gradient norm |g_i|^2, over all parameters: (m,), the square of `norms`.

    Args:
      dparams: what `backward` returned.

    Returns:
      (m,), in squared units of loss per parameter. In float32 the square is infinite for norms from 1.8e19 and 0 below
      1e-19, where the norm itself is not.

    Raises:
      ValueError: when there are no parameters.

    Source: as for `norms`.

    Example:
      >>> jn.per_example.squared_norms(dparams)
      Array([ 8.35,  3.61,  3.25, 10.86,  0.41,  5.55], dtype=float32)
    """
    return norms_of("squared_norms", dparams) ** 2


def squared_norms_by_leaf(dparams: PyTree[Any]) -> PyTree[Float[Array, " m"]]:
    """Each example's squared gradient norm for every parameter by itself: the parameters' structure, (m,) at a leaf.

    Args:
      dparams: what `backward` returned.

    Source: as for `squared_norms`, which is their sum.

    Example:
      >>> by_leaf = jn.per_example.squared_norms_by_leaf(dparams)
      >>> jax.tree.map(jnp.shape, by_leaf[0])
      Dense(W=(6,), b=(6,))
      >>> bool(jnp.allclose(sum(jax.tree.leaves(by_leaf)), jn.per_example.squared_norms(dparams)))
      True
    """
    require_forms("per_example.squared_norms_by_leaf", dparams)
    return map_leaves(lambda leaf: leaf.long().norms() ** 2, dparams)


def norms_of(reading, dparams):
    require_parameters(reading, dparams)
    require_forms(f"per_example.{reading}", dparams)
    return joined(jax.tree.leaves(map_leaves(lambda leaf: leaf.long().norms(), dparams)))
