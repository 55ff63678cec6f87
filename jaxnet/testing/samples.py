"""Whether a loss's samples come from the distribution whose negative log-likelihood it is."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnet.losses import Loss
from jaxnet.testing.closeness import is_floating

DRAWS = 4096
# Six standard errors happen by chance to one value in 500 million.
STANDARD_ERRORS = 6
# What rounding leaves of a mean that is 0 exactly, where nothing varies.
ROUNDING = 1e-12


def check_samples(name: str, loss: Loss, z: Any, y: Any, key: jax.Array) -> None:
    """Asserts that samples look like y, and that backward has mean zero over them."""
    example = jax.eval_shape(loss.sample, key, z)
    got, expected = (str(jax.tree.structure(tree)) for tree in (example, y))
    if got != expected:
        raise AssertionError(f"{name}: sample gives the structure {got}, expected {expected} as y is")
    for sample, target in zip(jax.tree.leaves(example), jax.tree.leaves(y), strict=True):
        if sample.shape != target.shape or jnp.issubdtype(sample.dtype, jnp.floating) != is_floating(target):
            got = f"{sample.dtype}{sample.shape}"
            raise AssertionError(f"{name}: sample gives {got}, expected {target.dtype}{target.shape} as y is")

    def draw(key, z):
        sample = loss.sample(key, z)
        return sample if loss.given is None else loss.given(sample, y)

    @jax.jit
    def largest_deviation(z, key):
        samples = jax.vmap(draw, (0, None))(jax.random.split(key, DRAWS), z)
        mean = jax.vmap(loss.backward, (None, 0))(z, samples).mean(axis=0)
        # The variance of backward under the loss's own distribution is the mean second derivative.
        variance = jax.vmap(lambda y: (loss.root_hessian(z, y) ** 2).sum(axis=0))(samples).mean(axis=0)
        standard_error = jnp.sqrt(variance / DRAWS)
        return (jnp.abs(mean) / jnp.where(standard_error > 0, standard_error, ROUNDING)).max()

    deviation = float(largest_deviation(z, key))
    if not deviation < STANDARD_ERRORS:
        raise AssertionError(
            f"{name}: backward at {DRAWS} samples has a mean {deviation:.1f} standard errors from 0: "
            "they are not drawn from the distribution whose negative log-likelihood the loss is"
        )
