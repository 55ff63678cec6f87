"""A matrix of curvature that is applied, inverted, factor by factor.

K-FAC's step is -(B + r I)^-1 dW (A + s I)^-1 at a weight: the Kronecker factors of the Fisher matrix, inverted one by
one, since (B kron A)^-1 vec(dW) = vec(B^-1 dW A^-1) for row-major vec. A parameter has two factors, left and right of
its matrix, or one, left of its numbers in a row. Several of them, each with factors of its own, are stacked: the rounds
of a repeated layer, the groups of a convolution.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jaxtyping import Array, Float, PyTree

from jaxnet.curvature.columns import AXIS, send_back
from jaxnet.curvature.kronecker import is_diagonal
from jaxnet.factored import Diagonal, Factored, Stacked, Sum, map_leaves
from jaxnet.layer import Layer
from jaxnet.norms import long_type
from jaxnet.optimizers.inverse import inverse_of
from jaxnet.optimizers.one_block import BesideWeight
from jaxnet.parameters import structure_by_layer, tables_of


def blank_factors(net: Layer, read: Callable[..., tuple[Any, ...]], params: PyTree[Array], inputs: Any) -> PyTree[Any]:
    """Zeros in the place of the factors, as the shapes of inputs tell them."""

    def factors(params, x):
        def read_all(dparams):
            return map_leaves(lambda form, leaf: read(form, leaf, None), dparams, params)

        # What goes back has the shape of z, and nothing else of it counts.
        return send_back(net, lambda z, y: z[None], params, x, None, read_all)

    # Without their places on a mesh, on which nothing here depends.
    params, x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), leaf.dtype), (params, inputs))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(factors, params, x))


def blank_factors_by_shape(net: Layer, params: PyTree[Array], largest: int, one_block: bool) -> PyTree[Any]:
    """As `blank_factors`, without inputs: two at every matrix, weight or not, and one at any other parameter."""
    layers = structure_by_layer(net)

    def of_layer(params, are_tables):
        leaves, structure = _flat(params)
        factors = [_blank(largest, *leaf) for leaf in zip(leaves, jax.tree.leaves(are_tables), strict=True)]
        if one_block and len(leaves) == 2 and leaves[0].ndim == 2 and leaves[1].shape == leaves[0].shape[:1]:
            outputs, inputs = leaves[0].shape
            factors = [_blank(largest, jnp.zeros((outputs, inputs + 1), leaves[0].dtype), False), ()]
        return structure.unflatten(factors)

    each = (layers.flatten_up_to(tree) for tree in (params, tables_of(net)))
    return layers.unflatten([of_layer(*layer) for layer in zip(*each, strict=True)])


def _blank(largest, leaf, is_table):
    if is_table:
        rows, d = leaf.shape
        return Diagonal(jnp.zeros(rows, leaf.dtype)), jnp.zeros((d, d), leaf.dtype)
    if leaf.ndim != 2 and leaf.size > largest:
        return (Diagonal(jnp.zeros(leaf.size, leaf.dtype)),)
    lengths = leaf.shape if leaf.ndim == 2 else (leaf.size,)
    return tuple(jnp.zeros((length, length), leaf.dtype) for length in lengths)


def factors_of(
    largest: int, reduce: bool, form: Factored, leaf: Array, weights: Float[Array, " m"] | None
) -> tuple[Any, ...]:
    """The Kronecker factors of one parameter, from its gradients in factored form; positions are reduced or expanded.

    Those of a weight are its form's. So are two of any other matrix, by `matrix_factors`. Anything else has its whole
    block of the Fisher matrix, or, where it has more than `largest` numbers, the diagonal of that. A bias that is one
    block with the weight before it has none.
    """
    if isinstance(form, BesideWeight):
        return ()
    if form.sides is not None and not isinstance(_innermost(form), Sum):
        return form.kronecker_factors(weights, AXIS, reduce)
    if isinstance(form, Stacked):
        return jax.vmap(lambda layer, of_layer: factors_of(largest, reduce, layer, of_layer, weights))(
            form.layers, leaf
        )
    if leaf.ndim == 2 or form.sides is not None:
        return form.matrix_factors(weights, AXIS)
    if leaf.size > largest:
        squares = form.square_total(weights, AXIS).reshape(-1)
        return (Diagonal(squares / form.examples if weights is None else squares),)
    return form.kronecker_factors(weights, AXIS)


def _innermost(form):
    return _innermost(form.layers) if isinstance(form, Stacked) else form


def inverses_of(params: PyTree[Array], factors: PyTree[Any], damping: Float[Array, ""]) -> PyTree[Any]:
    """(B + sqrt(lambda) / pi I)^-1 and (A + pi sqrt(lambda) I)^-1 of two factors, (F + lambda I)^-1 of one.

    Matrices of one size are inverted together, by one program. So are those with a row less, such as a layer's B beside
    the next one's A, whose inputs end in 1.
    """
    damped = jax.tree.map(lambda _, of_leaf: _damped(of_leaf, damping), params, factors)
    leaves = jax.tree.leaves(damped, is_leaf=is_diagonal)
    inverses: dict[int, Any] = {k: Diagonal(1 / leaf.values) for k, leaf in enumerate(leaves) if is_diagonal(leaf)}
    sizes = {k: leaf.shape[-1] for k, leaf in enumerate(leaves) if not is_diagonal(leaf)}
    for size, alike in _groups(sizes):
        stacks = [_enlarged(leaves[k].reshape(-1, sizes[k], sizes[k]), size) for k in alike]
        inverted = jax.vmap(inverse_of)(jnp.concatenate(stacks))
        ends = list(accumulate(len(stack) for stack in stacks))
        for k, start, end in zip(alike, [0, *ends], ends, strict=False):
            inverses[k] = inverted[start:end, : sizes[k], : sizes[k]].reshape(leaves[k].shape)
    in_order = [inverses[k] for k in range(len(leaves))]
    of_type = (a.astype(b.dtype) for a, b in zip(*map(jax.tree.leaves, (in_order, factors)), strict=True))
    return jax.tree.unflatten(jax.tree.structure(factors), of_type)


def _groups(sizes):
    """(n, those with n rows or one less), so that each matrix is in one group."""
    groups: dict[int, list[int]] = {}
    for size in sorted(set(sizes.values()), reverse=True):
        groups.setdefault(size + 1 if size + 1 in groups else size, []).extend(k for k in sizes if sizes[k] == size)
    return groups.items()


def _enlarged(stack, size):
    """[[S, 0], [0, 1]], whose inverse is that of S and 1."""
    more = size - stack.shape[-1]
    if not more:
        return stack
    bordered = jnp.pad(stack, ((0, 0), (0, more), (0, more)))
    return bordered.at[:, -1, -1].set(jnp.ones((), stack.dtype))


def _damped(factors, damping):
    """With the damping of each matrix of a stack on its diagonal, in float32 at least."""
    if len(factors) < 2:
        return tuple(_with_diagonal(factor, damping) for factor in factors)
    B, A = factors
    pi = jnp.sqrt(_mean_diagonal(A) / _mean_diagonal(B))
    # A factor of zeros, such as that of an input that never changes, takes no part in the sharing.
    pi = jnp.where(jnp.isfinite(pi) & (pi > 0), pi, jnp.ones_like(pi))
    root = jnp.sqrt(damping).astype(pi.dtype)
    return _with_diagonal(B, root / pi), _with_diagonal(A, root * pi)


def _mean_diagonal(factor):
    return (factor.values if is_diagonal(factor) else jnp.diagonal(factor, axis1=-2, axis2=-1)).mean(-1)


def _with_diagonal(factor, share):
    array = factor.values if is_diagonal(factor) else factor
    n, long = array.shape[-1], long_type(array.dtype)
    stack = array.shape[: -1 if is_diagonal(factor) else -2]
    added = jnp.ones(n, long) if is_diagonal(factor) else jnp.eye(n, dtype=long)
    shares = jnp.broadcast_to(share.astype(long), stack)
    damped = array.astype(long) + jnp.tensordot(shares, added, axes=0)
    return Diagonal(damped) if is_diagonal(factor) else damped


def precondition(grads: PyTree[Array], inverses: PyTree[Any]) -> PyTree[Array]:
    """-B^-1 dW A^-1, or -F^-1 db, of each parameter; -B^-1 [dW db] A^-1 of a weight and a bias that are one block."""
    leaves, structure = _flat(grads)
    of_leaves = structure.flatten_up_to(inverses)
    # A bias without matrices of its own goes with the weight before it.
    starts = [k for k, of_leaf in enumerate(of_leaves) if of_leaf]
    ends = [*starts[1:], len(leaves)]
    blocks = (
        _preconditioned_block(tuple(leaves[start:end]), of_leaves[start])
        for start, end in zip(starts, ends, strict=True)
    )
    return structure.unflatten([leaf for block in blocks for leaf in block])


def _flat(tree) -> tuple[list[Array], Any]:
    return jax.tree.flatten(tree)


def _preconditioned_block(gradients, inverses):
    layouts = tuple(jax.typeof(gradient).sharding for gradient in gradients)
    plain = len(gradients) == 1 and gradients[0].ndim == len(inverses) == 2 and not is_diagonal(inverses[0])
    if plain:
        (gradient,), (layout,) = gradients, layouts
        halfway = jnp.matmul(inverses[0], gradient, out_sharding=layout)
        return (-jnp.matmul(halfway, inverses[1], out_sharding=layout),)
    if any(isinstance(layout, NamedSharding) and AxisType.Explicit in layout.mesh.axis_types for layout in layouts):
        return jax.sharding.auto_axes(_preconditioned, out_sharding=layouts)(gradients, inverses)
    return _preconditioned(gradients, inverses)


def _preconditioned(gradients, inverses):
    left = inverses[0].values if is_diagonal(inverses[0]) else inverses[0][..., 0]
    # (stack, rows, columns): one column where there is one factor, and a last one of the bias where that is here too.
    parts = [gradient.reshape(*left.shape, -1) for gradient in gradients]
    matrices = jnp.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
    matrices = left[..., None] * matrices if is_diagonal(inverses[0]) else inverses[0] @ matrices
    if len(inverses) == 2:
        matrices = matrices @ inverses[1]
    pieces = (matrices[..., : parts[0].shape[-1]], matrices[..., parts[0].shape[-1] :])[: len(parts)]
    return tuple(-piece.reshape(like.shape) for piece, like in zip(pieces, gradients, strict=True))
