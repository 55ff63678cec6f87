"""Kronecker factors of weights with positions: expand where the loss sums over them, reduce where they are pooled."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn
from jaxnet import curvature

LOSS = jn.losses.half_squared_error
EXAMPLES = 4


class Case(NamedTuple):
    """A linear network, and in which way its Kronecker factors are exact."""

    net: jn.Layer
    positions: Any
    x: tuple[int, ...] = (3, 3)


CASES = {
    "dense, pooled": Case(jn.chain(jn.dense(3, 4), jn.dense(4, 4), jn.global_mean, jn.dense(4, 2)), "reduce"),
    "repeated, pooled": Case(jn.chain(jn.repeat(jn.dense(3, 3), 2), jn.global_mean), "reduce"),
    "embedding, pooled": Case(jn.chain(jn.embedding(3, 4), jn.dense(4, 2), jn.global_mean), "reduce", (4,)),
    "convolution, pooled": Case(
        jn.chain(jn.conv(3, 4, (2,), padding="VALID"), jn.conv(4, 4, (1,)), jn.global_mean), "reduce", (4, 3)
    ),
    "in groups, summed": Case(jn.conv(4, 4, (2,), groups=2), "expand", (3, 4)),
    "in groups, pooled": Case(jn.chain(jn.conv(4, 6, (2, 1), groups=2), jn.global_mean), "reduce", (3, 2, 4)),
    "spread, pooled": Case(jn.chain(jn.conv_transpose(3, 2, (2,), stride=2), jn.global_mean), "reduce"),
}


def problem(case, key):
    params = jax.tree.map(lambda leaf: leaf + 0.1, case.net.init(key))
    x = jax.random.normal(key, (EXAMPLES, *case.x))
    # An example has an id several times over.
    x = jnp.array([[0, 1, 1, 1], [2, 2, 0, 0], [1, 2, 0, 1], [2, 2, 2, 2]]) if len(case.x) == 1 else x
    return case.net, LOSS, params, x, case.net.apply(params, x)


def products(factors):
    """B kron A of each stack, (..., o, i, p, q); of a diagonal its blocks, (v, d, e)."""
    first, *rest = factors
    if isinstance(first, curvature.Diagonal):
        return jnp.einsum("v,de->vde", first.values, *rest)
    return jnp.einsum("...op,...iq->...oipq", first, *rest) if rest else first


def same_places(leaf, factors, block):
    """Of a parameter's whole block what `products` says."""
    first, *rest = factors
    if isinstance(first, curvature.Diagonal):
        return jnp.einsum("vdve->vde", block.reshape(*leaf.shape, *leaf.shape))
    sides = tuple(factor.shape[-1] for factor in factors)
    stacks = leaf.size // math.prod(sides)
    axes = "soitpq->stoipq" if rest else "sotp->stop"
    both = jnp.einsum(axes, block.reshape(stacks, *sides, stacks, *sides))
    return both[jnp.arange(stacks), jnp.arange(stacks)].reshape(*first.shape[:-2], *sides, *sides)


def distances(actual, expected):
    """The largest difference at each leaf, relative to the largest value."""
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    return [np.abs(ours - theirs).max() / np.abs(theirs).max() for ours, theirs in pairs]


@pytest.mark.parametrize("name", CASES)
def test_factors_are_exact_in_linear_networks_in_one_way_and_not_in_the_other(name, x64, key):
    case = CASES[name]
    net, loss, params, x, y = problem(case, key)
    other = {"expand": "reduce", "reduce": "expand"}[case.positions]

    @jax.jit
    def compared(params, x, y):
        blocks = curvature.ggn_blocks(net, loss, params, x, y)
        right, wrong = (curvature.kflr(net, loss, params, x, y, positions=way) for way in (case.positions, other))
        expected = jax.tree.map(same_places, params, right, blocks)
        return *(jax.tree.map(lambda _, f: products(f), params, factors) for factors in (right, wrong)), expected

    right, wrong, expected = jax.device_get(compared(params, x, y))
    assert max(distances(right, expected)) < 1e-12
    assert max(distances(wrong, expected)) > 0.05


def test_reduced_factors_take_weights_and_ekfac_has_their_eigenvectors(x64, key):
    net, loss, params, x, y = problem(CASES["in groups, pooled"], key)
    weights = jnp.array([0.5, 0.0, 0.25, 0.25])

    @jax.jit
    def read(x, y):
        one = [curvature.kflr(net, loss, params, x[n : n + 1], y[n : n + 1], positions="reduce") for n in (0, 2, 3)]
        expected = jax.tree.map(lambda f, g, h: 0.5 * f + 0.25 * g + 0.25 * h, *one)
        spoilt = x.at[1].set(jnp.nan)
        factors = curvature.kflr(net, loss, params, spoilt, y, weights, positions="reduce")
        eigen = curvature.ekfac(net, loss, params, spoilt, y, weights=weights, positions="reduce")
        return factors, expected, eigen[0].W

    factors, expected, eigen = jax.device_get(read(x, y))
    assert max(distances(factors, expected)) < 1e-12
    # Where the factors are exact, so are their eigenvalues.
    Q = np.einsum("gop,giq->goipq", *eigen.bases).reshape(2, 12, 12)
    block = (Q * eigen.values.reshape(2, 1, 12)) @ Q.swapaxes(1, 2)
    exactly = np.asarray(products(factors[0].W)).reshape(2, 12, 12)
    assert max(distances(block, exactly)) < 1e-12


@pytest.mark.usefixtures("without_shape_annotations")
def test_another_way_is_refused_by_name(key):
    net, loss, params, x, y = problem(CASES["dense, pooled"], key)
    with pytest.raises(ValueError) as error:
        curvature.kfac(net, loss, params, x, y, key, positions="sum")
    assert str(error.value) == "curvature.kfac: expected positions to be 'expand' or 'reduce', got 'sum'"
