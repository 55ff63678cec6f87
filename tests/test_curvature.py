"""Curvature against the explicit matrices of `jax.jacobian` and `jax.hessian`."""

import re
from functools import partial
from typing import Any, NamedTuple

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from own_layers import tied, total

import jaxnet as jn
from jaxnet import curvature

# Sums of thousands of products, at 1.1e-16 each, relative to the largest value of each leaf.
TOLERANCE = 1e-10
EXAMPLES = 5


class Case(NamedTuple):
    """A network, what flows in, and a loss."""

    net: jn.Layer
    loss: str = "softmax_cross_entropy_with_integer_labels"
    positions: tuple[int, ...] = ()


def gain():
    """y = x * gain: a layer of a user's, linear in its parameter and in x."""

    def wide(gain, x):
        return gain.reshape((1,) * (x.ndim - 1) + gain.shape)

    return jn.Layer(
        lambda key: jax.random.normal(key, (4,)),
        lambda gain, x: (x * wide(gain, x), x),
        lambda gain, x, dy: (jn.Each(dy * x), dy * wide(gain, x)),
        lambda gain, x, dy: None,
    )


CASES = {
    "dense": Case(jn.dense(4, 3)),
    "tanh": Case(jn.mlp((4, 5, 3), jn.tanh)),
    "sigmoid": Case(jn.mlp((4, 3, 2), jn.sigmoid), "sigmoid_binary_cross_entropy"),
    "softplus, three layers": Case(jn.mlp((4, 3, 4, 2), jn.softplus), "half_squared_error"),
    "relu": Case(jn.mlp((4, 5, 3), jn.relu), "softmax_cross_entropy"),
    "leaky_relu": Case(jn.mlp((4, 5, 3), jn.leaky_relu()), "half_squared_error"),
    "sigmoid after the last layer": Case(
        jn.mlp((4, 3, 2), jn.tanh, output_activation=jn.sigmoid), "binary_cross_entropy"
    ),
    "residual": Case(
        jn.chain(
            jn.dense(4, 3),
            jn.tanh,
            jn.residual(jn.chain(jn.dense(3, 2), jn.tanh, jn.dense(2, 3), jn.sigmoid)),
            jn.softplus,
            jn.dense(3, 3),
        )
    ),
    "chains in chains, a layer of a user's": Case(jn.chain(jn.chain(gain(), jn.dense(4, 3), jn.tanh), jn.dense(3, 2))),
    "repeated, recomputed": Case(
        jn.chain(jn.repeat(jn.recompute(jn.residual(jn.chain(jn.dense(4, 4), jn.tanh))), 2), jn.dense(4, 2))
    ),
    "few positions": Case(jn.mlp((4, 5, 3), jn.tanh), positions=(2,)),
    "few positions, wide": Case(jn.mlp((4, 10, 10, 2), jn.relu), "half_squared_error", (2,)),
    "many positions": Case(jn.mlp((4, 3, 2), jn.tanh), "half_squared_error", (4,)),
}


class Explicit(NamedTuple):
    """The matrices, formed; P parameters in a row, F outputs of an example."""

    J: Any  # (m, F, P)
    H_z: Any  # (m, F, F)
    g: Any  # (m, P)
    H: Any  # (P, P)
    G: Any  # (P, P)


def pose(case, examples=EXAMPLES):
    net, loss = case.net, getattr(jn.losses, case.loss)
    params, x = drawn.parameters(net), drawn.normal(examples, *case.positions, 4, seed=1)
    shape = jax.eval_shape(net.apply, params, x).shape
    y = drawn.normal(*shape, seed=2)
    if case.loss == "softmax_cross_entropy":
        y = jnp.asarray(np.exp(y) / np.exp(y).sum(-1, keepdims=True))
    elif "integer_labels" in case.loss:
        y = drawn.ids(shape[-1], *shape[:-1], seed=2)
    elif "binary" in case.loss:
        y = jnp.asarray(np.asarray(y) > 0, y.dtype)
    return net, loss, params, x, y, drawn.like(params, seed=3)


def of_outputs(loss, z, y):
    """The Hessian of each example's loss by its outputs, (m, F, F)."""
    m, outputs = len(z), z[0].size
    H_z = jax.jacfwd(jax.grad(lambda z: loss.forward(z, y).sum()))(z).reshape(m, outputs, m, outputs)
    return H_z[np.arange(m), :, np.arange(m)]


@partial(jax.jit, static_argnums=(0, 1))
def explicit(net, loss, params, x, y):
    flat, unflatten = ravel_pytree(params)
    z = net.apply(params, x)
    outputs = z[0].size

    def losses(z):
        return loss.forward(z, y)

    J = jax.jacrev(lambda flat: net.apply(unflatten(flat), x))(flat).reshape(len(x), outputs, -1)
    H_z = of_outputs(loss, z, y)
    g = jnp.einsum("nf,nfp->np", jax.grad(lambda z: losses(z).sum())(z).reshape(len(x), outputs), J)
    H = jax.hessian(lambda flat: losses(net.apply(unflatten(flat), x)).mean())(flat)
    return Explicit(J, H_z, g, H, jnp.einsum("nap,nab,nbq->pq", J, H_z, J) / len(x))


def compiled(quantity, net, loss):
    return jax.jit(partial(quantity, net, loss))


def as_tree(params, flat, leading=()):
    """Numbers of all parameters in a row, behind leading axes, in the structure of the parameters."""
    leaves, structure = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = np.split(np.asarray(flat), ends[:-1], axis=len(leading))
    return structure.unflatten([part.reshape(*leading, *leaf.shape) for part, leaf in zip(parts, leaves, strict=True)])


def blocks(params, matrix):
    """The diagonal blocks of a matrix over all parameters, in the structure of the parameters."""
    leaves, structure = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])
    of_leaf = [slice(end - leaf.size, end) for end, leaf in zip(ends, leaves, strict=True)]
    return structure.unflatten([np.asarray(matrix)[part, part] for part in of_leaf])


def assert_close(actual, expected, name="", tolerance=TOLERANCE):
    assert jax.tree.structure(actual) == jax.tree.structure(expected), name
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max(), err_msg=name)


# What tanh and leaky_relu have besides is asked of other networks here, and of every activation by its own tests.
@pytest.mark.parametrize("name", sorted(CASES.keys() - {"tanh", "leaky_relu"}))
def test_exact_quantities_are_those_of_the_explicit_matrices(name, x64):
    problem = pose(CASES[name])
    net, loss, params, x, _, v = problem

    @jax.jit
    def ours(params, x, y, v):
        return {
            "jacobian": curvature.jacobian(net, params, x),
            "neural_tangent_kernel": curvature.neural_tangent_kernel(net, params, x),
            "between two batches": curvature.neural_tangent_kernel(net, params, x, x[:2]),
            "ggn_diagonal": curvature.ggn_diagonal(net, loss, params, x, y),
            "ggn_diagonal_per_example": curvature.ggn_diagonal_per_example(net, loss, params, x, y),
            "ggn_blocks": curvature.ggn_blocks(net, loss, params, x, y),
            "hessian_diagonal": curvature.hessian_diagonal(net, loss, params, x, y),
            "fisher_diagonal": curvature.fisher_diagonal(net, loss, params, x, y),
            "ggn_vector_product": curvature.ggn_vector_product(net, loss, params, x, y, v),
            "hessian_vector_product": curvature.hessian_vector_product(net, loss, params, x, y, v),
            "fisher_vector_product": curvature.fisher_vector_product(net, loss, params, x, y, v),
        }

    *arrays, v = problem[2:]
    actual = ours(*arrays, v)
    J, H_z, g, H, G = jax.device_get(explicit(net, loss, *arrays))
    flat_v = np.asarray(ravel_pytree(v)[0])
    outputs = jax.eval_shape(net.apply, params, x).shape[1:]
    kernel = np.einsum("map,nbp->mnab", J, J).reshape(EXAMPLES, EXAMPLES, *outputs, *outputs)
    of_example = np.einsum("nap,nab,nbp->np", J, H_z, J)
    expected = {
        "jacobian": as_tree(params, J.reshape(EXAMPLES, *outputs, -1), (EXAMPLES, *outputs)),
        "neural_tangent_kernel": kernel,
        "between two batches": kernel[:, :2],
        "ggn_diagonal": as_tree(params, np.diag(G)),
        "ggn_diagonal_per_example": as_tree(params, of_example, (EXAMPLES,)),
        "ggn_blocks": blocks(params, G),
        "hessian_diagonal": as_tree(params, np.diag(H)),
        "fisher_diagonal": as_tree(params, (g**2).mean(0)),
        "ggn_vector_product": as_tree(params, G @ flat_v),
        "hessian_vector_product": as_tree(params, H @ flat_v),
        "fisher_vector_product": as_tree(params, g.T @ (g @ flat_v) / EXAMPLES),
    }
    assert actual.keys() == expected.keys()
    for quantity, value in expected.items():
        assert_close(actual[quantity], value, quantity)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus, three layers", "relu"])
def test_kronecker_factors_are_those_of_their_definitions(name, x64):
    """In NumPy, layer after layer, with the Jacobian of what follows by autodiff."""
    net, loss, params, x, y, _ = pose(CASES[name])
    layers = net.forward.args[0]

    @jax.jit
    def parts(params, x, y):
        """The factors; and of each layer the input, the slopes of an activation, and the Jacobian of what follows."""
        before, slopes, following = [x], [], []
        for position, (layer, of_layer) in enumerate(zip(layers, params, strict=True)):
            a, z = before[-1], layer.apply(of_layer, before[-1])
            after = jn.chain(*layers[position + 1 :])
            slopes.append(jax.vmap(jax.vmap(jax.grad(partial(layer.apply, ()))))(a) if of_layer == () else None)
            following.append(jax.vmap(jax.jacrev(partial(after.apply, params[position + 1 :])))(z))
            before.append(z)
        factors = [quantity(net, loss, params, x, y) for quantity in (curvature.kflr, curvature.kfra)]
        return *factors, of_outputs(loss, before[-1], y), before, slopes, following

    kflr, kfra, H_z, before, slopes, following = jax.device_get(parts(params, x, y))
    K = H_z.mean(0)
    for position in reversed(range(len(layers))):
        a, J = before[position], following[position]
        if params[position] == ():
            K = K * (slopes[position].T @ slopes[position]) / EXAMPLES
            continue
        B, A = np.einsum("nao,nab,nbp->op", J, H_z, J) / EXAMPLES, a.T @ a / EXAMPLES
        assert_close(kflr[position], jn.Dense(W=(B, A), b=(B,)))
        assert_close(kfra[position], jn.Dense(W=(K, A), b=(K,)))
        W = np.asarray(params[position].W)
        K = W.T @ K @ W


@pytest.mark.parametrize("name", ["residual", "repeated, recomputed", "few positions"])
def test_weighted_kronecker_factors_are_sums_over_examples_and_leave_out_those_of_weight_zero(name, x64, key):
    net, loss, params, x, y, _ = pose(CASES[name])
    weights = jnp.array([0.4, 0.0, 0.1, 0.5, 0.0])
    actual = jax.jit(partial(curvature.kflr, net, loss))(params, x, y, weights)
    of_one = jax.jit(partial(curvature.kflr, net, loss))
    each = [of_one(params, x[n : n + 1], y[n : n + 1]) for n in range(EXAMPLES)]
    expected = jax.tree.map(lambda *factors: sum(w * f for w, f in zip(weights, factors, strict=True)), *each)
    assert_close(actual, expected)
    draw = jax.jit(lambda x: curvature.kfac(net, loss, params, x, y, key, weights=weights))
    assert_close(draw(x.at[1].add(3)), draw(x))


@pytest.mark.parametrize("positions", [(), (3,)], ids=["without positions", "with positions"])
@pytest.mark.parametrize("sizes", [(4, 3), (4, 3, 5, 2)], ids=["one layer", "a deep linear network"])
def test_kronecker_factors_are_exact_for_linear_networks_and_squared_error(sizes, positions, x64):
    net, loss, params, x, y, _ = pose(Case(jn.mlp(sizes, jn.identity), "half_squared_error", positions))
    exactly = compiled(curvature.ggn_blocks, net, loss)(params, x, y)
    for quantity in (curvature.kflr,) if positions else (curvature.kflr, curvature.kfra):
        factors = compiled(quantity, net, loss)(params, x, y)
        products = jax.tree.map(lambda _, factor: np.kron(*factor) if len(factor) == 2 else factor[0], params, factors)
        assert_close(products, exactly)
    eigen = compiled(curvature.ekfac, net, loss)(params, x, y)
    assert_close(jax.tree.map(_matrix, eigen, is_leaf=lambda leaf: isinstance(leaf, curvature.Eigen)), exactly)


def _matrix(eigen):
    basis = np.kron(*eigen.bases) if len(eigen.bases) == 2 else eigen.bases[0]
    return (basis * eigen.values.reshape(1, -1)) @ basis.T


def test_blocks_of_biases_are_exact_and_of_deep_linear_networks_with_any_loss_where_examples_agree(x64):
    """All examples at the same outputs have the same dz: then B kron A is exact for softmax too."""
    net, loss, params, x, y, _ = pose(Case(jn.mlp((4, 3, 3), jn.tanh)))
    blocks_of, factors_of = (compiled(read, net, loss) for read in (curvature.ggn_blocks, curvature.kflr))
    for ours, theirs in zip(factors_of(params, x, y)[::2], blocks_of(params, x, y)[::2], strict=True):
        assert_close(ours.b[0], theirs.b)
    alike = jnp.broadcast_to(x[:1], x.shape)
    exactly, factors = blocks_of(params, alike, y), factors_of(params, alike, y)
    for ours, theirs in zip(factors[::2], exactly[::2], strict=True):
        assert_close(jnp.kron(*ours.W), theirs.W)


@pytest.mark.parametrize("name", ["tanh", "few positions", "chains in chains, a layer of a user's"])
def test_ekfac_has_the_exact_second_moments_in_the_factors_eigenbasis(name, x64):
    net, loss, params, x, y, _ = pose(CASES[name])
    quantities = curvature.ekfac, curvature.kflr, curvature.ggn_blocks
    of_all = jax.jit(lambda *arguments: [quantity(net, loss, *arguments) for quantity in quantities])
    eigen, factors, exactly = jax.device_get(of_all(params, x, y))

    def check(leaf, of_leaf, factors, block):
        for basis, factor in zip(of_leaf.bases, factors, strict=True):
            assert_close(basis.T @ basis, np.eye(len(basis)))
            rotated = basis.T @ factor @ basis
            assert_close(rotated, np.diag(np.diag(rotated)))
        basis = np.kron(*of_leaf.bases) if len(of_leaf.bases) == 2 else of_leaf.bases[0]
        assert_close(of_leaf.values, np.diag(basis.T @ block @ basis).reshape(leaf.shape))

        def error(matrix):
            return float(((matrix - block) ** 2).sum() / (block**2).sum())

        uncorrected = np.kron(*factors) if len(factors) == 2 else factors[0]
        assert error(_matrix(of_leaf)) <= error(uncorrected) + TOLERANCE

    jax.tree.map(check, params, eigen, factors, exactly)


SAMPLED = {
    "ggn_diagonal_sampled": (curvature.ggn_diagonal_sampled, curvature.ggn_diagonal),
    "kfac": (curvature.kfac, curvature.kflr),
}


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus, three layers", "few positions"])
def test_sampled_quantities_converge_to_the_exact_ones(name, x64, key):
    """The mean over 400 keys lies within six standard errors, which happens by chance once in 500 million."""
    net, loss, params, x, y, _ = pose(CASES[name])

    @jax.jit
    def both(keys):
        arguments = net, loss, params, x, y
        draws = jax.vmap(lambda key: [sampled(*arguments, key, samples=4) for sampled, _ in SAMPLED.values()])(keys)
        return draws, [exact(*arguments) for _, exact in SAMPLED.values()]

    draws, exactly = jax.device_get(both(jax.random.split(key, 400)))
    for ours, theirs in zip(jax.tree.leaves(draws), jax.tree.leaves(exactly), strict=True):
        standard_error = ours.std(0, ddof=1) / 20
        # Factors among inputs are not drawn: they are exact, and their standard error is 0.
        assert (np.abs(ours.mean(0) - theirs) <= 6 * standard_error + 1e-14).all()


def test_more_samples_come_nearer(x64, key):
    net, loss, params, x, y, _ = pose(CASES["tanh"])
    exactly, _ = ravel_pytree(compiled(curvature.ggn_diagonal, net, loss)(params, x, y))

    def error(samples):
        keys = jax.random.split(key, 50)
        draw = partial(curvature.ggn_diagonal_sampled, net, loss, params, x, y, samples=samples)
        flat = jax.vmap(lambda draw: ravel_pytree(draw)[0])(jax.jit(jax.vmap(draw))(keys))
        return float(((flat - exactly[None]) ** 2).mean())

    # Sixteen times the samples, a sixteenth of the squared error; by chance of 50 draws not exactly.
    assert error(16) < error(1) / 8


def test_fisher_vector_product_with_drawn_labels_is_that_of_the_ggn_in_expectation(x64, key):
    net, loss, params, x, y, v = pose(CASES["tanh"])
    exactly, _ = ravel_pytree(compiled(curvature.ggn_vector_product, net, loss)(params, x, y, v))

    def draw(key):
        labels = loss.sample(key, net.apply(params, x))
        return ravel_pytree(curvature.fisher_vector_product(net, loss, params, x, labels, v))[0]

    draws = jax.jit(jax.vmap(draw))(jax.random.split(key, 2000))
    assert (jnp.abs(draws.mean(0) - exactly) <= 6 * draws.std(0, ddof=1) / 2000**0.5).all()


def test_parameters_used_twice_have_their_ggn(x64):
    """Through all that only sends back columns; the Hessian's diagonal needs to know more."""
    net, loss, params, x, y, _ = pose(Case(tied(4)))
    G = explicit(net, loss, params, x, y).G
    assert_close(compiled(curvature.ggn_diagonal, net, loss)(params, x, y), as_tree(params, np.diag(G)))
    assert_close(compiled(curvature.ggn_blocks, net, loss)(params, x, y), blocks(params, G))
    with pytest.raises(ValueError) as error:
        curvature.hessian_diagonal(net, loss, params, x, y)
    assert str(error.value) == (
        "curvature.hessian_diagonal: forward does not tell its second derivative; "
        "give it one with Layer(init, forward, backward, second), or use ggn_diagonal"
    )


def test_the_diagonal_hessian_of_a_relu_network_is_the_ggns(x64):
    net, loss, params, x, y, _ = pose(CASES["relu"])
    quantities = curvature.hessian_diagonal, curvature.ggn_diagonal
    assert_close(
        *jax.jit(lambda *arguments: [quantity(net, loss, *arguments) for quantity in quantities])(params, x, y)
    )


def test_columns_of_your_own(x64):
    """A third of the signal sent back gives a ninth of the empirical Fisher matrix."""
    net, loss, params, x, y, _ = pose(CASES["tanh"])

    @jax.jit
    def quantities(params, x, y):
        third = curvature.diagonal(net, lambda z, y: loss.backward(z, y)[None] / 3, params, x, y)
        empirical = curvature.kronecker(net, curvature.empirical(loss), params, x, y)
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, loss.backward(z, y))
        return third, curvature.fisher_diagonal(net, loss, params, x, y), empirical, dparams[0].b.g

    third, fisher, empirical, g = quantities(params, x, y)
    assert_close(third, jax.tree.map(lambda leaf: leaf / 9, fisher))
    assert_close(empirical[0].b[0], g.T @ g / EXAMPLES)


def test_one_product_serves_all_columns():
    """The GGN's diagonal sums over the columns before the product with a^2: 10 of them cost little more than 2."""
    net, loss = jn.mlp((256, 256, 10)), jn.losses.softmax_cross_entropy_with_integer_labels
    params = jax.eval_shape(net.init, jax.random.key(0))
    x, y = jax.ShapeDtypeStruct((128, 256), jnp.float32), jax.ShapeDtypeStruct((128,), jnp.int32)

    def flops(quantity):
        return jax.jit(quantity).lower(params, x, y).compile().cost_analysis()["flops"]

    # Forward and second moments once, backward of ten columns through the last layer; ten products would be 10 times.
    assert flops(lambda *arrays: curvature.ggn_diagonal(net, loss, *arrays)) < 2 * flops(jn.value_and_grad(net, loss))


def test_the_kernels_trace_holds_no_kernel_of_two_outputs(key):
    """By the shapes of all that the program computes, where a kernel of one output has (m, n) numbers."""
    net = jn.dense(2, 50)
    x = jnp.ones((7, 2))
    program = jax.make_jaxpr(partial(curvature.neural_tangent_kernel, net, trace=True))(net.init(key), x, x)
    shapes = re.findall(r"f32\[([\d,]+)\]", str(program))
    assert max(np.prod([int(n) for n in shape.split(",")]) for shape in shapes) == 7 * 50


@pytest.mark.usefixtures("without_shape_annotations")
def test_misuse_is_named(key):
    net, loss, params, x, y, _ = pose(CASES["tanh"])

    def message(call):
        with pytest.raises(ValueError) as error:
            call()
        return "; ".join([str(error.value), *getattr(error.value, "__notes__", [])])

    assert message(lambda: curvature.sampled(loss, key, 0)) == "curvature.sampled: expected at least 1 sample, got 0"
    assert message(lambda: curvature.kfac(net, loss, params, x, y[:3], key)) == (
        "curvature.sampled: expected y of shape (5,), got (3,)"
    )
    swapped = "curvature: expected loss to be a Loss, such as jaxnet.losses.half_squared_error, got the layer " + repr(
        net
    )
    assert message(lambda: curvature.ggn_diagonal(loss, net, params, x, y)) == swapped
    assert message(lambda: curvature.kfac(loss, net, params, x, y, key)) == swapped
    assert message(lambda: curvature.fisher_diagonal(loss, net, params, x, y)) == swapped
    fork = jn.chain(jn.branches(jn.dense(4, 3), jn.dense(4, 3)), total)
    assert message(lambda: curvature.kfra(fork, loss, fork.init(key), x, y)) == (
        "curvature.kfra: expected layers of one array, got total; use kflr; in layer [1] of the chain, total"
    )
    unknown = jn.chain(jn.dense(4, 4), jn.residual(jn.dense(4, 4)), jn.dense(4, 3))
    assert message(lambda: curvature.kfra(unknown, loss, unknown.init(key), x, y)) == (
        "curvature.kfra: expected a network without paths that meet, as after residual; use kflr; "
        "in layer [1] of the chain, residual"
    )
    own = jn.Layer(lambda key: (), lambda params, x: (x, ()), lambda params, cache, dy: ((), dy))
    unknown = jn.chain(jn.dense(4, 3), own)
    assert message(lambda: curvature.hessian_diagonal(unknown, loss, unknown.init(key), x, y)) == (
        "curvature.hessian_diagonal: <lambda> does not tell its second derivative; give it one with "
        "Layer(init, forward, backward, second), or use ggn_diagonal; in layer [1] of the chain, <lambda>"
    )


def test_an_ensemble_under_vmap_has_each_members_curvature(x64, key):
    net, loss, _, x, y, _ = pose(CASES["tanh"])
    members = jax.vmap(net.init)(jax.random.split(key, 3))

    @jax.jit
    def quantities(params):
        return (
            curvature.ggn_diagonal(net, loss, params, x, y),
            curvature.hessian_diagonal(net, loss, params, x, y),
            curvature.kfac(net, loss, params, x, y, key),
            curvature.neural_tangent_kernel(net, params, x),
        )

    together = jax.jit(jax.vmap(quantities))(members)
    for member in range(3):
        alone = quantities(jax.tree.map(lambda leaf, k=member: leaf[k], members))
        assert_close(jax.tree.map(lambda leaf, k=member: leaf[k], together), alone)
