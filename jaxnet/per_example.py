"""What can be read off a backward pass: the mean gradient, and what every single example's gradient tells.

`backward` returns per-example gradients in factored form, `dparams`; g_i stands for that of example i, all parameters
together. A reading contracts the factors; only `each` forms the gradients. Readings of the same `dparams` under one
`jax.jit` share the forward and the backward pass.

With m examples and P parameters the gradient takes about 6 m P operations. Where a reading's cost is given it comes on
top, for weights without positions; T positions make it T times as much, T^2 where they are paired (see `Outer`). So
with positions gradients are formed before they are read where that is cheaper (see `formed`).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import require_some
from jaxnet.clipping import clipped, clipped_mean
from jaxnet.factored import BUDGET, Each, Factored, Outer, Reading, Sum, formed, map_leaves
from jaxnet.norms import joined, norm, scaled
from jaxnet.weighting import check_weights

__all__ = [
    "Each",
    "Factored",
    "Outer",
    "Reading",
    "Sum",
    "add",
    "clipped",
    "clipped_mean",
    "dot",
    "each",
    "formed",
    "gram",
    "mean",
    "noise_scale",
    "norms",
    "second_moment",
    "signal_to_noise",
    "squared_norms",
    "squared_norms_by_leaf",
    "total",
    "variance",
]


def __dir__() -> list[str]:
    return __all__


def total(dparams: PyTree[Any], weights: Float[Array, " m"] | None = None) -> PyTree[Array]:
    """The weighted sum of the examples' gradients: sum_i weights_i g_i.

    Args:
      dparams: what a layer's `backward` returned, factored per-example gradients at its leaves.
      weights: (m,), a weight for each example; None for ones. Zero leaves an example out, whatever its factors hold.

    Returns:
      Gradients with the structure and shapes of the parameters.

    Raises:
      ValueError: when the weights are not one for each example.

    Source: the lesson, S9: dW = (1/m) dZ^T A is the total with weights 1/m.
    """
    if weights is None or not _factors(dparams):
        return map_leaves(lambda leaf: leaf.total(None), dparams)
    check_weights("per_example.total", weights, (_examples(dparams),))
    return map_leaves(lambda leaf: leaf.counting(weights).total(weights), dparams)


def mean(dparams: PyTree[Any], weights: Float[Array, " m"] | None = None) -> PyTree[Array]:
    """The gradient of the mean loss: (1/m) sum_i g_i; dW = (1/m) dZ^T A and db = (1/m) sum_i dz_i for `dense`.

    Args:
      dparams: what a layer's `backward` returned, factored per-example gradients at its leaves.
      weights: (m,), at least 0: each example counts weights_i / sum_j weights_j in place of 1/m; None for 1/m. Zero
        leaves an example out. Where all are 0 there is no mean, and it is NaN.

    Returns:
      Gradients with the structure and shapes of the parameters, equal to `jax.grad` of the mean loss.

    Raises:
      ValueError: when there is no example to average over, or the weights are not one for each example.

    Source: the lesson, S9.
    """
    if weights is not None:
        return total(dparams, _shares("mean", dparams, weights))
    require_some("per_example.mean", _examples(dparams))
    return map_leaves(lambda leaf: leaf.total(None) / leaf.examples, dparams)


def each(dparams: PyTree[Any]) -> PyTree[Array]:
    """Every example's gradient g_i, formed: m times the memory of the parameters. What else is here does without.

    Args:
      dparams: what `backward` returned.

    Returns:
      The structure of the parameters; a leaf has their shape behind a leading axis of m examples.

    Source: BatchGrad in Dangel et al., BackPACK: Packing more into backprop, 2020, whose values for a mean loss are 1/m
    of these.
    """
    return map_leaves(lambda leaf: leaf.each(), dparams)


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
    """
    return _norms("norms", dparams)


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
    """
    return _norms("squared_norms", dparams) ** 2


def squared_norms_by_leaf(dparams: PyTree[Any]) -> PyTree[Float[Array, " m"]]:
    """Each example's squared gradient norm for every parameter by itself: the parameters' structure, (m,) at a leaf.

    Args:
      dparams: what `backward` returned.

    Source: as for `squared_norms`, which is their sum.
    """
    return map_leaves(lambda leaf: leaf.long().norms() ** 2, dparams)


def second_moment(
    dparams: PyTree[Any], weights: Float[Array, " m"] | None = None, budget: int = BUDGET
) -> PyTree[Array]:
    """The mean of the squared gradients, element by element: (1/m) sum_i g_i^2, for a weight (dz^2)^T (a^2) / m.

    The diagonal of the empirical Fisher matrix. One product of matrices more, 2 m P.

    Args:
      dparams: what `backward` returned.
      weights: as for `mean`.
      budget: as for `formed`.

    Returns:
      The structure and shapes of the parameters.

    Source: SumGradSquared in Dangel et al., BackPACK, 2020, whose values for a mean loss are 1/m of these.
    """
    if weights is not None:
        shares = _shares("second_moment", dparams, weights)
        dparams = formed(map_leaves(lambda leaf: leaf.counting(shares), dparams), budget, moments=True)
        return map_leaves(lambda leaf: leaf.square_total(shares), dparams)
    require_some("per_example.second_moment", _examples(dparams))
    dparams = formed(dparams, budget, moments=True)
    return map_leaves(lambda leaf: leaf.square_total(None) / leaf.examples, dparams)


def variance(dparams: PyTree[Any], weights: Float[Array, " m"] | None = None, budget: int = BUDGET) -> PyTree[Array]:
    """The population variance of the gradients, element by element: (1/m) sum_i g_i^2 - ((1/m) sum_i g_i)^2.

    No further product once the mean and the second moment are read. As a difference it loses digits where the
    variance is far below the squared mean, and is cut off at 0.

    Args:
      dparams: what `backward` returned.
      weights: as for `mean`.
      budget: as for `formed`.

    Returns:
      The structure and shapes of the parameters; times m / (m - 1) it is the unbiased estimate.

    Source: Variance in Dangel et al., BackPACK, 2020, whose values for a mean loss are 1/m^2 of these.
    """
    require_some("per_example.variance", _examples(dparams))
    dparams = formed(dparams, budget, moments=True)
    moments, means = second_moment(dparams, weights, budget=0), mean(dparams, weights)
    return jax.tree.map(lambda moment, mean: jnp.maximum(moment - mean**2, 0), moments, means)


def signal_to_noise(
    dparams: PyTree[Any], weights: Float[Array, " m"] | None = None, budget: int = BUDGET
) -> PyTree[Array]:
    """How far the gradient stands out of the differences between examples: mean^2 / variance, element by element.

    Args:
      dparams: what `backward` returned.
      weights: as for `mean`.
      budget: as for `formed`.

    Returns:
      The structure and shapes of the parameters; infinite where all examples agree, NaN where all are 0.

    Source: Liu et al., Understanding why neural networks generalize well through GSNR of parameters, 2020, equation 2.
    """
    require_some("per_example.signal_to_noise", _examples(dparams))
    dparams = formed(dparams, budget, moments=True)
    means, variances = mean(dparams, weights), variance(dparams, weights, budget=0)
    return jax.tree.map(lambda mean, variance: mean**2 / variance, means, variances)


def noise_scale(
    dparams: PyTree[Any], weights: Float[Array, " m"] | None = None, budget: int = BUDGET
) -> Float[Array, ""]:
    """The batch size at which noise and gradient are of equal size: B = tr(Sigma) / |G|^2, in examples.

    From the batch's own norms, unbiased above and below: tr(Sigma) = (mean_i |g_i|^2 - |mean_i g_i|^2) m / (m - 1)
    and |G|^2 = |mean_i g_i|^2 - tr(Sigma) / m. The latter can be negative where the batch is far below B, and so can
    the outcome; averages of both over several batches, then divided, are steadier.

    Args:
      dparams: what `backward` returned, for at least two examples.
      weights: as for `mean`. With shares p_i = weights_i / sum_j weights_j of the examples, m is 1 / sum_i p_i^2: how
        many count, where those that do weigh alike.
      budget: as for `formed`.

    Returns:
      A scalar; NaN where fewer than two examples have a weight.

    Raises:
      ValueError: when there are fewer than two examples, or the weights are not one for each.

    Source: McCandlish et al., An empirical model of large-batch training, 2018, equation 2.9 and appendix A.1.
    """
    examples = _examples(dparams)
    if examples < 2:
        raise ValueError(f"per_example.noise_scale: expected at least two examples, got {examples}")
    shares = None if weights is None else _shares("noise_scale", dparams, weights)
    if shares is not None:
        dparams = map_leaves(lambda leaf: leaf.counting(shares), dparams)
    dparams = formed(dparams, budget)
    lengths, of_mean = _norms("noise_scale", dparams), mean(dparams, shares)
    # In units of the longest gradient, which do not change the ratio, squares neither overflow nor vanish.
    unit, scale = scaled(lengths, (0,))
    of_leaves = [norm(leaf.astype(lengths.dtype), tuple(range(leaf.ndim))) for leaf in jax.tree.leaves(of_mean)]
    squared_mean = (joined(of_leaves) * (1 / scale.squeeze(0))) ** 2
    if shares is None:
        count, mean_square = examples, (unit**2).mean()
    else:
        shares = shares.astype(lengths.dtype)
        count, mean_square = 1 / (shares**2).sum(), (shares * unit**2).sum()
    noise = (mean_square - squared_mean) * (count / (count - 1))
    return noise / (squared_mean - noise / count)


def dot(dparams: PyTree[Any], direction: PyTree[Array]) -> Float[Array, " m"]:
    """Each example's gradient along a given direction: <g_i, d>, (m,). One product of matrices, 2 m P.

    Args:
      dparams: what `backward` returned.
      direction: the structure and shapes of the parameters, such as the mean gradient or an update.

    Returns:
      (m,): the change of each example's loss for a small step along d.

    Raises:
      ValueError: when there are no parameters.
    """
    return _sum_of_leaves("dot", map_leaves(lambda leaf, along: leaf.dot(along), dparams, direction))


def gram(dparams: PyTree[Any], other: PyTree[Any] | None = None) -> Float[Array, "m n"]:
    """All inner products of two examples' gradients: K_ij = <g_i, g_j>, (m, m).

    A weight adds (dZ dZ^T) * (A A^T): O(m^2 (o + i)).

    Args:
      dparams: what `backward` returned.
      other: another batch's, through the same parameters; by default the same batch.

    Returns:
      (m, n): examples of the first by examples of the other.

    Raises:
      ValueError: when there are no parameters.

    Source: BatchDotGrad in Dangel et al., BackPACK, 2020.
    """
    inner = map_leaves(
        lambda leaf, leaf_of_other: leaf.inner(leaf_of_other), dparams, dparams if other is None else other
    )
    return _sum_of_leaves("gram", inner)


def add(dparams: PyTree[Any], other: PyTree[Any]) -> PyTree[Any]:
    """The factored gradients of parameters used twice, from those of each use.

    Args:
      dparams, other: what `backward` returned at the first and at the second use of the same parameters.

    Returns:
      Factored gradients whose every reading is that of g_i + g'_i, none of them formed; outer products gain positions,
      and uses of unlike forms become a `Sum`.
    """
    # What was read of each use already, such as its total, is a number for each.
    return map_leaves(lambda leaf, more: leaf.add(more) if hasattr(leaf, "add") else leaf + more, dparams, other)


def _norms(reading, dparams):
    _require_parameters(reading, dparams)
    return joined(jax.tree.leaves(map_leaves(lambda leaf: leaf.long().norms(), dparams)))


def _shares(reading, dparams, weights):
    """weights_i / sum_j weights_j."""
    if _factors(dparams):
        check_weights(f"per_example.{reading}", weights, (_examples(dparams),))
    return weights / jnp.sum(weights)


def _sum_of_leaves(reading, tree):
    leaves = jax.tree.leaves(tree)
    _require_parameters(reading, leaves)
    return sum(leaves[1:], start=leaves[0])


def _require_parameters(reading, tree):
    if not jax.tree.leaves(tree):
        raise ValueError(f"per_example.{reading}: expected parameters, got none")


def _factors(dparams):
    return jax.tree.leaves(dparams, is_leaf=lambda leaf: isinstance(leaf, Factored))


def _examples(dparams):
    leaves = _factors(dparams)
    return leaves[0].examples if leaves else 1
