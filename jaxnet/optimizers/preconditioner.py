"""A matrix of curvature that is applied, inverted, factor by factor.

K-FAC's step is -(B + r I)^-1 dW (A + s I)^-1 at a weight: the Kronecker factors of the Fisher matrix, inverted one by
one, since (B kron A)^-1 vec(dW) = vec(B^-1 dW A^-1) for row-major vec.
"""

import jax
import jax.numpy as jnp

from jaxnet.curvature.columns import AXIS
from jaxnet.curvature.kronecker import is_diagonal
from jaxnet.factored import Diagonal, Sum


def lengths_of(leaf):
    # By shape, and not by the form of the gradient, for which `init` has no inputs: a matrix has two sides either way.
    return leaf.shape if len(leaf.shape) == 2 else (leaf.size,)


def blank_factors(leaf, is_table):
    """Zeros in the place of the factors: two at every matrix, weight or not, and one at any other parameter."""
    if is_table:
        rows, d = leaf.shape
        return Diagonal(jnp.zeros(rows, leaf.dtype)), jnp.zeros((d, d), leaf.dtype)
    return tuple(jnp.zeros((length, length), leaf.dtype) for length in lengths_of(leaf))


def factors_of(form, leaf, weights):
    """As many as `blank_factors` has: those of the form, and two of a matrix that it does not call a weight."""
    if len(lengths_of(leaf)) == 2 and (form.sides is None or isinstance(form, Sum)):
        return form.matrix_factors(weights, AXIS)
    return form.kronecker_factors(weights, AXIS)


def inverses_of(params, factors, damping):
    def of_leaf(_, factors):
        if len(factors) == 1:
            return (_inverse(factors[0], damping),)
        B, A = factors
        pi = jnp.sqrt(_mean_diagonal(A) / _mean_diagonal(B))
        # A factor of zeros, such as that of an input that never changes, takes no part in the sharing.
        pi = jnp.where(jnp.isfinite(pi) & (pi > 0), pi, jnp.ones_like(pi))
        root = jnp.sqrt(damping)
        return _inverse_of(B, root / pi), _inverse_of(A, root * pi)

    return jax.tree.map(of_leaf, params, factors)


def _mean_diagonal(factor):
    return factor.values.mean() if is_diagonal(factor) else jnp.trace(factor) / factor.shape[0]


def _inverse_of(factor, damping):
    return Diagonal(1 / (factor.values + damping)) if is_diagonal(factor) else _inverse(factor, damping)


# One at a time under vmap: on CPUs with few cores, batched Cholesky factors can wait for each other for ever (jaxlib
# 0.10.2).
@jax.custom_batching.sequential_vmap
def _inverse(factor, damping):
    eye = jnp.eye(factor.shape[0], dtype=factor.dtype)
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(factor + damping * eye), eye)


def precondition(gradient, inverses):
    """-B^-1 dW A^-1, or -B^-1 db."""
    if len(inverses) == 1:
        return -(inverses[0] @ gradient.reshape(-1)).reshape(gradient.shape)
    layout = jax.typeof(gradient).sharding
    if is_diagonal(inverses[0]):
        halfway = inverses[0].values[:, None] * gradient
    else:
        halfway = jnp.matmul(inverses[0], gradient, out_sharding=layout)
    return -jnp.matmul(halfway, inverses[1], out_sharding=layout)
