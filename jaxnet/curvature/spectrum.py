"""What the eigenvalues of a curvature matrix are, from products with the matrix alone.

Lanczos's recursion from a unit vector q_1, beta_k q_k+1 = G q_k - alpha_k q_k - beta_k-1 q_k-1, makes of G a small
tridiagonal matrix T. The eigenvalues theta_k of T come near those of G, first the outermost; and with the squares w_k
of the first numbers of T's eigenvectors, sum_k w_k f(theta_k) is Gauss's quadrature of q_1^T f(G) q_1. Over q_1 of
random directions that is tr f(G) / P on average, with P parameters.
"""

from collections.abc import Callable
from typing import NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key, PyTree

from jaxnet.arguments import positive_integer
from jaxnet.calls import size_of
from jaxnet.curvature.trees import inner, times

Product = Callable[[PyTree[Array]], PyTree[Array]]


class Spectrum(NamedTuple):
    """Estimates of eigenvalues, from several starts.

    Attributes:
      values: theta (samples, steps), ascending for each start; the outermost come near the extreme eigenvalues first.
      weights: w (samples, steps), at least 0, which add up to 1 for each start: the share of all eigenvalues that each
        stands for.

    Example:
      >>> spectrum = jn.curvature.Spectrum(values=jnp.array([[1.0, 3.0]]), weights=jnp.array([[0.5, 0.5]]))
      >>> (spectrum.weights * spectrum.values).sum(1)  # the mean of the eigenvalues
      Array([2.], dtype=float32)
    """

    values: Float[Array, "samples steps"]
    weights: Float[Array, "samples steps"]

    def mean(self, f: Callable[[Array], Array] = lambda values: values) -> Float[Array, ""]:
        """tr f(G) / P, the mean of f over all eigenvalues: times P, the trace for f = identity, log det G for log."""
        counts = self.weights > 0
        return jnp.where(counts, self.weights * f(self.values), jnp.zeros_like(self.weights)).sum(1).mean()

    def density(self, at: Float[Array, " n"], width: float) -> Float[Array, " n"]:
        """How densely eigenvalues lie: (1/P) sum_j N(at; lambda_j, width^2), whose integral is 1."""
        apart = (at[:, None, None] - self.values[None]) / width
        bells = jnp.exp(-(apart**2) / 2) / (width * (2 * jnp.pi) ** 0.5)
        return (self.weights[None] * bells).sum(2).mean(1)


def trace(
    product: Product, params: PyTree[Array], key: Key[Array, ""], samples: SupportsIndex = 10
) -> Float[Array, ""]:
    """tr G, estimated: the mean of <v, G v> over vectors v of random signs.

    Args:
      product: v -> G v, such as `lambda v: curvature.ggn_vector_product(net, loss, params, x, y, v)`.
      params: the parameters, or whatever has their structure and shapes.
      key: of the signs.
      samples: how many v, one after the other, at least 1.

    Returns:
      An unbiased estimate, whose variance is 2 sum_i!=j G_ij^2 / samples. Cost: a product for each sample.

    Source: Hutchinson, A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines,
    1989.

    Example:
      >>> G = lambda v: jn.curvature.ggn_vector_product(net, loss, params, x, y, v)
      >>> jn.curvature.trace(G, params, key, samples=4).shape
      ()
    """
    samples = positive_integer("curvature.trace", "samples", samples)

    def of_one(key):
        v = _like(params, key, jax.random.rademacher)
        return inner(v, product(v))

    return lax.map(of_one, jax.random.split(key, samples)).mean()


def spectrum(
    product: Product,
    params: PyTree[Array],
    key: Key[Array, ""],
    *,
    steps: SupportsIndex = 20,
    samples: SupportsIndex = 1,
) -> Spectrum:
    """The eigenvalues of a symmetric G, estimated: how densely they lie, the extreme ones, and tr f(G).

    Args:
      product: v -> G v, as for `trace`; a Hessian's too.
      params: the parameters, or whatever has their structure and shapes.
      key: of the starts.
      steps: of the recursion, at most the number of parameters P; with as many as G has distinct eigenvalues, those
        are exact.
      samples: how many starts, one after the other.

    Returns:
      A `Spectrum`; `values[:, -1]` is near the largest eigenvalue, and never above it but for rounding. Cost: a product
      for each step and start, and as many vectors of P numbers as there are steps, to which each new one is made
      orthogonal, twice, since rounding would have eigenvalues come again.

    Raises:
      ValueError: when steps or samples is not a positive integer, or steps is above P.

    Source: Lanczos, 1950; Golub and Welsch, Calculation of Gauss quadrature rules, 1969; for networks Ghorbani et al.,
    An investigation into neural net optimization via Hessian eigenvalue density, 2019, algorithm 1.

    Example:
      >>> G = lambda v: jn.curvature.ggn_vector_product(net, loss, params, x, y, v)
      >>> spectrum = jn.curvature.spectrum(G, params, key, steps=4, samples=2)
      >>> type(spectrum).__name__, spectrum.values.shape, bool(jnp.allclose(spectrum.weights.sum(1), 1, atol=1e-5))
      ('Spectrum', (2, 4), True)
    """
    steps = positive_integer("curvature.spectrum", "steps", steps)
    samples = positive_integer("curvature.spectrum", "samples", samples)
    if steps > size_of(params):
        raise ValueError(f"curvature.spectrum: expected steps of at most {size_of(params)} parameters, got {steps}")

    def of_one(key):
        start = _like(params, key, jax.random.normal)
        alphas, betas = _lanczos(product, times(1 / jnp.sqrt(inner(start, start)), start), steps)
        values, vectors = jnp.linalg.eigh(jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1))
        return Spectrum(values, vectors[0] ** 2)

    return lax.map(of_one, jax.random.split(key, samples))


def _lanczos(product, q, steps):
    """The diagonal of T and what is beside it."""

    def advance(state, step):
        basis, q = state
        basis = jax.tree.map(lambda rows, row: rows.at[step].set(row), basis, q)
        curved = product(q)
        alpha = inner(q, curved)
        rest = _orthogonal(basis, _orthogonal(basis, curved))
        beta = jnp.sqrt(inner(rest, rest))
        # Where G leads nowhere else, T ends: what follows has no share in the start.
        further = beta > jnp.finfo(beta.dtype).eps * jnp.abs(alpha)
        beta = jnp.where(further, beta, jnp.zeros_like(beta))
        q = times(jnp.where(further, 1 / jnp.where(further, beta, jnp.ones_like(beta)), jnp.zeros_like(beta)), rest)
        return (basis, q), (alpha, beta)

    basis = jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.zeros_like(leaf)[None], (steps, *leaf.shape)), q)
    _, tridiagonal = lax.scan(advance, (basis, q), jnp.arange(steps, dtype=jnp.int32))
    return tridiagonal


def _orthogonal(basis, v):
    """What is left of v without its shares along the basis, of which some rows may be 0."""
    along = [(rows * leaf[None]).sum(tuple(range(1, rows.ndim))) for rows, leaf in _pairs(basis, v)]
    shares = sum(along[1:], start=along[0])
    return jax.tree.map(lambda leaf, rows: leaf - jnp.tensordot(shares.astype(leaf.dtype), rows, 1), v, basis)


def _pairs(tree, other):
    return zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)


def _like(params, key, draw):
    leaves, structure = jax.tree.leaves(params), jax.tree.structure(params)
    keys = jax.random.split(key, len(leaves))
    # Added to what lies as the parameters do, a draw does, too.
    drawn = [draw(k, leaf.shape, leaf.dtype) + jnp.zeros_like(leaf) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)
