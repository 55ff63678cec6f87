"""K-FAC's step on every kind of layer: against explicit matrices, and against other ways to write the same network."""

from functools import partial

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn
from jaxnet import curvature, optimizers
from jaxnet.factored import Diagonal

# Inverses of matrices whose condition is about 100, at 1.1e-16.
EXACT = {"rtol": 1e-9, "atol": 1e-12}
LOSS, DAMPING = jn.losses.half_squared_error, 0.3
# Each takes (m, 4, 6), positions and features.
NETWORKS = {
    "conv": jn.chain(jn.conv(6, 4, (3,)), jn.tanh),
    "groups": jn.conv(6, 4, (3,), groups=2, stride=2),
    "transposed": jn.conv_transpose(6, 4, (2,), stride=2, groups=2),
    "norms": jn.chain(jn.layer_norm(6), jn.dense(6, 4), jn.rms_norm(4)),
    "repeated": jn.repeat(jn.chain(jn.layer_norm(6), jn.conv(6, 6, (3,), groups=2), jn.tanh), 2),
}


def batch(net, x=None):
    """(params, x, y, grads)."""
    params = drawn.parameters(net)
    x = drawn.normal(5, 4, 6, seed=1) if x is None else x
    y = drawn.normal(*jax.eval_shape(net.apply, params, x).shape, seed=2)
    return params, x, y, jax.jit(jn.value_and_grad(net, LOSS))(params, x, y)[1]


def drawn_factors(net, params, x, y, key):
    """The factors of which the first update is made."""
    _, sample_key = jax.random.split(key)
    return jax.jit(partial(curvature.kfac, net, LOSS))(params, x, y, sample_key)


def step(net, params, x, y, grads, key, **options):
    """The first update, with a learning rate of 1: the preconditioned gradient."""
    optimizer = optimizers.kfac(net, LOSS, 1.0, damping=DAMPING, momentum=0.0, key=key, **options)
    return jax.jit(lambda grads: optimizer.update(grads, optimizer.init(params), params, x=x, y=y))(grads)


def explicit(gradient, factors):
    """-(F + damping)^-1 vec(g) with F one matrix, or the product of two that are damped each by itself."""
    factors = [np.asarray(factor.matrix() if isinstance(factor, Diagonal) else factor) for factor in factors]
    if factors[0].ndim > 2:
        of_each = np.reshape(gradient, (len(factors[0]), -1))
        steps = [explicit(g, [factor[k] for factor in factors]) for k, g in enumerate(of_each)]
        return np.stack(steps).reshape(gradient.shape)
    shares = [DAMPING]
    if len(factors) == 2:
        means = [np.trace(factor) / len(factor) for factor in factors]
        pi = np.sqrt(means[1] / means[0])
        shares = [np.sqrt(DAMPING) / pi, np.sqrt(DAMPING) * pi]
    block = np.eye(1)
    for factor, share in zip(factors, shares, strict=True):
        block = np.kron(block, factor + share * np.eye(len(factor)))
    return -np.linalg.solve(block, np.ravel(gradient)).reshape(gradient.shape)


def assert_equal(actual, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **EXACT), actual, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_step_is_that_of_the_damped_block_formed(name, x64, key):
    net = NETWORKS[name]
    params, x, y, grads = batch(net)
    updates, state = step(
        net, params, x, y, grads, key, inputs=jax.ShapeDtypeStruct((1, 4, 6), x.dtype), one_block=False
    )
    factors = drawn_factors(net, params, x, y, key)
    assert_equal(state.factors, factors)
    assert_equal(updates, jax.tree.map(explicit, grads, factors))


@pytest.mark.parametrize("one_block", [False, True], ids=["two blocks", "one block"])
def test_a_repeated_layers_step_is_that_of_the_chain(one_block, x64, key):
    layer = jn.chain(jn.conv(6, 6, (3,), groups=2), jn.tanh, jn.layer_norm(6), jn.dense(6, 6))
    params, x, y, grads = batch(jn.repeat(layer, 2))
    rows = [jax.tree.map(lambda leaf, k=k: leaf[k], (params, grads)) for k in (0, 1)]
    in_chain = [tuple(of_row[part] for of_row in rows) for part in (0, 1)]
    ours, _ = step(jn.repeat(layer, 2), params, x, y, grads, key, inputs=x, one_block=one_block)
    theirs, _ = step(jn.chain(layer, layer), in_chain[0], x, y, in_chain[1], key, inputs=x, one_block=one_block)
    assert_equal(ours, jax.tree.map(lambda *leaves: np.stack(leaves), *theirs))


@pytest.mark.parametrize("one_block", [False, True], ids=["two blocks", "one block"])
def test_a_window_of_one_place_used_twice_is_a_dense_layer_used_twice(one_block, x64, key):
    """A further use is as further positions, of windows as of weights."""
    dense, conv = (jn.shared(jn.chain(layer, jn.tanh), 2) for layer in (jn.dense(6, 6), jn.conv(6, 6, (1,))))
    params, x, y, grads = batch(dense)
    theirs, _ = step(dense, params, x, y, grads, key, one_block=one_block)
    in_conv = [(jn.Conv(W[:, None], b), ()) for ((W, b), _) in (params, grads)]
    ours, _ = step(conv, in_conv[0], x, y, in_conv[1], key, inputs=x, one_block=one_block)
    assert_equal(ours[0].W[:, 0], theirs[0].W)
    assert_equal(ours[0].b, theirs[0].b)


@pytest.mark.parametrize("inputs", [False, True], ids=["by shape", "by inputs"])
def test_a_weight_and_its_bias_are_one_block_of_inputs_that_end_in_1(inputs, x64, key):
    net = jn.chain(jn.dense(6, 4), jn.tanh, jn.dense(4, 3))
    params, x, y, grads = batch(net, drawn.normal(5, 6, seed=1))
    updates, _ = step(net, params, x, y, grads, key, one_block=True, inputs=x if inputs else None)
    factors = drawn_factors(net, params, x, y, key)
    a = np.tanh(net.made.args[0].apply(params[0], x))
    for number, signal in ((0, x), (2, a)):
        extended = np.concatenate([signal, np.ones((5, 1))], axis=1)
        gradient = np.concatenate([grads[number].W, grads[number].b[:, None]], axis=1)
        expected = explicit(gradient, (factors[number].W[0], extended.T @ extended / 5))
        assert_equal(updates[number].W, expected[:, :-1])
        assert_equal(updates[number].b, expected[:, -1])


@pytest.mark.parametrize("one_block", [False, True], ids=["two blocks", "one block"])
def test_reduced_positions_are_those_of_the_network_that_pools_them_first(one_block, x64, key):
    """Linear layers go with the mean over positions in either order; weight and bias, and each group, by themselves."""
    layers = jn.dense(6, 4), jn.conv(4, 4, (1,), groups=2)
    last, first = jn.chain(*layers, jn.global_mean), jn.chain(jn.global_mean, jn.reshape((1, 6)), *layers, jn.flatten)
    params, x, y, grads = batch(last)
    options = {"one_block": one_block, "inputs": x}
    ours, state = step(last, params, x, y, grads, key, positions="reduce", **options)
    pooled, theirs = ((), (), *params[:2], ()), ((), (), *grads[:2], ())
    expected, other = step(first, pooled, x, y, theirs, key, positions="expand", **options)
    assert_equal(ours[:2], expected[2:4])
    assert_equal(state.factors[:2], other.factors[2:4])


def test_the_factors_of_reduced_positions_are_curvatures(x64, key):
    net = jn.chain(jn.embedding(5, 6), jn.conv(6, 4, (2,)), jn.global_mean)
    params, x, y, grads = batch(net, jnp.asarray((np.arange(20) % 7 % 5).reshape(5, 4)))
    updates, state = step(net, params, x, y, grads, key, inputs=x, one_block=False, positions="reduce")
    _, sample_key = jax.random.split(key)
    factors = jax.jit(partial(curvature.kfac, net, LOSS, positions="reduce"))(params, x, y, sample_key)
    assert_equal(state.factors, factors)
    assert_equal(updates[1:], jax.tree.map(explicit, grads[1:], factors[1:]))


def test_another_way_to_take_positions_is_refused(without_shape_annotations):
    with pytest.raises(ValueError) as error:
        optimizers.kfac(jn.dense(2, 2), LOSS, positions="sum")
    assert str(error.value) == "kfac: expected positions to be 'expand' or 'reduce', got 'sum'"


def test_of_a_gain_with_many_numbers_the_diagonal_of_its_block_is_kept(x64, key):
    net = jn.chain(jn.rms_norm(6), jn.dense(6, 2))
    params, x, y, grads = batch(net)
    updates, state = step(net, params, x, y, grads, key, largest_block=5, one_block=False)
    (block,) = jax.tree.leaves(drawn_factors(net, params, x, y, key)[0])
    np.testing.assert_allclose(state.factors[0].gain[0].values, np.diag(block), **EXACT)
    np.testing.assert_allclose(updates[0].gain, -grads[0].gain / (np.diag(block) + DAMPING), **EXACT)
    assert state.factors[1].b[0].shape == (2, 2)


def language_model():
    attend = jn.residual(jn.chain(jn.layer_norm(8), jn.multi_head_attention(8, 2, causal=True)))
    think = jn.residual(jn.chain(jn.layer_norm(8), jn.dense(8, 16), jn.gelu, jn.dense(16, 8)))
    body = jn.chain(jn.position_table(6, 8), jn.repeat(jn.chain(attend, think), 2), jn.layer_norm(8))
    return jn.tied(jn.embedding(5, 8), body, jn.unembedding(5, 8))


def image_classifier():
    blocks = (jn.conv(2, 4, (3, 3)), jn.group_norm(2, 4), jn.relu, jn.max_pool((2, 2)), jn.conv(4, 4, (3, 3), groups=2))
    return jn.chain(*blocks, jn.relu, jn.global_mean, jn.dense(4, 3))


@pytest.mark.parametrize("make", [language_model, image_classifier])
def test_networks_of_all_kinds_of_layers_train(make, key):
    net, loss = make(), jn.losses.softmax_cross_entropy_with_integer_labels
    if make is language_model:
        x = (np.arange(6)[None] + np.arange(16)[:, None]) % 5
        x, y = jnp.asarray(x), jnp.asarray((x + 1) % 5)
    else:
        x, y = jax.random.normal(key, (16, 6, 6, 2)), jnp.asarray(np.arange(16) % 3)
    # Damping that allows for long steps at once.
    optimizer = optimizers.kfac(net, loss, damping=1.0, inputs=x, interval=2, factor_interval=2)
    state, losses = jn.TrainState.create(net.init(key), optimizer), []
    train = jn.make_step(net, loss, optimizer)
    for _ in range(12):
        state, metrics = train(state, x, y)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.8 * losses[0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


@pytest.mark.parametrize(
    ("net", "name", "shape"),
    [
        (jn.chain(jn.conv(6, 3, (2,)), jn.tanh), "[0].W", (3, 2, 6)),
        (jn.repeat(jn.rms_norm(6), 3), ".gain", (3, 6)),
    ],
    ids=["windows", "a stack that looks like a matrix"],
)
def test_parameters_whose_shape_does_not_tell_their_factors_ask_for_inputs(net, name, shape, key):
    params, x, y, grads = batch(net)
    with pytest.raises(ValueError) as error:
        step(net, params, x, y, grads, key)
    assert str(error.value).splitlines()[0] == (
        f"kfac: expected inputs=x, a batch or its shapes, since the shape {shape} of the parameter {name} does not "
        "tell its factors; give kfac(net, loss, inputs=x)"
    )


@pytest.mark.parametrize("n", [1, 7, 81, 190])
def test_inverses_by_products_are_inverses(n, x64):
    inverse = partial(jax.jit(optimizers.inverse.inverse_of))
    roots = np.asarray(drawn.normal(2, n, n))
    S = jnp.asarray(roots @ roots.swapaxes(1, 2) / n + 0.1 * np.eye(n))
    together = jax.jit(jax.vmap(optimizers.inverse.inverse_of))(S)
    np.testing.assert_allclose(together, np.linalg.inv(S), rtol=0, atol=1e-10)
    np.testing.assert_allclose(inverse(S[1]), together[1], rtol=0, atol=1e-12)


def test_no_step_waits_for_threads_of_blas():
    """Whose threads, beside other programs' on a CPU, take fifty times as long as the inverse."""
    net = jn.mlp((6, 100, 4))
    params, x, y, grads = batch(net, jnp.ones((5, 6)))
    optimizer = optimizers.kfac(net, LOSS, 1.0)
    program = jax.jit(lambda grads: optimizer.update(grads, optimizer.init(params), params, x=x, y=y)).lower(grads)
    assert "lapack_" not in program.as_text()
