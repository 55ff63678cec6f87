"""Gradients of single examples shortened to a length of at most C, so that none counts for more.

That the length is at most C is what noise for differential privacy is scaled to: it holds for the numbers that come
out, whatever was rounded on the way. So norms are of scaled factors, in float32 at least, and a little too long rather
than too short; and what is summed in a long type is rounded to a short one towards 0. Where matrix products round even
float32 factors unless told not to, as on GPUs and TPUs, that takes `jax.default_matmul_precision("highest")`.

Weights min(1, C / |g_i|) may be smaller than the least number of the type where gradients are long and C is small. They
are multiplied by a power r of 2 that lies half way, and their sum is divided by it.
"""

import math
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import require_some, shown
from jaxnet.factored import BUDGET, Factored, Reading, formed, map_leaves, require_forms
from jaxnet.norms import joined, toward_zero
from jaxnet.weighting import check_weights, counting

Norm: TypeAlias = float | Float[Array, ""]


def clipped_mean(
    dparams: PyTree[Any], max_norm: PyTree[Norm], budget: int = BUDGET, *, mask: PyTree[bool] | None = None
) -> PyTree[Array]:
    """The mean of the examples' gradients, each shortened to a length of at most C: (1/m) sum_i min(1, C / |g_i|) g_i.

    One backward pass: the norms are read, then the total is, with the factors as weights: one product of matrices,
    2 m P, in place of the mean's; with positions the gradients are formed first where that is cheaper, see
    `per_example.formed`. Lengths may lie anywhere in the type's range; a gradient that is not finite, or
    longer than the type's largest number, makes the outcome NaN.

    Args:
      dparams: what `backward` returned.
      max_norm: C, positive and finite, for the gradient of all parameters together; or one number for every part, in a
        pytree that begins as the parameters do (such as a tuple with a number for each layer of a chain), which clips
        each part's gradient by its own norm. A C that is 0 in the gradient's type makes the outcome NaN, and under
        `jax.jit`, where its value is not known, so does any that is not positive.
      budget: as for `per_example.formed`.
      mask: which parameters are trained, as optax has masks: True or False for each, in a pytree that begins as the
        parameters do. What is left out, such as frozen layers, has no share in an example's norm, and gradient 0.

    Returns:
      Gradients with the structure and shapes of the parameters.

    Raises:
      ValueError: when C is out of its range, C or the mask of another structure, or there is no example.

    Source: Abadi et al., Deep learning with differential privacy, 2016, algorithm 1; in factored form Lee and Kifer,
    Scaling up differentially private deep learning with fast per-example gradient clipping, 2020.

    Example:
      >>> grads = jn.per_example.clipped_mean(dparams, 1.0)
      >>> length = jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(grads)))
      >>> bool(length <= 1)
      True
    """
    check_max_norm("per_example.clipped_mean", max_norm)
    check_mask("per_example.clipped_mean", mask)
    return _read("per_example.clipped_mean", max_norm, None, budget, mask, False, dparams, None)


def clipped(
    max_norm: PyTree[Norm],
    batch_size: int | float | None = None,
    budget: int = BUDGET,
    *,
    mask: PyTree[bool] | None = None,
    drop_not_finite: bool = False,
) -> Reading:
    """`clipped_mean` as the `read` of `value_and_grad`: sum_i w_i min(1, C / |g_i|) g_i, with 1/m for no weights.

    Where no example is clipped, that is the gradient of J = sum_i w_i L_i.

    Args:
      max_norm: as for `clipped_mean`.
      batch_size: B, at least 1: what the sum is divided by, however many examples there are, even none. Of batches
        drawn at random it is the number that is expected. The example of the largest weight then counts 1/B, and the
        others in proportion: (1/B) sum_i (w_i / max_j |w_j|) min(1, C / |g_i|) g_i, the clipped gradient of J divided
        by B max_j |w_j|. So no example's share is longer than C / B, also in a smaller batch. That is what noise for
        differential privacy is scaled to, where all weights are alike or 0: an example more or less then moves the
        outcome by its share alone.
      budget: as for `per_example.formed`.
      mask: as for `clipped_mean`. Noise for privacy, and steps, then are to leave out the same parameters:
        `optax.masked(..., mask)`.
      drop_not_finite: whether an example whose gradient is not finite, or longer than the type's largest number, counts
        as 0; by default it makes the outcome NaN. For privacy: one example would be seen in all that comes after.

    Returns:
      `(dparams, weights) -> grads`, which has `value_and_grad` form gradients inside `repeat`'s scan, too. An example
      of weight 0 is left out, whatever its factors hold; a weight may be negative.

    Raises:
      ValueError: when C, B or the mask is out of its range; when called, if there is no example and no B, or if the
        weights are not one for each example.

    Example:
      >>> step = jn.value_and_grad(net, loss, read=jn.per_example.clipped(1.0))
      >>> J, grads = step(params, x, y)
      >>> bool(jnp.allclose(grads[0].W, jn.per_example.clipped_mean(dparams, 1.0)[0].W))
      True
    """
    check_max_norm("per_example.clipped", max_norm)
    if batch_size is not None and not (hasattr(batch_size, "__float__") and batch_size >= 1):
        raise ValueError(f"per_example.clipped: expected batch_size to be at least 1, got {shown(batch_size)}")

    check_mask("per_example.clipped", mask)
    return Reading(partial(_read, "per_example.clipped", max_norm, batch_size, budget, mask, drop_not_finite))


def check_max_norm(name: str, max_norm: PyTree[Norm]) -> None:
    """Refuses a C that is not one positive and finite number, where its value is known."""
    for path, most in jax.tree_util.tree_leaves_with_path(max_norm, is_leaf=lambda leaf: leaf is None):
        if np.shape(most) != ():
            got = f"shape {np.shape(most)}"
        elif not hasattr(most, "__float__"):
            got = shown(most)
        elif isinstance(most, jax.core.Tracer) or 0 < float(most) < math.inf:
            continue
        else:
            got = f"{float(most):g}"
        where = f"max_norm{jax.tree_util.keystr(path)}"
        raise ValueError(f"{name}: expected {where} to be one positive and finite number, got {got}")


def check_mask(name: str, mask: PyTree[bool] | None) -> None:
    """Refuses a mask of anything but True and False, which have to be known when traced."""
    for path, trained in [] if mask is None else jax.tree_util.tree_leaves_with_path(mask):
        if not isinstance(trained, bool | np.bool_):
            where = f"mask{jax.tree_util.keystr(path)}"
            raise ValueError(f"{name}: expected {where} to be True or False, got {shown(trained)}")


def _read(name, max_norm, batch_size, budget, mask, drop_not_finite, dparams, weights):
    require_forms(name, dparams)
    if mask is not None:
        trained = _trained(name, mask, dparams)
        grads = _read(name, max_norm, batch_size, budget, None, drop_not_finite, trained, weights)
        return map_leaves(lambda leaf, of_leaf: _zeros(leaf) if of_leaf is None else of_leaf, dparams, grads)
    leaves = jax.tree.leaves(dparams, is_leaf=lambda leaf: isinstance(leaf, Factored))
    if not leaves:
        return dparams
    examples = leaves[0].examples
    if batch_size is None:
        require_some(name, examples)
    share: Any = 1 / (batch_size or examples)
    of_parts = jax.tree.structure(max_norm)
    if weights is not None:
        check_weights(name, weights, (examples,))
        dparams = map_leaves(lambda leaf: leaf.counting(weights), dparams)
        largest = jnp.abs(weights).max(initial=0)
        weights = weights / jnp.where(largest == 0, jnp.ones_like(largest), largest)
        share = share if batch_size else largest
    dparams = formed(dparams, budget)
    each_norm = zip(_parts(name, of_parts, dparams), jax.tree.leaves(max_norm), strict=True)
    totals = [_clipped_total(part, most, weights, share, drop_not_finite) for part, most in each_norm]
    return jax.tree.unflatten(of_parts, totals)


def _trained(name, mask, dparams):
    """The parameters' gradients, with None where the mask is False."""
    of_parts: Any = jax.tree.structure(mask)
    try:
        parts = of_parts.flatten_up_to(dparams)
    except ValueError:
        raise ValueError(f"{name}: expected a mask that begins as the parameters do, got {of_parts}") from None
    flags = jax.tree.leaves(mask)
    nothing = [part if flag else map_leaves(lambda leaf: None, part) for part, flag in zip(parts, flags, strict=True)]
    return jax.tree.unflatten(of_parts, nothing)


def _zeros(leaf):
    # As the gradient lies on a mesh; what is multiplied by nothing, jax.jit leaves out.
    return jnp.zeros_like(leaf.total(None))


def _parts(name, of_parts, dparams):
    try:
        return of_parts.flatten_up_to(dparams)
    except ValueError:
        raise ValueError(
            f"{name}: expected max_norm to be a number, or a pytree that begins as the parameters do, got {of_parts}"
        ) from None


def _clipped_total(dparams, max_norm, weights, share, drop_not_finite):
    """share sum_i weights_i min(1, C / |g_i|) g_i, for weights of at most 1."""
    long = map_leaves(lambda leaf: leaf.long(), dparams)
    leaves = jax.tree.leaves(long, is_leaf=lambda leaf: isinstance(leaf, Factored))
    if not leaves:
        return dparams
    lengths = joined([leaf.norms(_margin(leaf)) for leaf in leaves])
    if drop_not_finite:
        # A mask of numbers, as weights are.
        finite = jnp.isfinite(lengths).astype(lengths.dtype)
        long = map_leaves(lambda leaf: leaf.counting(finite), long)
        lengths = counting(finite, lengths)
    # A C beyond the type is beyond any gradient of it.
    most = max_norm if isinstance(max_norm, jax.Array) else min(float(max_norm), float(jnp.finfo(lengths.dtype).max))
    factors, r = _factors(lengths, jnp.asarray(most, lengths.dtype))
    factors = factors if weights is None else counting(weights, factors * weights.astype(factors.dtype))

    def read(leaf, short_leaf):
        total = leaf.total(factors)
        shared = total / r.astype(total.dtype) * jnp.asarray(share, total.dtype)
        return toward_zero(shared, short_leaf.dtype_of_total())

    return map_leaves(read, long, dparams)


def _factors(lengths, most):
    """(r min(1, C / |g_i|), r)."""
    longest = lax.stop_gradient(lengths.max(initial=0))
    half_way = jnp.maximum(jnp.sqrt(longest) / jnp.sqrt(most), jnp.ones_like(most))
    _, exponent = jnp.frexp(lax.stop_gradient(half_way))
    r = jnp.ldexp(jnp.ones_like(most), exponent - 1)
    r = jnp.where(jnp.isfinite(longest) & (most > 0), r, jnp.nan)
    too_long = lengths > most
    factors = jnp.where(too_long, most * r / jnp.where(too_long, lengths, jnp.ones_like(lengths)), r)
    return factors, r


def _margin(leaf):
    """How much rounding may change a sum over one example's factors, or their product, relative to its terms."""
    arrays = [array for array in jax.tree.leaves(leaf) if jnp.issubdtype(array.dtype, jnp.floating)]
    # Weighted factors are rounded to their own type, to nearest: by half a unit in each number.
    short = max(float(jnp.finfo(array.dtype).eps) / 2 for array in arrays)
    terms = max(array.shape[-1] if array.ndim > 1 else 1 for array in arrays)
    return short + (8 + 2 * terms**0.5) * float(jnp.finfo(leaf.dtype_of_total()).eps)
