"""Every function of `per_example` and `curvature` on every kind of layer, against gradients and Jacobians of autodiff.

A network of each kind is small, and all that is asked of it is one program.
"""

from typing import NamedTuple

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_reading import expected_readings, flat, gradients, readings, slopes
from jax.flatten_util import ravel_pytree

import jaxnet as jn
from jaxnet import curvature, per_example

LOSS = jn.losses.half_squared_error
EXAMPLES, C = 3, 0.5
WEIGHTS = np.array([0.2, 0.0, 0.8])
IDS = np.array([[0, 2, 2], [1, 0, 3], [3, 3, 3]])


class Kind(NamedTuple):
    """A network, the shape of an example (None for ids), and whether it has a Hessian's diagonal."""

    net: jn.Layer
    x: tuple[int, ...] | None = (3, 4)
    diagonal: bool = False


def net_of(*layers):
    return jn.chain(*layers)


KINDS = {
    "convolutions and pools": Kind(
        net_of(
            jn.conv(4, 4, (2,), groups=2),
            jn.silu,
            jn.max_pool((2,), stride=1),
            jn.conv_transpose(4, 2, (2,), stride=2, groups=2),
            jn.avg_pool((2,)),
            jn.flatten,
            jn.dense(4, 2, bias=False),
        ),
        diagonal=True,
    ),
    "norms, gates and shapes": Kind(
        net_of(
            jn.layer_norm(4),
            jn.dense(4, 4),
            jn.group_norm(2, 4),
            jn.swiglu,
            jn.transpose((2, 1)),
            jn.pad(((0, 0), (1, 0))),
            jn.rms_norm(4),
            jn.take(slice(1, 4), axis=2),
            jn.instance_norm(3),
            jn.global_mean,
        )
    ),
    "ids and attention": Kind(
        jn.tied(
            jn.embedding(4, 4),
            net_of(jn.position_table(3, 4), jn.rotary(), jn.residual(jn.multi_head_attention(4, 2, causal=True))),
            jn.unembedding(4, 4),
        ),
        None,
    ),
    "ids alone, and dropout": Kind(
        jn.bind(
            net_of(jn.embedding(4, 2), jn.sinusoidal(), jn.dropout(0.3), jn.softplus, jn.global_max, jn.dense(2, 2)),
            jax.random.key(0),
        ),
        None,
        diagonal=True,
    ),
    "repeated and shared": Kind(
        net_of(jn.repeat(jn.recompute(jn.residual(jn.dense(4, 4))), 2), jn.shared(net_of(jn.dense(4, 4), jn.tanh), 2)),
    ),
}


def problem(kind):
    params = drawn.parameters(kind.net)
    x = jnp.asarray(IDS, jnp.int32) if kind.x is None else drawn.normal(EXAMPLES, *kind.x)
    y = drawn.normal(*jax.eval_shape(kind.net.apply, params, x).shape, seed=1)
    return params, x, y, drawn.like(params, seed=2)


def further_readings(dparams, params, weights):
    """What `every_reading` does not ask."""
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf**2, 1 - leaf]), params)
    return {
        "squared_norms_by_leaf": per_example.squared_norms_by_leaf(dparams),
        "noise_scale": per_example.noise_scale(dparams),
        "second_moment, weighted": per_example.second_moment(dparams, weights),
        "dot, one of many": per_example.dot(dparams, jax.tree.map(lambda leaf: leaf[:1], many)),
        "dot, many": per_example.dot(dparams, many),
        "clipped, weighted": per_example.clipped(C)(dparams, weights),
    }


def expected_further(g, params, weights):
    rows, m = flat(g), EXAMPLES
    lengths = np.sqrt((rows**2).sum(1))
    kept = weights * np.minimum(1, C / lengths)
    many = flat(jax.tree.map(lambda leaf: np.stack([leaf, leaf**2, 1 - leaf]), params))
    square, noise = (rows.mean(0) ** 2).sum(), rows.var(0, ddof=1).sum()
    return {
        "squared_norms_by_leaf": jax.tree.map(lambda leaf: (leaf.reshape(m, -1) ** 2).sum(1), g),
        "noise_scale": noise / (square - noise / m),
        "second_moment, weighted": jax.tree.map(lambda leaf: np.tensordot(weights, leaf**2, 1), g),
        "dot, one of many": rows @ many[:1].T,
        "dot, many": rows @ many.T,
        "clipped, weighted": jax.tree.map(lambda leaf: np.tensordot(kept, leaf, 1), g),
    }


def curvatures(kind, params, x, y, v):
    net, weights = kind.net, jnp.asarray(WEIGHTS)
    arguments = net, LOSS, params, x, y
    quantities = {
        "jacobian": curvature.jacobian(net, params, x),
        "neural_tangent_kernel": curvature.neural_tangent_kernel(net, params, x),
        "its trace": curvature.neural_tangent_kernel(net, params, x, jax.tree.map(lambda x: x[:2], x), trace=True),
        "ggn_diagonal": curvature.ggn_diagonal(*arguments, weights),
        "ggn_diagonal_per_example": curvature.ggn_diagonal_per_example(*arguments),
        "ggn_blocks": curvature.ggn_blocks(*arguments, weights),
        "fisher_diagonal": curvature.fisher_diagonal(*arguments),
        "ggn_vector_product": curvature.ggn_vector_product(*arguments, v),
        "fisher_vector_product": curvature.fisher_vector_product(*arguments, v),
        "hessian_vector_product": curvature.hessian_vector_product(*arguments, v),
    }
    if kind.diagonal:
        quantities["hessian_diagonal"] = curvature.hessian_diagonal(*arguments)
        quantities["hessian_diagonal_per_example"] = curvature.hessian_diagonal_per_example(*arguments)
    return quantities


def slopes_and_bends(kind, params, x, y, v):
    """By autodiff: dz and the Jacobian, and each loss's Hessian, (m, P, P), or the mean loss's times v."""
    net, (numbers, unflatten) = kind.net, ravel_pytree(params)

    def losses(numbers):
        return LOSS.forward(net.apply(unflatten(numbers), x), y)

    if jn.layer.draws(net):
        # A mask is drawn for the whole batch.
        dz = jax.grad(lambda z: LOSS.forward(z, y).sum())(net.apply(params, x))
        J = jax.jacrev(lambda params: net.apply(params, x))(params)
    else:
        dz, J = slopes(net, LOSS, params, x, y)
    if kind.diagonal:
        return dz, J, jax.hessian(losses)(numbers)
    return dz, J, jax.jvp(jax.grad(lambda numbers: losses(numbers).mean()), (numbers,), (ravel_pytree(v)[0],))[1]


def expected_curvatures(kind, g, dz, J, bends, params, v):
    """From the Jacobian, (m, f, P), whose J_n^T J_n is the GGN of half the squared error."""
    leaves, structure = jax.tree.flatten(params)
    ends, outputs = np.cumsum([leaf.size for leaf in leaves]), dz.shape[1:]
    along, rows, m = flat(jax.tree.map(lambda leaf: leaf[None], v))[0], flat(g), EXAMPLES
    of_leaf = [slice(end - leaf.size, end) for end, leaf in zip(ends, leaves, strict=True)]

    def unflatten(numbers):
        parts = [
            numbers[..., part].reshape(*numbers.shape[:-1], *leaf.shape)
            for part, leaf in zip(of_leaf, leaves, strict=True)
        ]
        return structure.unflatten(parts)

    jacobian, J = J, flat(jax.tree.map(lambda leaf: leaf.reshape(dz.size, -1), J)).reshape(m, dz[0].size, -1)
    kernel = np.einsum("map,nbp->mnab", J, J)
    G = np.einsum("n,nap,naq->pq", WEIGHTS, J, J)
    expected = {
        "jacobian": jacobian,
        "neural_tangent_kernel": kernel.reshape(m, m, *outputs, *outputs),
        "its trace": np.einsum("mnaa->mn", kernel)[:, :2],
        "ggn_diagonal": unflatten(np.diag(G)),
        "ggn_diagonal_per_example": unflatten((J**2).sum(1)),
        "ggn_blocks": structure.unflatten([G[part, part] for part in of_leaf]),
        "fisher_diagonal": unflatten((rows**2).mean(0)),
        "ggn_vector_product": unflatten(np.einsum("nap,naq,q->p", J, J, along) / m),
        "fisher_vector_product": unflatten(rows.T @ (rows @ along) / m),
        "hessian_vector_product": unflatten(bends.mean(0) @ along if kind.diagonal else bends),
    }
    if kind.diagonal:
        each = np.einsum("mpp->mp", bends)
        expected["hessian_diagonal_per_example"] = unflatten(each)
        expected["hessian_diagonal"] = unflatten(each.mean(0))
    return expected


def factors(kind, params, x, y):
    """Kronecker factors, and corrected ones."""
    arguments, weights = (kind.net, LOSS, params, x, y), jnp.asarray(WEIGHTS)
    return curvature.kflr(*arguments, weights), curvature.ekfac(*arguments, weights=weights, positions="reduce")


def assert_close(actual, expected, name):
    assert jax.tree.structure(actual) == jax.tree.structure(expected), name
    # Of all leaves: what a norm or a softmax takes no notice of has a gradient of 0, and only rounding in it.
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * largest, err_msg=name)


@pytest.mark.parametrize("name", KINDS)
def test_every_function_is_that_of_the_gradients_and_matrices_formed(name, x64):
    kind, arguments = KINDS[name], problem(KINDS[name])
    net, weights = kind.net, jnp.asarray(WEIGHTS)

    @jax.jit
    def both(params, x, y, v):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, LOSS.backward(z, y))
        ours = readings(dparams, params, weights) | further_readings(dparams, params, weights)
        ours |= curvatures(kind, params, x, y, v)
        return ours, slopes_and_bends(kind, params, x, y, v), factors(kind, params, x, y)

    ours, (dz, J, bends), (kflr, eigen) = jax.device_get(both(*arguments))
    params, _, _, v = jax.device_get(arguments)
    g = gradients(dz, J)
    theirs = expected_readings(g, params, WEIGHTS) | expected_further(g, params, WEIGHTS)
    theirs |= expected_curvatures(kind, g, dz, J, bends, params, v)
    assert ours.keys() == theirs.keys()
    for quantity, expected in theirs.items():
        assert_close(ours[quantity], expected, quantity)
    jax.tree.map(check_factors, ours["ggn_blocks"], kflr, eigen)


def check_factors(block, of_leaf, eigen):
    """A single factor is the block; and whatever the basis, the corrected eigenvalues add up to the block's trace."""
    if len(of_leaf) == 1 and of_leaf[0].shape == block.shape:
        np.testing.assert_allclose(of_leaf[0], block, rtol=0, atol=1e-11 * np.abs(block).max())
    np.testing.assert_allclose(eigen.values.sum(), np.trace(block), rtol=1e-10, atol=1e-25)


def test_networks_of_layers_that_do_not_tell_their_second_derivative_are_refused_by_name():
    kind = KINDS["ids and attention"]
    params, x, y, _ = problem(kind)
    with pytest.raises(ValueError) as error:
        jax.eval_shape(lambda params: curvature.hessian_diagonal_per_example(kind.net, LOSS, params, x, y), params)
    assert str(error.value) == (
        "curvature.hessian_diagonal_per_example: attention does not tell its second derivative; give it one with "
        "Layer(init, forward, backward, second), or use ggn_diagonal_per_example"
    )
