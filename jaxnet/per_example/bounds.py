"""What each parameter's gradients are clipped to, where they are clipped one parameter at a time."""

import math
from typing import Any

import jax
from jaxtyping import PyTree

from jaxnet.clipping import check_max_norm
from jaxnet.per_example.forms import require_parameters


def even_norms(max_norm: float, params: PyTree[Any]) -> PyTree[float]:
    """A bound for each of L parameters by itself, such that an example counts for no more than C: C / sqrt(L).

    For `clipped` and `clipped_mean`, in place of C: a layer of long gradients then shortens no other layer's.

    Args:
      max_norm: C, for all parameters together, positive and finite.
      params: the parameters, or anything else of their structure.

    Returns:
      The structure of the parameters, with numbers.

    Raises:
      ValueError: when C is out of its range, or there are no parameters.

    Source: McMahan et al., Learning differentially private recurrent language models, 2018, section 3.3.

    Example:
      >>> bounds = jn.per_example.even_norms(1.0, params)  # four parameters
      >>> bounds[0]
      Dense(W=0.5, b=0.5)
      >>> jax.tree.map(jnp.shape, jn.per_example.clipped_mean(dparams, bounds)[0])
      Dense(W=(4, 3), b=(4,))
    """
    check_max_norm("per_example.even_norms", max_norm)
    require_parameters("even_norms", params)
    parts = len(jax.tree.leaves(params))
    return jax.tree.map(lambda _: max_norm / math.sqrt(parts), params)
