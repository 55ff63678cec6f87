"""The gradients added up, or each by itself."""

from typing import Any

from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import require_some
from jaxnet.factored import map_leaves, require_forms
from jaxnet.per_example.forms import forms_of, number_of_examples, shares_of
from jaxnet.weighting import check_weights


def total(dparams: PyTree[Any], weights: Float[Array, " m"] | None = None) -> PyTree[Array]:
    """The weighted sum of the examples' gradients: sum_i weights_i g_i.

    Args:
      dparams: what a layer's `backward` returned, factored per-example gradients at its leaves.
      weights: (m,), a weight for each example; None for ones. Zero leaves an example out, whatever its factors hold.

    Returns:
      Gradients with the structure and shapes of the parameters.

    Raises:
      ValueError: when the weights are not one for each example.

    Source: the lesson (docs/lesson.md), S9: dW = (1/m) dZ^T A is the total with weights 1/m.

    Example:
      >>> grads = jn.per_example.total(dparams, jnp.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0]))  # the first example's
      >>> bool(jnp.allclose(grads[0].W, jn.per_example.each(dparams)[0].W[0]))
      True
    """
    require_forms("per_example.total", dparams)
    if weights is None or not forms_of(dparams):
        return map_leaves(lambda leaf: leaf.total(None), dparams)
    check_weights("per_example.total", weights, (number_of_examples("total", dparams),))
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

    Source: the lesson (docs/lesson.md), S9.

    Example:
      >>> grads = jn.per_example.mean(dparams)
      >>> jax.tree.map(jnp.shape, grads[0])
      Dense(W=(4, 3), b=(4,))
    """
    if weights is not None:
        return total(dparams, shares_of("mean", dparams, weights))
    require_some("per_example.mean", number_of_examples("mean", dparams))
    return map_leaves(lambda leaf: leaf.total(None) / leaf.examples, dparams)


def each(dparams: PyTree[Any]) -> PyTree[Array]:
    """Every example's gradient g_i, formed: m times the memory of the parameters. What else is here does without.

    Args:
      dparams: what `backward` returned.

    Returns:
      The structure of the parameters; a leaf has their shape behind a leading axis of m examples.

    Source: BatchGrad in Dangel et al., BackPACK: Packing more into backprop, 2020, whose values for a mean loss are 1/m
    of these.

    Example:
      >>> jax.tree.map(jnp.shape, jn.per_example.each(dparams)[0])
      Dense(W=(6, 4, 3), b=(6, 4))
    """
    require_forms("per_example.each", dparams)
    return map_leaves(lambda leaf: leaf.each(), dparams)


def add(dparams: PyTree[Any], other: PyTree[Any]) -> PyTree[Any]:
    """The factored gradients of parameters used twice, from those of each use.

    Args:
      dparams, other: what `backward` returned at the first and at the second use of the same parameters.

    Returns:
      Factored gradients whose every reading is that of g_i + g'_i, none of them formed; outer products gain positions,
      and uses of unlike forms become a `Sum`.

    Example:
      >>> twice = jn.per_example.add(dparams, dparams)
      >>> bool(jnp.allclose(jn.per_example.norms(twice), 2 * jn.per_example.norms(dparams)))
      True
    """
    # What was read of each use already, such as its total, is a number for each.
    return map_leaves(lambda leaf, more: leaf.add(more) if hasattr(leaf, "add") else leaf + more, dparams, other)
