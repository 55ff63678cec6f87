"""Other ways back, against their formulas in NumPy."""

from functools import partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from own_layers import gain, table

import jaxnet as jn
from jaxnet import feedback

# Sums of tens of terms in another order, at 1.1e-16 each.
EXACT = {"rtol": 1e-11, "atol": 1e-14}
NET = jn.mlp((4, 6, 5, 3), jn.tanh)
LOSS = jn.losses.softmax_cross_entropy_with_integer_labels


@pytest.fixture(params=[(), (2,)], ids=["without positions", "with positions"])
def problem(request, x64, key):
    keys = jax.random.split(key, 4)
    x = jax.random.normal(keys[0], (7, *request.param, 4))
    y = jax.random.randint(keys[1], (7, *request.param), 0, 3)
    return NET.init(keys[2]), NET.init(keys[3]), x, y


def gradient(backward, params, x, y):
    _, grads = jax.jit(jn.value_and_grad(NET, LOSS, backward=backward))(params, x, y)
    return grads


def by_hand(params, into_second, into_first, x, y):
    """The lesson's backward pass, with functions of (dz3, dz2) for what comes back to the hidden activations."""
    (W1, b1), _, (W2, b2), _, (W3, b3) = jax.tree.map(np.asarray, params)
    flat, labels = np.asarray(x).reshape(-1, 4), np.asarray(y).ravel()
    a1 = np.tanh(flat @ W1.T + b1)
    a2 = np.tanh(a1 @ W2.T + b2)
    e = np.exp(a2 @ W3.T + b3)
    dz3 = e / e.sum(1, keepdims=True) - np.eye(3)[labels]
    dz2 = into_second(dz3) * (1 - a2**2)
    dz1 = into_first(dz3, dz2) * (1 - a1**2)
    layers = [jn.Dense(dz.T @ a / len(x), dz.sum(0) / len(x)) for dz, a in ((dz1, flat), (dz2, a1), (dz3, a2))]
    return layers[0], (), layers[1], (), layers[2]


def assert_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **EXACT), actual, expected)


def test_the_transpose_is_backpropagation(problem):
    params, _, x, y = problem
    expected = by_hand(params, lambda dz3: dz3 @ params[4].W, lambda dz3, dz2: dz2 @ params[2].W, x, y)
    assert_equal(gradient(None, params, x, y), expected)
    assert_equal(gradient(feedback.alignment(NET, params), params, x, y), expected)


def test_alignment_sends_through_other_weights(problem):
    params, B, x, y = problem
    expected = by_hand(params, lambda dz3: dz3 @ B[4].W, lambda dz3, dz2: dz2 @ B[2].W, x, y)
    assert_equal(gradient(feedback.alignment(NET, B), params, x, y), expected)


def test_sign_symmetry_sends_through_the_signs_and_mean_size_of_the_weights(problem):
    params, _, x, y = problem
    second, third = (np.sign(W) * np.abs(W).mean() for W in (np.asarray(params[2].W), np.asarray(params[4].W)))
    expected = by_hand(params, lambda dz3: dz3 @ third, lambda dz3, dz2: dz2 @ second, x, y)
    assert_equal(gradient(feedback.sign_symmetry(NET), params, x, y), expected)


def test_direct_feedback_goes_from_the_output_to_every_layer(problem, key):
    params, _, x, y = problem
    B = feedback.direct_weights(NET, params, x, key)
    assert [b if isinstance(b, tuple) else b.shape for b in B] == [(), (), (3, 6), (), (3, 5)]
    expected = by_hand(params, lambda dz3: dz3 @ B[4], lambda dz3, dz2: dz3 @ B[2], x, y)
    assert_equal(gradient(feedback.direct(NET, B), params, x, y), expected)


def test_direct_weights_know_shapes_alone_and_have_the_promised_size(key):
    net = jn.mlp((4, 300, 300, 10), jn.relu)
    params = jax.eval_shape(net.init, key)
    B = feedback.direct_weights(net, params, jax.ShapeDtypeStruct((1, 4), jnp.float32), key)
    # 3,000 draws: the standard error of a standard deviation is 1.3% of it.
    np.testing.assert_allclose([np.std(B[2]), np.std(B[4])], 10**-0.5, rtol=0.08)
    assert (B[2] != B[4]).any()


def test_the_signal_at_the_input_is_the_first_layers_own(problem, key):
    params, _, x, y = problem

    @jax.jit
    def both(params, x, y):
        z, cache = NET.forward(params, x)
        backward = feedback.direct(NET, feedback.direct_weights(NET, params, x, key))
        dparams, dx = backward(params, cache, LOSS.backward(z, y))
        return dx, dparams[0].W.dz @ params[0].W

    np.testing.assert_allclose(*both(params, x, y), **EXACT)


def test_every_reading_is_there_on_every_way_back(problem, key):
    params, _, x, y = problem
    clip = jn.per_example.clipped(0.1)
    backward = feedback.sign_symmetry(NET)

    @jax.jit
    def both(params, x, y):
        z, cache = NET.forward(params, x)
        dparams, _ = backward(params, cache, LOSS.backward(z, y))
        _, grads = jn.value_and_grad(NET, LOSS, backward=backward, read=clip)(params, x, y)
        return grads, jn.per_example.clipped_mean(dparams, 0.1)

    assert_equal(*both(params, x, y))


def test_mirroring_tends_to_the_weights_times_rate_over_decay(x64, key):
    params, B = NET.init(jax.random.key(1)), NET.init(jax.random.key(2))
    before, x = feedback.angle(B, params), jax.ShapeDtypeStruct((1, 4), float)

    def step(B, key):
        return feedback.mirror(NET, B, params, x, key, rate=0.02, decay=0.01), None

    mirrored, _ = jax.jit(lambda B: jax.lax.scan(step, B, jax.random.split(key, 1500)))(B)
    weights, expected = ([tree[k].W for k in (0, 2, 4)] for tree in (mirrored, params))
    assert float(before) > 60
    # Averages over the last 100 steps' noise of 128 examples each: about a hundredth of a radian.
    assert float(feedback.angle(weights, expected)) < 2
    for found, W in zip(weights, expected, strict=True):
        np.testing.assert_allclose(jnp.linalg.norm(found) / jnp.linalg.norm(W), 2.0, rtol=0.05)
    assert_equal(mirrored[0].b, B[0].b)


def test_mirroring_is_the_formula(x64, key):
    W, B, of_bias = jnp.arange(6.0).reshape(2, 3), jnp.ones((2, 3)), jnp.arange(2.0)
    net, params, weights = jn.chain(jn.dense(3, 2)), (jn.Dense(W, of_bias),), (jn.Dense(B, of_bias + 7),)
    ((mirrored, bias),) = feedback.mirror(net, weights, params, jnp.ones((1, 3)), key, rate=0.3, decay=0.2, examples=5)
    x = np.asarray(jax.random.normal(jax.random.split(key, 2)[0], (5, 3)))
    expected = 0.8 * np.asarray(B) + 0.3 / 5 * sum(np.outer(np.asarray(W) @ row, row) for row in x)
    np.testing.assert_allclose(mirrored, expected, **EXACT)
    np.testing.assert_array_equal(bias, of_bias + 7)


def test_what_has_a_weights_shape_and_is_none_is_neither_mirrored_nor_taken_for_its_signs(x64, key):
    """A table of positions, and a stack of gains."""
    net = jn.chain(table(5, 4), jn.repeat(gain(4), 2))
    params, B = net.init(key), net.init(jax.random.key(1))
    assert_equal(feedback.mirror(net, B, params, jnp.ones((1, 5, 4)), key), B)
    x = jax.random.normal(key, (3, 5, 4))
    _, cache = net.forward(params, x)
    _, dx = feedback.sign_symmetry(net)(params, cache, x)
    np.testing.assert_allclose(dx, np.asarray(x) * np.asarray(params[1]).prod(0), **EXACT)


def test_each_weight_of_a_stack_has_a_mean_size_of_its_own(x64, key):
    """Also in a stack of stacks, and where a combinator does not say how it was made."""
    inner = jn.repeat(jn.dense(4, 4), 2)
    W, b = jax.random.normal(key, (2, 4, 4)) * jnp.array([1.0, 9.0])[:, None, None], jnp.zeros((2, 4))
    first, second = (np.sign(W) * np.abs(W).mean() for W in np.asarray(W))
    for net, params in (
        (inner, jn.Dense(W, b)),
        (jn.repeat(inner, 1), jn.Dense(W[None], b[None])),
        (jn.Layer(inner.init, inner.forward, inner.backward), jn.Dense(W, b)),
    ):
        x = jax.random.normal(key, (3, 4))

        @jax.jit
        def back(params, x, net=net):
            return feedback.sign_symmetry(net)(params, net.forward(params, x)[1], x)[1]

        dx = back(params, x)
        np.testing.assert_allclose(dx, np.asarray(x) @ second @ first, **EXACT)


def summed_forward(layers, params, x):
    outputs, caches = zip(*(f.forward(p, x) for f, p in zip(layers, params, strict=True)), strict=True)
    return sum(outputs[1:], start=outputs[0]), caches


def summed_backward(layers, params, caches, dy):
    dparams, dxs = zip(*(f.backward(*of_f, dy) for f, *of_f in zip(layers, params, caches, strict=True)), strict=True)
    return dparams, sum(dxs[1:], start=dxs[0])


def summed(*layers):
    """y = f_1(x) + ... + f_n(x): a combinator such as users write."""
    functions = jn.chain(*layers).init, partial(summed_forward, layers), partial(summed_backward, layers)
    return jn.Layer(*functions, made=partial(summed, *layers))


SQUASHED = jn.chain(jn.dense(4, 4), jn.tanh)
PATHS = jn.chain(
    jn.dense(3, 4),
    jn.residual(SQUASHED),
    jn.repeat(jn.recompute(jn.residual(SQUASHED)), 2),
    summed(SQUASHED, jn.dense(4, 4)),
    jn.dense(4, 2),
)


def test_direct_feedback_adds_up_where_paths_meet(x64, key):
    """Residual, repeated, recomputed layers and a combinator of one's own, written out."""
    params, x, dy = PATHS.init(key), jax.random.normal(key, (5, 3)), jax.random.normal(key, (5, 2))
    B = feedback.direct_weights(PATHS, params, x, key)

    @jax.jit
    def forward_and_back(params, B, x, dy):
        y, cache = PATHS.forward(params, x)
        dparams, dx = feedback.direct(PATHS, B)(params, cache, dy)
        return y, jn.per_example.total(dparams), dx

    y, grads, dx = forward_and_back(params, B, x, dy)
    (W1, b1), ((W2, b2), _), ((Ws, bs), _), (((W5, b5), _), (W6, b6)), (W7, b7) = jax.tree.map(np.asarray, params)
    _, (B2, _), (Bs, _), ((B5, _), B6), B7 = jax.tree.map(np.asarray, B)
    h1 = np.asarray(x) @ W1.T + b1
    t2 = np.tanh(h1 @ W2.T + b2)
    t3 = np.tanh((h2 := h1 + t2) @ Ws[0].T + bs[0])
    t4 = np.tanh((h3 := h2 + t3) @ Ws[1].T + bs[1])
    t5 = np.tanh((h4 := h3 + t4) @ W5.T + b5)
    h5 = t5 + h4 @ W6.T + b6
    np.testing.assert_allclose(y, h5 @ W7.T + b7, **EXACT)
    e = np.asarray(dy)
    d5 = e @ B7
    dz5 = d5 * (1 - t5**2)
    d4 = e @ B5 + e @ B6
    dz4 = d4 * (1 - t4**2)
    d3 = d4 + e @ Bs[1]
    dz3 = d3 * (1 - t3**2)
    d2 = d3 + e @ Bs[0]
    dz2 = d2 * (1 - t2**2)
    d1 = d2 + e @ B2
    np.testing.assert_allclose(dx, d1 @ W1, **EXACT)

    def dense(dz, a):
        return jn.Dense(dz.T @ a, dz.sum(0))

    repeated = jax.tree.map(lambda *leaves: np.stack(leaves), dense(dz3, h2), dense(dz4, h3))
    expected = (
        dense(d1, np.asarray(x)),
        (dense(dz2, h1), ()),
        (repeated, ()),
        ((dense(dz5, h4), ()), dense(d5, h4)),
        dense(e, h5),
    )
    assert_equal(grads, expected)


def test_direct_weights_have_the_structure_of_the_layers_and_none_where_the_input_comes_untouched(x64, key):
    params, x = PATHS.init(key), jnp.ones((5, 3))
    shapes = jax.tree.map(lambda array: list(array.shape), feedback.direct_weights(PATHS, params, x, key))
    assert shapes == ((), ([2, 4], ()), ([2, 2, 4], ()), (([2, 4], ()), [2, 4]), [2, 4])
    for net, expected in (
        (jn.dense(3, 2), ()),
        (jn.chain(jn.identity, jn.tanh, jn.dense(3, 2), jn.tanh), ((), (), (), ())),
        (jn.chain(summed(jn.tanh, gain(3)), jn.chain(), gain(3)), (((), ()), (), [3, 3])),
        # The second comes after the first, by whose parameters they are one.
        (jn.repeat(jn.chain(gain(3), jn.tanh), 2), ([2, 3, 3], ())),
    ):
        B = feedback.direct_weights(net, net.init(key), x, key)
        assert jax.tree.map(lambda array: list(array.shape), B) == expected


def test_direct_weights_of_a_chain_are_drawn_by_the_keys_of_its_parameters(x64, key):
    B = feedback.direct_weights(NET, NET.init(key), jnp.ones((1, 4)), key)
    for layer, features in ((2, 6), (4, 5)):
        drawn = jax.random.normal(jax.random.split(key, 5)[layer], (3, features)) / 3**0.5
        np.testing.assert_array_equal(B[layer], drawn)


def test_each_round_of_a_repeated_layer_hears_from_the_output_as_a_layer_of_a_chain_does(x64, key):
    rounds = jn.recompute(summed(SQUASHED, jn.residual(jn.tanh)))
    repeated = jn.mixed_precision(jn.chain(jn.dense(3, 4), jn.repeat(rounds, 3), jn.dense(4, 2)), "float64")
    chained = jn.mixed_precision(jn.chain(jn.dense(3, 4), rounds, rounds, rounds, jn.dense(4, 2)), "float64")
    x, y = jax.random.normal(key, (5, 3)), jax.random.normal(key, (5, 2))

    def apart(tree):
        return tree[0], *(jax.tree.map(itemgetter(k), tree[1]) for k in range(3)), tree[2]

    params = repeated.init(key)
    B = feedback.direct_weights(repeated, params, x, key)
    gradients = [
        jax.jit(jn.value_and_grad(net, jn.losses.half_squared_error, backward=feedback.direct(net, weights)))(
            of_net, x, y
        )
        for net, weights, of_net in ((repeated, B, params), (chained, apart(B), apart(params)))
    ]
    (_, ours), (_, theirs) = gradients
    assert_equal(apart(ours), theirs)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_over_devices_the_numbers_are_the_same(axis_type, x64, key):
    params, x, y = PATHS.init(key), jax.random.normal(key, (8, 3)), jax.random.normal(key, (8, 2))

    def gradients(params, x, y):
        ways = feedback.direct(PATHS, feedback.direct_weights(PATHS, params, x, key)), feedback.sign_symmetry(PATHS)
        return [jn.value_and_grad(PATHS, jn.losses.half_squared_error, backward=way)(params, x, y) for way in ways]

    expected = jax.device_get(jax.jit(gradients)(params, x, y))
    alone = jax.device_get((params, x, y))
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    with jax.set_mesh(mesh):
        rows, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
        spread = jax.device_put(alone[0], whole), *(jax.device_put(array, rows) for array in alone[1:])
        assert_equal(jax.device_get(jax.jit(gradients)(*spread)), expected)


def test_direct_feedback_goes_through_layers_that_take_and_give_several_arrays(x64, key):
    """A layer without parameters that takes a pair, and one with parameters that gives it."""
    split = jn.Layer(
        partial(jax.random.normal, shape=(4,)),
        lambda g, x: ((x[:, :2], x[:, 2:] * g[None, 2:]), x),
        lambda g, x, dy: (
            jn.Each(jnp.concatenate([jnp.zeros_like(dy[0]), dy[1] * x[:, 2:]], axis=1)),
            jnp.concatenate([dy[0], dy[1] * g[None, 2:]], axis=1),
        ),
    )
    product = jn.Layer(
        lambda key: (), lambda params, x: (x[0] * x[1], x), lambda params, x, dy: ((), (dy * x[1], dy * x[0]))
    )
    net = jn.chain(jn.dense(3, 4), split, product, jn.dense(2, 2))
    params, x, dy = net.init(key), jax.random.normal(key, (5, 3)), jax.random.normal(key, (5, 2))
    B = feedback.direct_weights(net, params, x, key)
    _, cache = net.forward(params, x)
    dparams, dx = feedback.direct(net, B)(params, cache, dy)
    np.testing.assert_allclose(dx, dy @ B[1] @ params[0].W, **EXACT)
    a = np.asarray(x @ params[0].W.T)
    np.testing.assert_allclose(dparams[1].g[:, 2:], np.asarray(dy @ B[3]) * a[:, :2] * a[:, 2:], **EXACT)


def test_angles():
    u, v = {"W": jnp.array([[1.0, 0.0]]), "b": jnp.array([1.0])}, {"W": jnp.array([[0.0, 2.0]]), "b": jnp.array([0.0])}
    np.testing.assert_allclose(feedback.angle(u, u), 0, atol=1e-5)
    np.testing.assert_allclose(feedback.angle(u, v), 90, rtol=1e-6)
    np.testing.assert_allclose(feedback.angle(u, jax.tree.map(lambda leaf: -3 * leaf, u)), 180, rtol=1e-5)
    w = {"W": jnp.array([[5.0, 0.0]]), "b": jnp.array([0.0])}
    np.testing.assert_allclose(feedback.angle(u, w), 45, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_an_angle_does_not_change_with_the_lengths(dtype):
    """Also where squares overflow or vanish; the largest number is within 3 of the type's."""
    u, v = np.array([3.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0])
    sizes = (1e-6, 1e-3, 1.0, 2e4) if dtype == "float16" else (1e-37, 1e-25, 1.0, 1e20, 1e38)
    pairs = jnp.array([(a * u, b * v) for a in sizes for b in sizes], dtype)
    angles = jax.jit(jax.vmap(lambda pair: feedback.angle({"W": pair[0]}, {"W": pair[1]})))(pairs)
    # Float32 rounds at 6e-8; float16's numbers near 1e-6 have 4 digits of two.
    np.testing.assert_allclose(angles, np.full(len(pairs), 45.0), rtol=1e-6)
    same = jax.jit(jax.vmap(lambda a: feedback.angle({"W": a}, {"W": pairs[0, 0]})))(pairs[:, 0])
    # Two unit vectors off by 4 roundings each.
    np.testing.assert_allclose(same, np.zeros(len(pairs)), atol=3e-5)


@pytest.mark.usefixtures("without_shape_annotations")
def test_misuse_is_named(key):
    last = jn.Layer(lambda key: (), lambda params, x: (x[:, -1], x), lambda params, x, dy: ((), dy[:, None] + 0 * x))
    pair = jn.Layer(lambda key: (), lambda params, x: ((x, x), ()), lambda params, cache, dy: ((), dy[0] + dy[1]))

    def both_forward(g, x):
        return x[0] + g[None] * x[1], x

    both = gain(2)._replace(forward=both_forward)
    pooled, doubled = jn.chain(jn.dense(3, 2), jn.dense(2, 2), last), jn.chain(jn.dense(3, 2), pair, both)
    params, x = pooled.init(key), jnp.ones((4, 5, 3))
    B = feedback.direct_weights(pooled, params, x, key)
    for misuse, message in (
        (
            lambda: feedback.direct(NET, B),
            f"feedback.direct: expected weights as direct_weights draws them for {NET!r}",
        ),
        (
            lambda: feedback.direct(pooled, B)(params, pooled.forward(params, x)[1], jnp.ones((4, 2))),
            "feedback.direct: expected an error at the output for each position of the input of dense, (4, 5, 2), "
            "got e B of shape (4, 2)",
        ),
        (
            lambda: feedback.direct_weights(doubled, doubled.init(key), jnp.ones((4, 3)), key),
            "feedback.direct_weights: expected both to take one array, got 2",
        ),
    ):
        with pytest.raises(ValueError) as error:
            misuse()
        assert str(error.value) == message
