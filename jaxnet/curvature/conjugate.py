"""A curvature matrix's inverse times a vector, from products with the matrix alone."""

from collections.abc import Callable
from typing import SupportsIndex

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import positive_integer
from jaxnet.curvature.trees import inner, plus


def conjugate_gradients(
    product: Callable[[PyTree[Array]], PyTree[Array]],
    grads: PyTree[Array],
    damping: float | Float[Array, ""] = 0.0,
    *,
    steps: SupportsIndex = 100,
    tolerance: float = 1e-6,
) -> PyTree[Array]:
    """(G + lambda I)^-1 v by conjugate gradients: all blocks of G together, without G.

    From s = 0, r = v: s := s + alpha p and r := r - alpha (G + lambda I) p along directions p each of which is the
    residual r, made conjugate to the one before; alpha = |r|^2 / <p, (G + lambda I) p>.

    Args:
      product: v -> G v, symmetric, and positive definite with lambda: such as
        `lambda v: curvature.ggn_vector_product(net, loss, params, x, y, v)`; of a Hessian, lambda has to outweigh what
        is negative.
      grads: v, the structure and shapes of the parameters.
      damping: lambda, in units of curvature.
      steps: at most so many products.
      tolerance: it ends where |r| <= tolerance |v|.

    Returns:
      The structure and shapes of the parameters. Cost: a product for each step, and four vectors. In exact arithmetic
      it takes as many steps as G has distinct eigenvalues, with condition k an error 2 ((sqrt k - 1) / (sqrt k + 1))^n.

    Raises:
      ValueError: when steps is not a positive integer.

    Source: Hestenes and Stiefel, Methods of conjugate gradients for solving linear systems, 1952; for networks
    Martens, Deep learning via Hessian-free optimization, 2010.

    Example:
      >>> G = lambda v: jn.curvature.ggn_vector_product(net, loss, params, x, y, v)
      >>> step = jn.curvature.conjugate_gradients(G, grads, damping=0.1)
      >>> bool(jnp.allclose(G(step)[0].W + 0.1 * step[0].W, grads[0].W, atol=1e-5))
      True
    """
    most = positive_integer("curvature.conjugate_gradients", "steps", steps)
    least = tolerance**2 * inner(grads, grads)

    def goes_on(state):
        step, _, _, _, squared = state
        return (step < most) & (squared > least)

    def advance(state):
        step, s, r, p, squared = state
        curved = plus(product(p), damping, p)
        alpha = squared / inner(p, curved)
        s, r = plus(s, alpha, p), plus(r, -alpha, curved)
        following = inner(r, r)
        return step + 1, s, r, plus(r, following / squared, p), following

    start = jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, grads), grads, grads, inner(grads, grads)
    _, s, *_ = lax.while_loop(goes_on, advance, start)
    return s
