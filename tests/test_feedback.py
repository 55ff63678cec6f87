"""Other ways back, against their formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
    _, cache = NET.forward(params, x)
    dz = LOSS.backward(NET.apply(params, x), y)
    backward = feedback.direct(NET, feedback.direct_weights(NET, params, x, key))
    dparams, dx = backward(params, cache, dz)
    np.testing.assert_allclose(dx, dparams[0].W.dz @ params[0].W, **EXACT)


def test_every_reading_is_there_on_every_way_back(problem, key):
    params, _, x, y = problem
    clip = jn.per_example.clipped(0.1)
    backward = feedback.sign_symmetry(NET)
    _, cache = NET.forward(params, x)
    dparams, _ = backward(params, cache, LOSS.backward(NET.apply(params, x), y))
    _, grads = jn.value_and_grad(NET, LOSS, backward=backward, read=clip)(params, x, y)
    assert_equal(grads, jn.per_example.clipped_mean(dparams, 0.1))


def test_mirroring_tends_to_the_weights_times_rate_over_decay(x64, key):
    params, B = NET.init(jax.random.key(1)), NET.init(jax.random.key(2))
    before = feedback.angle(B, params)

    def step(B, key):
        return feedback.mirror(B, params, key, rate=0.02, decay=0.01), None

    mirrored, _ = jax.jit(lambda B: jax.lax.scan(step, B, jax.random.split(key, 1500)))(B)
    weights, expected = ([tree[k].W for k in (0, 2, 4)] for tree in (mirrored, params))
    assert float(before) > 60
    # Averages over the last 100 steps' noise of 128 examples each: about a hundredth of a radian.
    assert float(feedback.angle(weights, expected)) < 2
    for found, W in zip(weights, expected, strict=True):
        np.testing.assert_allclose(jnp.linalg.norm(found) / jnp.linalg.norm(W), 2.0, rtol=0.05)
    assert_equal(mirrored[0].b, B[0].b)


def test_mirroring_is_the_formula(x64, key):
    W, B = jnp.arange(6.0).reshape(2, 3), jnp.ones((2, 3))
    (mirrored,) = feedback.mirror((B,), (W,), key, rate=0.3, decay=0.2, examples=5)
    x = np.asarray(jax.random.normal(jax.random.split(key, 1)[0], (5, 3)))
    expected = 0.8 * np.asarray(B) + 0.3 / 5 * sum(np.outer(np.asarray(W) @ row, row) for row in x)
    np.testing.assert_allclose(mirrored, expected, **EXACT)


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
    with pytest.raises(ValueError, match=r"^feedback\.direct: expected a chain, got dense$"):
        feedback.direct(jn.dense(3, 4), ())
