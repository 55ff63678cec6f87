"""The inverse of a symmetric positive definite matrix, on CPUs by products alone.

LAPACK there starts threads for each matrix of a few hundred rows, and waits for them: beside another program for fifty
times as long as the inverse takes, and in a batch of matrices, on few cores, for ever (jaxlib 0.10.2).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Rows below which a matrix is inverted column by column: as quick as LAPACK, and no more to compile for other sizes.
FEW = 80


def inverse_of(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """S^-1 of a symmetric positive definite S, which is not looked at. Cost: (4/3) n^3 products on CPUs.

    With S = [[P, Q], [Q^T, R]], T = P^-1 Q and C = R - Q^T T, which is positive definite as S is,

        S^-1 = [[P^-1 + T C^-1 T^T, -T C^-1], [-C^-1 T^T, C^-1]],

    and P and C are inverted likewise. Elsewhere it is by Cholesky factors.

    Source: Petersen and Pedersen, The matrix cookbook, 2012, section 9.1.3.
    """
    return lax.platform_dependent(matrix, cpu=_by_halves, default=_by_cholesky)


def _by_halves(S):
    n = len(S)
    if n <= FEW:
        return _by_columns(S)
    half = (n + 1) // 2
    Q = S[:half, half:]
    P_inverse = _by_halves(S[:half, :half])
    T = P_inverse @ Q
    C_inverse = _by_halves(S[half:, half:] - Q.T @ T)
    off_diagonal = T @ C_inverse
    return jnp.block([[P_inverse + off_diagonal @ T.T, -off_diagonal], [-off_diagonal.T, C_inverse]])


def _by_columns(S):
    """Gauss-Jordan without pivots, which a positive definite matrix does not need."""

    def eliminated(k, S):
        at_k = jnp.arange(len(S)) == k
        column, row = S[:, k], S[k] / S[k, k]
        rest = S - column[:, None] * row[None, :]
        pivot = jnp.where(at_k, 1 / S[k, k], -column / S[k, k])
        return jnp.where(at_k[None, :], pivot[:, None], jnp.where(at_k[:, None], row[None, :], rest))

    return lax.fori_loop(0, len(S), eliminated, S)


def _by_cholesky(S):
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(S), jnp.eye(len(S), dtype=S.dtype))
