"""What the readings ask of all parameters' forms together."""

import jax
import jax.numpy as jnp

from jaxnet.factored import Factored, require_forms
from jaxnet.weighting import check_weights


def shares_of(reading, dparams, weights):
    """weights_i / sum_j weights_j."""
    if forms_of(dparams):
        check_weights(f"per_example.{reading}", weights, (number_of_examples(reading, dparams),))
    return weights / jnp.sum(weights)


def sum_of_leaves(reading, tree):
    leaves = jax.tree.leaves(tree)
    require_parameters(reading, leaves)
    return sum(leaves[1:], start=leaves[0])


def require_parameters(reading, tree):
    if not jax.tree.leaves(tree):
        raise ValueError(f"per_example.{reading}: expected parameters, got none")


def forms_of(dparams):
    return jax.tree.leaves(dparams, is_leaf=lambda leaf: isinstance(leaf, Factored))


def number_of_examples(reading, dparams):
    require_forms(f"per_example.{reading}", dparams)
    leaves = forms_of(dparams)
    return leaves[0].examples if leaves else 1
