"""The step size and momentum that minimise a quadratic model of the loss, and the damping that keeps it honest."""

import jax
import jax.numpy as jnp

from jaxnet import curvature

# Of the reduction that the quadratic model foretold, so much comes true or the damping changes (section 6.5).
WORSE, BETTER, DAMPING_STEP = 0.25, 0.75, 0.95


def minimise_model(net, loss, params, batch, grads, directions, damping):
    """The combination of two directions at which M is least, and M there."""
    x, y, weights = batch

    def curved(direction):
        product = curvature.ggn_vector_product(net, loss, params, x, y, direction, weights)
        return jax.tree.map(lambda gv, v: gv + damping * v, product, direction)

    first, second = directions
    curved_first, curved_second = curved(first), curved(second)
    off_diagonal = _inner(first, curved_second)
    diagonal = _inner(first, curved_first), _inner(second, curved_second)
    slopes = _inner(grads, first), _inner(grads, second)
    # In units of each direction's own curvature the matrix is [[1, c], [c, 1]]; parallel directions, or no last
    # update, leave the first alone.
    scales = [jnp.sqrt(jnp.where(d > 0, d, jnp.ones_like(d))) for d in diagonal]
    c = off_diagonal / (scales[0] * scales[1])
    b = [slope / scale for slope, scale in zip(slopes, scales, strict=True)]
    apart = (diagonal[1] > 0) & (jnp.abs(c) < 1 - 1e-3)
    det = jnp.where(apart, 1 - c**2, jnp.ones_like(c))
    alpha = jnp.where(apart, (c * b[1] - b[0]) / det, -b[0]) / scales[0]
    mu = jnp.where(apart, (c * b[0] - b[1]) / det, jnp.zeros_like(c)) / scales[1]
    update = jax.tree.map(lambda d, last: alpha * d + mu * last, first, second)
    # At the least point the model is half its slope.
    return update, (alpha * slopes[0] + mu * slopes[1]) / 2


def adapted(damping, change, foretold):
    kept = change / jnp.where(foretold < 0, foretold, -jnp.ones_like(foretold))
    smaller = jnp.where(kept > BETTER, DAMPING_STEP, 1.0)
    # A loss that is not finite counts as one that did not fall.
    factor = jnp.where(kept >= WORSE, smaller, 1 / DAMPING_STEP)
    return damping * factor.astype(damping.dtype)


def _inner(tree, other):
    return sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True))
