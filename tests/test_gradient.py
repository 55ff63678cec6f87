import jax
import jax.numpy as jnp
import pytest
from test_losses import NAMES, example
from trees import assert_trees_equal

import jaxnet as jn


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("activation", [jn.tanh, jn.relu], ids=["tanh", "relu"])
def test_every_loss_behind_a_network(name, activation, key):
    output = jn.sigmoid if name == "binary_cross_entropy" else jn.identity
    net = jn.mlp((3, 5, 2), activation, output_activation=output)
    _, y = example(name, (6, 2), key)
    jn.testing.check_network(net, getattr(jn.losses, name), net.init(key), jax.random.normal(key, (6, 3)), y)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "activation", [jn.tanh, jn.relu, jn.sigmoid, jn.softplus], ids=["tanh", "relu", "sigmoid", "softplus"]
)
def test_from_a_start_at_zero(name, activation, x64, key):
    """Where every z is 0 exactly, gradient and both kinds of curvature are those of autodiff."""
    output = jn.sigmoid if name == "binary_cross_entropy" else jn.identity
    net, loss = jn.mlp((3, 4, 2), activation, output_activation=output), getattr(jn.losses, name)
    params = jax.tree.map(jnp.zeros_like, net.init(key))
    x, (_, y) = jax.random.normal(key, (6, 3)), example(name, (6, 2), key)
    direction = net.init(key)

    def mean_loss(params):
        return loss.forward(net.apply(params, x), y).mean()

    assert_trees_equal(jn.value_and_grad(net, loss)(params, x, y), jax.value_and_grad(mean_loss)(params))
    _, expected = jax.jvp(jax.grad(mean_loss), (params,), (direction,))
    assert_trees_equal(jn.curvature.hessian_vector_product(net, loss, params, x, y, direction), expected)
    # The Gauss-Newton matrix is the Hessian with the network made linear at this point.
    linear, push = jax.linearize(lambda params: net.apply(params, x), params)
    _, expected = jax.jvp(
        jax.grad(lambda v: loss.forward(linear + push(v), y).mean()),
        (jax.tree.map(jnp.zeros_like, params),),
        (direction,),
    )
    assert_trees_equal(jn.curvature.ggn_vector_product(net, loss, params, x, y, direction), expected)


@pytest.mark.parametrize("depth", [1, 5])
def test_deep_networks_with_positions(depth, key):
    net = jn.mlp((3, 5, 4, 6, 5, 2)[: depth + 1], jn.tanh)
    x, y = jax.random.normal(key, (4, 2, 3)), jax.random.randint(key, (4, 2), 0, net.init(key)[-1].b.size)
    loss = jn.losses.softmax_cross_entropy_with_integer_labels
    jn.testing.check_network(net, loss, net.init(key), x, y)


@pytest.fixture
def problem(x64, key):
    keys = jax.random.split(key, 3)
    net = jn.mlp((3, 4, 2), jn.tanh)
    x, y = jax.random.normal(keys[0], (6, 3)), jax.random.normal(keys[1], (6, 2))
    return net, jn.losses.half_squared_error, net.init(keys[2]), x, y


def test_weights_take_the_place_of_one_over_m(problem):
    net, loss, params, x, y = problem
    weights = jnp.array([0.5, 0.25, 0.25, 0.0, 0.0, 0.0])
    expected = jax.value_and_grad(lambda params: (weights * loss.forward(net.apply(params, x), y)).sum())(params)
    assert_trees_equal(jn.value_and_grad(net, loss)(params, x, y, weights), expected)


def test_the_vjp_takes_batches_of_one_under_vmap(problem):
    net, loss, params, x, y = problem

    def example_loss(apply, params, x, y):
        return loss.forward(apply(params, x[None]), y[None])[0]

    ours = jn.with_hand_derived_vjp(net)
    expected = jax.vmap(jax.grad(lambda p, x, y: example_loss(net.apply, p, x, y)), (None, 0, 0))(params, x, y)
    actual = jax.vmap(jax.grad(lambda p, x, y: example_loss(ours, p, x, y)), (None, 0, 0))(params, x, y)
    assert_trees_equal(actual, expected)


def test_the_vjp_runs_our_backward(problem):
    net, _, params, x, _ = problem
    doubled = net._replace(backward=lambda p, c, dy: net.backward(p, c, 2 * dy))
    gradient = jax.grad(lambda p, layer: jn.with_hand_derived_vjp(layer)(p, x).sum())
    expected = jax.tree.map(lambda g: 2 * g, gradient(params, net))
    assert_trees_equal(gradient(params, doubled), expected)


def test_an_ensemble_of_parameters_trains_under_vmap(problem, key):
    net, loss, _, x, y = problem
    ensemble = jax.vmap(net.init)(jax.random.split(key, 3))
    values, grads = jax.vmap(jn.value_and_grad(net, loss), (0, None, None))(ensemble, x, y)
    for member in range(3):
        params = jax.tree.map(lambda leaf, member=member: leaf[member], ensemble)
        expected = jax.value_and_grad(lambda params: loss.forward(net.apply(params, x), y).mean())(params)
        assert_trees_equal((values[member], jax.tree.map(lambda leaf, m=member: leaf[m], grads)), expected)


def test_forward_mode_of_our_gradient_is_the_hessian_vector_product(problem):
    net, loss, params, x, y = problem
    ours = jn.value_and_grad(net, loss)
    direction = jax.tree.map(jnp.cos, params)
    _, by_hand = jax.jvp(lambda params: ours(params, x, y)[1], (params,), (direction,))
    mean_loss = lambda params: loss.forward(net.apply(params, x), y).mean()  # noqa: E731
    _, by_autodiff = jax.jvp(jax.grad(mean_loss), (params,), (direction,))
    assert_trees_equal(by_hand, by_autodiff)
