"""The step size and momentum that minimise a quadratic model of the loss, and the damping that keeps it honest."""

import jax
import jax.numpy as jnp

from jaxnet.weighting import mean_loss

# Of the reduction that the quadratic model foretold, so much comes true or the damping changes (section 6.5): every few
# steps, since that takes a pass forward, as much as by 0.9 in each. The paper's 0.95 keeps the first epochs damped.
WORSE, BETTER, EVERY, DAMPING_STEP = 0.25, 0.75, 5, 0.9**5


def minimise_model(net, loss, params, batch, grads, directions, damping):
    """The combination of two directions at which M is least, and M there."""
    curved_first, curved_between, curved_second = _curvature_along(net, loss, params, batch, directions)
    first, second = directions
    off_diagonal = curved_between + damping * _inner(first, second)
    diagonal = curved_first + damping * _inner(first, first), curved_second + damping * _inner(second, second)
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


def _curvature_along(net, loss, params, batch, directions):
    """d^T G d, d^T G e and e^T G e of two directions: (J d)^T H (J e) with the loss's Hessian H, over the examples.

    Cost: two products forward for each direction, and no backward pass.
    """
    x, y, weights = batch

    def pushed(direction):
        return jax.jvp(lambda params: net.apply(params, x), (params,), (direction,))

    # Together, so that they share the pass that both go along with.
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *directions)
    z, jd = jax.vmap(pushed, out_axes=(None, 0))(both)
    hjd = jax.vmap(lambda along: jax.jvp(lambda z: loss.backward(z, y), (z,), (along,))[1])(jd)

    def product(d, e):
        return mean_loss((jd[d] * hjd[e]).reshape(z.shape[0], -1).sum(1), weights)

    return product(0, 0), product(0, 1), product(1, 1)


def adapted(damping, change, foretold):
    """The damping after an update that changed the loss so much; `foretold` is the least of M."""
    kept = change / jnp.where(foretold < 0, foretold, -jnp.ones_like(foretold))
    smaller = jnp.where(kept > BETTER, DAMPING_STEP, 1.0)
    # A loss that is not finite counts as one that did not fall.
    factor = jnp.where(kept >= WORSE, smaller, 1 / DAMPING_STEP)
    return damping * factor.astype(damping.dtype)


def _inner(tree, other):
    return sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True))
