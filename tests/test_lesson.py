"""The lesson, S1 to S13, on its own network: 3 inputs, 4 tanh neurons, 1 sigmoid output."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from claims.columns import in_rows, shallow_network_in_columns, shallow_network_in_rows
from reference import ACTIVATIONS, forward_by_neuron
from sklearn.datasets import load_breast_cancer

import jaxnet as jn

# float64 rounds at 1.1e-16; sums of a dozen terms in another order differ by a few of those.
EXACT = {"rtol": 1e-12, "atol": 1e-15}


@pytest.fixture
def network(x64, key):
    keys = jax.random.split(key, 4)
    net = jn.chain(jn.dense(3, 4), jn.tanh, jn.dense(4, 1), jn.sigmoid)
    params = jax.tree.map(lambda leaf: leaf + 0.1, net.init(keys[0]))
    x = jax.random.normal(keys[1], (7, 3))
    y = jax.random.bernoulli(keys[2], 0.5, (7, 1)).astype(x.dtype)
    return net, params, x, y


def layers_of(params):
    return [(np.asarray(layer.W), np.asarray(layer.b)) for layer in params if layer != ()]


def test_s1_the_example_network_has_the_lessons_shapes(key):
    params = jn.chain(jn.dense(3, 4), jn.tanh, jn.dense(4, 1)).init(key)
    assert params[0].W.shape == (4, 3)
    assert params[0].b.shape == (4,)
    assert params[2].W.shape == (1, 4)
    assert params[2].b.shape == (1,)


def test_s2_the_vectorised_network_equals_the_loop_over_samples_and_neurons(network):
    net, params, x, _ = network
    expected = forward_by_neuron(layers_of(params), [ACTIVATIONS["tanh"], ACTIVATIONS["sigmoid"]], x)
    np.testing.assert_allclose(net.apply(params, x), expected, **EXACT)


def test_s3_one_sample_through_vmap_equals_the_batch(network):
    net, params, x, _ = network
    np.testing.assert_allclose(jax.vmap(net.apply, (None, 0))(params, x), net.apply(params, x), **EXACT)


def test_s3_and_s9_rows_give_the_numbers_of_the_lessons_columns(network):
    _, params, x, y = network
    (W1, b1), (W2, b2) = layers_of(params)
    columns = shallow_network_in_columns(W1, b1[:, None], W2, b2[:, None], np.asarray(x).T, np.asarray(y).T)
    rows = shallow_network_in_rows(params, x, y)
    assert rows.keys() == columns.keys()
    for name, value in columns.items():
        assert in_rows(name, value).shape == rows[name].shape, name
        np.testing.assert_allclose(rows[name], in_rows(name, value), **EXACT, err_msg=name)


def test_s6_without_hidden_activations_the_network_is_one_linear_map(x64, key):
    net = jn.chain(jn.dense(3, 4), jn.identity, jn.dense(4, 2))
    params = jax.tree.map(lambda leaf: leaf + 0.1, net.init(key))
    (W1, b1), (W2, b2) = layers_of(params)
    x = jax.random.normal(key, (7, 3))
    collapsed = jn.Dense(W=jnp.asarray(W2 @ W1), b=jnp.asarray(W2 @ b1 + b2))
    np.testing.assert_allclose(net.apply(params, x), jn.dense(3, 2).apply(collapsed, x), **EXACT)


def test_s7_with_an_activation_at_the_output_only_it_is_logistic_regression(x64, key):
    deep = jn.chain(jn.dense(3, 4), jn.identity, jn.dense(4, 1), jn.sigmoid)
    params = jax.tree.map(lambda leaf: leaf + 0.1, deep.init(key))
    (W1, b1), (W2, b2) = layers_of(params)
    x = jax.random.normal(key, (7, 3))
    logistic = 1 / (1 + np.exp(-(np.asarray(x) @ (W2 @ W1).T + (W2 @ b1 + b2))))
    np.testing.assert_allclose(deep.apply(params, x), logistic, **EXACT)


def test_s8_the_loss_from_z_stays_finite_and_exact_where_the_plain_form_saturates():
    z = jnp.array([[1e4], [-1e4], [1e4], [-1e4], [40.0]])
    y = jnp.array([[1.0], [0.0], [0.0], [1.0], [1.0]])
    losses = jn.losses.sigmoid_binary_cross_entropy.forward(z, y)
    # -log sigmoid(40) = log(1 + e^-40) = 4.248354e-18, where sigmoid(40) itself rounds to 1.
    np.testing.assert_allclose(losses, [0, 0, 1e4, 1e4, 4.248354e-18], rtol=1e-6)
    plain = jn.losses.binary_cross_entropy.forward(jax.nn.sigmoid(z), y)
    np.testing.assert_array_equal(plain, [0, 0, np.inf, np.inf, 0])


def test_s9_every_signal_and_gradient_equals_autodiff(network):
    net, params, x, y = network
    A2, cache = net.forward(params, x)
    dA2 = jn.losses.binary_cross_entropy.backward(A2, y)
    grads = jn.per_example.mean(net.backward(params, cache, dA2)[0])
    _, dZ1, dA1, dZ2, _ = jn.signals(net, params, cache, dA2)
    by_hand = [dA2, dZ2, grads[2].W, grads[2].b, dA1, dZ1, grads[0].W, grads[0].b]

    # Adding a zero to an intermediate value makes it an argument, whose gradient jax.grad gives.
    def m_times_loss(a2, z2, W2, b2, a1, z1, W1, b1):
        Z1 = x @ W1.T + b1[None] + z1
        A1 = jnp.tanh(Z1) + a1
        Z2 = A1 @ W2.T + b2[None] + z2
        A2 = jax.nn.sigmoid(Z2) + a2
        return -(y * jnp.log(A2) + (1 - y) * jnp.log(1 - A2)).sum()

    hidden, output = jnp.zeros((7, 4)), jnp.zeros((7, 1))
    at = (output, output, params[2].W, params[2].b, hidden, hidden, params[0].W, params[0].b)
    by_autodiff = jax.grad(m_times_loss, argnums=tuple(range(8)))(*at)

    names = ["dA2", "dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1"]
    for name, hand, auto in zip(names, by_hand, by_autodiff, strict=True):
        over_m = 1 / 7 if name[1] in "Wb" else 1
        np.testing.assert_allclose(hand, auto * over_m, **EXACT, err_msg=name)


def test_s9_the_fused_signal_equals_the_unfused_chain(network):
    net, params, x, y = network
    A2, cache = net.forward(params, x)
    dA2 = jn.losses.binary_cross_entropy.backward(A2, y)
    _, _, _, dZ2, _ = jn.signals(net, params, cache, dA2)
    Z2 = jnp.log(A2) - jnp.log1p(-A2)
    np.testing.assert_allclose(dZ2, jn.losses.sigmoid_binary_cross_entropy.backward(Z2, y), **EXACT)
    np.testing.assert_allclose(dZ2, A2 - y, **EXACT)


def test_s10_a_step_is_w_minus_eta_dw(network):
    net, params, x, y = network
    loss, optimizer = jn.losses.binary_cross_entropy, optax.sgd(0.25)
    _, grads = jn.value_and_grad(net, loss)(params, x, y)
    state, _ = jn.make_step(net, loss, optimizer)(jn.TrainState.create(params, optimizer), x, y)
    expected = jax.tree.map(lambda w, dw: w - 0.25 * dw, params, grads)
    jax.tree.map(lambda new, right: np.testing.assert_allclose(new, right, **EXACT), state.params, expected)


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("optimizer", [optax.sgd(0.5), optax.adam(1e-2)], ids=["sgd", "adam"])
def test_s11_iterations_lower_the_loss_on_real_data(optimizer, key):
    data = load_breast_cancer()
    x = jnp.asarray((data.data - data.data.mean(0)) / data.data.std(0), jnp.float32)
    y = jnp.asarray(data.target[:, None], jnp.float32)
    net = jn.mlp((30, 8, 1), jn.tanh)
    step = jn.make_step(net, jn.losses.sigmoid_binary_cross_entropy, optimizer)
    state = jn.TrainState.create(net.init(key), optimizer)
    losses = []
    for _ in range(100):
        state, metrics = step(state, x, y)
        losses.append(float(metrics["loss"]))
    assert all(later < earlier for earlier, later in zip(losses[::10], losses[10::10], strict=False))
    assert losses[-1] < 0.2 * losses[0]


def test_s12_with_all_weights_zero_the_hidden_neurons_stay_identical(key):
    net = jn.mlp((3, 4, 1), jn.tanh, weight_init=jn.initializers.zeros)
    optimizer = optax.sgd(1.0)
    x = jax.random.normal(key, (16, 3))
    y = (x[:, :1] > 0).astype(x.dtype)
    # From W = 0 and b = 0 not even dW1 leaves 0; with an output weight of 1 the rows move, together.
    params = net.init(key)
    params = (params[0], (), params[2]._replace(W=jnp.ones((1, 4))))
    step = jn.make_step(net, jn.losses.sigmoid_binary_cross_entropy, optimizer)
    state = jn.TrainState.create(params, optimizer)
    for _ in range(20):
        state, _ = step(state, x, y)
    rows = np.asarray(state.params[0].W)
    assert np.abs(rows).max() > 0.1
    assert (rows == rows[:1]).all()

    zero_state = jn.TrainState.create(net.init(key), optimizer)
    for _ in range(20):
        zero_state, _ = step(zero_state, x, y)
    assert (np.asarray(zero_state.params[0].W) == 0).all()


def test_s13_small_normal_weights_and_zero_biases(key):
    small = jn.mlp((300, 200, 1), jn.tanh, weight_init=jn.initializers.small_normal).init(key)[0]
    he = jn.mlp((300, 200, 1), jn.relu).init(key)[0]
    # The standard error of a standard deviation over n = 60,000 values is sd / sqrt(2 n): 0.3%.
    np.testing.assert_allclose(np.std(small.W), 0.01, rtol=0.015)
    np.testing.assert_allclose(np.std(he.W), np.sqrt(2 / 300), rtol=0.015)
    assert (np.asarray(small.b) == 0).all()
    assert (np.asarray(he.b) == 0).all()
