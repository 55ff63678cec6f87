"""Powers of curvature times gradients, block by block: what preconditions a step, and what an influence is.

Each parameter's block is Q diag(w) Q^T with eigenvectors Q, of Kronecker factors Q = Q_B kron Q_A and w = w_B w_A^T. So
(G + lambda I)^p V is Q_B ((w + lambda)^p * (Q_B^T V Q_A)) Q_A^T: the damping is added to the block itself, not to its
factors.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxnet.curvature.eigen import Eigen
from jaxnet.curvature.kronecker import is_diagonal
from jaxnet.factored import Diagonal
from jaxnet.factored.layouts import laid_out
from jaxnet.norms import long_type


def eigen(factors: PyTree[Any], params: PyTree[Array]) -> PyTree[Eigen]:
    """Kronecker factors as eigenvectors and eigenvalues, once for all that `solve` and `power` make of them.

    Args:
      factors: as for `solve`.
      params: the parameters, or whatever has their structure and shapes.

    Returns:
      The structure of the parameters, an `Eigen` at each; its values, rounded to less than 0, are 0. Cost: O(o^3 + i^3)
      for a weight (o, i).

    Example:
      >>> factors = jn.curvature.kflr(net, loss, params, x, y)
      >>> bases = jn.curvature.eigen(factors, params)
      >>> jax.tree.map(jnp.shape, bases[0].W)
      Eigen(bases=((4, 4), (3, 3)), values=(4, 3))
    """
    return jax.tree.map(_eigen_of, params, factors)


def solve(factors: PyTree[Any], grads: PyTree[Array], damping: float | Float[Array, ""] = 0.0) -> PyTree[Array]:
    """(G + lambda I)^-1 v with a block of G for each parameter: at a weight, B^-1 V A^-1 for lambda = 0.

    What `kfac` preconditions by is `solve(factors, grads, damping)`; and how much an example counts for another's loss,
    its influence, is `-per_example.dot(dparams, solve(factors, grads_of_the_other, damping))`. For many v, such as the
    gradients of many test examples, `jax.vmap(lambda v: solve(eigen(factors, params), v, damping))` takes them with a
    leading axis, and `per_example.dot` then has train by test.

    Args:
      factors: G, at each parameter what any of these returns for it: `kronecker`, `kfac`, `kflr` or `kfra` (factors),
        `ekfac` or `eigen` (an `Eigen`), `ggn_blocks` (a matrix), `ggn_diagonal` and other diagonals.
      grads: v, the structure and shapes of the parameters.
      damping: lambda, at least 0, in units of curvature. Without any, what G does not bend along is not finite.

    Returns:
      The structure and shapes of the parameters. Cost: two products with each factor, and, but of an `Eigen`, its
      eigenvectors, O(o^3 + i^3) for a weight (o, i).

    Raises:
      ValueError: when damping is known to be negative, or what stands for a parameter has another size.

    Source: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, 2015, section
    4.2, and for the damping George et al., Fast approximate natural gradient descent in a Kronecker-factored
    eigenbasis, 2018; influence: Koh and Liang, Understanding black-box predictions via influence functions, 2017,
    equation 2, and with such factors Grosse et al., Studying large language model generalization with influence
    functions, 2023.

    Example:
      >>> factors = jn.curvature.kflr(net, loss, params, x, y)
      >>> step = jn.curvature.solve(factors, grads, damping=0.1)
      >>> jax.tree.map(jnp.shape, step[0])
      Dense(W=(4, 3), b=(4,))
    """
    return _power("solve", factors, grads, -1.0, damping)


def power(
    factors: PyTree[Any],
    grads: PyTree[Array],
    exponent: float | Float[Array, ""],
    damping: float | Float[Array, ""] = 0.0,
) -> PyTree[Array]:
    """(G + lambda I)^p v, such as p = -1/2, which whitens, and makes of N(0, I) draws of N(0, (G + lambda I)^-1).

    Args:
      factors, grads, damping: as for `solve`, which is p = -1.
      exponent: p.

    Returns:
      The structure and shapes of the parameters. Cost: as for `solve`.

    Source: p = -1/2 for draws of the weights: Ritter et al., A scalable Laplace approximation for neural networks,
    2018, equation 7.

    Example:
      >>> factors = jn.curvature.kflr(net, loss, params, x, y)
      >>> once = jn.curvature.power(factors, grads, -0.5, damping=0.1)
      >>> twice = jn.curvature.power(factors, once, -0.5, damping=0.1)
      >>> bool(jnp.allclose(twice[0].W, jn.curvature.solve(factors, grads, 0.1)[0].W, atol=1e-4))
      True
    """
    return _power("power", factors, grads, exponent, damping)


def _power(name, factors, grads, exponent, damping):
    known = not isinstance(damping, jax.core.Tracer)
    if known and not np.asarray(damping) >= 0:
        raise ValueError(f"curvature.{name}: expected damping of at least 0, got {float(damping):g}")

    def of_leaf(v, of_leaf):
        eigen = _eigen_of(v, of_leaf)

        def applied(v, eigen):
            values = eigen.values + jnp.asarray(damping, eigen.values.dtype)
            return _in_basis(eigen, v.astype(values.dtype), values ** jnp.asarray(exponent, values.dtype), v)

        return laid_out(applied, jax.typeof(v).sharding)(v, eigen)

    return jax.tree.map(of_leaf, grads, factors)


def _in_basis(eigen, v, values, like):
    """Q (values * Q^T v), in v's shape and type."""
    bases = eigen.bases
    # Along all but the last axis of the first basis, there are stacked ones: layers, or groups.
    shapes = [basis.values.shape if is_diagonal(basis) else basis.shape[:-1] for basis in bases]
    v = v.reshape(*shapes[0][:-1], *(shape[-1] for shape in shapes)) if bases else v
    turned = _turned(bases, v, "...op,...o->...p", "...op,...oi->...pi", "...ip,...oi->...op")
    scaled = turned * values.reshape(turned.shape)
    back = _turned(bases, scaled, "...po,...o->...p", "...po,...oi->...pi", "...pi,...oi->...op")
    return back.reshape(like.shape).astype(like.dtype)


def _turned(bases, v, alone, first, second):
    axes = (alone,) if len(bases) == 1 else (first, second)
    for basis, of_basis in zip(bases, axes, strict=False):
        # A diagonal's eigenvectors are unit vectors.
        v = v if is_diagonal(basis) else jnp.einsum(of_basis, basis, v)
    return v


def _eigen_of(leaf, of_leaf):
    if isinstance(of_leaf, Eigen):
        return of_leaf
    if not isinstance(of_leaf, tuple):
        if of_leaf.shape == leaf.shape:
            return Eigen((), of_leaf)
        of_leaf = (of_leaf,)
    values, bases = zip(*map(_decomposed, of_leaf), strict=True)
    of_first, *of_second = values
    every = of_first[..., :, None] * of_second[0][..., None, :] if of_second else of_first
    if every.size != leaf.size:
        raise ValueError(
            f"curvature.solve: expected factors of a parameter of shape {leaf.shape}, got some of {every.size} numbers"
        )
    return Eigen(bases, every.reshape(leaf.shape))


def _decomposed(factor):
    if is_diagonal(factor):
        return factor.values.astype(long_type(factor.values.dtype)), Diagonal(jnp.ones_like(factor.values))
    # Of short types there are no decompositions.
    values, vectors = jnp.linalg.eigh(factor.astype(long_type(factor.dtype)))
    return jnp.maximum(values, 0), vectors
