"""How the gradients of a batch's examples differ."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import require_some
from jaxnet.factored import BUDGET, formed, map_leaves
from jaxnet.norms import joined, norm, scaled
from jaxnet.per_example.forms import number_of_examples, require_parameters, shares_of
from jaxnet.per_example.lengths import norms_of
from jaxnet.per_example.totals import mean


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

    Example:
      >>> jax.tree.map(jnp.shape, jn.per_example.second_moment(dparams)[0])
      Dense(W=(4, 3), b=(4,))
    """
    if weights is not None:
        shares = shares_of("second_moment", dparams, weights)
        dparams = formed(map_leaves(lambda leaf: leaf.counting(shares), dparams), budget, moments=True)
        return map_leaves(lambda leaf: leaf.square_total(shares), dparams)
    require_some("per_example.second_moment", number_of_examples("second_moment", dparams))
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

    Example:
      >>> variance = jn.per_example.variance(dparams)[0].W
      >>> bool(jnp.allclose(variance, jn.per_example.each(dparams)[0].W.var(0), atol=1e-6))
      True
    """
    require_some("per_example.variance", number_of_examples("variance", dparams))
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

    Example:
      >>> jax.tree.map(jnp.shape, jn.per_example.signal_to_noise(dparams)[0])
      Dense(W=(4, 3), b=(4,))
    """
    require_some("per_example.signal_to_noise", number_of_examples("signal_to_noise", dparams))
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

    Example:
      >>> round(float(jn.per_example.noise_scale(dparams)), 1)
      4.9
    """
    require_parameters("noise_scale", dparams)
    examples = number_of_examples("noise_scale", dparams)
    if examples < 2:
        raise ValueError(f"per_example.noise_scale: expected at least two examples, got {examples}")
    shares = None if weights is None else shares_of("noise_scale", dparams, weights)
    if shares is not None:
        dparams = map_leaves(lambda leaf: leaf.counting(shares), dparams)
    dparams = formed(dparams, budget)
    lengths, of_mean = norms_of("noise_scale", dparams), mean(dparams, shares)
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
