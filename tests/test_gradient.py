import jax
import jax.numpy as jnp
import pytest
from test_losses import NAMES, example
from trees import assert_trees_equal

import jaxnet as jn


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_behind_a_network(name, key):
    output = jn.sigmoid if name == "binary_cross_entropy" else jn.identity
    net = jn.chain(jn.mlp((3, 5, 4), jn.tanh, output_activation=jn.relu), jn.dense(4, 2), output)
    _, y = example(name, (6, 2), key)
    jn.testing.check_network(net, getattr(jn.losses, name), net.init(key), jax.random.normal(key, (6, 3)), y)


@pytest.mark.parametrize("name", NAMES)
def test_from_a_start_at_zero(name, x64, key):
    """Where every z is 0 exactly, gradient and both kinds of curvature are those of autodiff."""
    output = jn.sigmoid if name == "binary_cross_entropy" else jn.identity
    loss, x, (_, y) = getattr(jn.losses, name), jax.random.normal(key, (6, 3)), example(name, (6, 2), key)

    def both(net, params, direction):
        def mean_loss(params):
            return loss.forward(net.apply(params, x), y).mean()

        # The Gauss-Newton matrix is the Hessian with the network made linear at this point.
        linear, push = jax.linearize(lambda params: net.apply(params, x), params)
        made_linear = jax.grad(lambda v: loss.forward(linear + push(v), y).mean())
        expected = (
            jax.value_and_grad(mean_loss)(params),
            jax.jvp(jax.grad(mean_loss), (params,), (direction,))[1],
            jax.jvp(made_linear, (jax.tree.map(jnp.zeros_like, params),), (direction,))[1],
        )
        actual = (
            jn.value_and_grad(net, loss)(params, x, y),
            jn.curvature.hessian_vector_product(net, loss, params, x, y, direction),
            jn.curvature.ggn_vector_product(net, loss, params, x, y, direction),
        )
        return actual, expected

    nets = [jn.mlp((3, 4, 2), of, output_activation=output) for of in (jn.tanh, jn.relu, jn.sigmoid, jn.softplus)]
    direction = nets[0].init(key)
    zeros = jax.tree.map(jnp.zeros_like, direction)
    for actual, expected in jax.jit(lambda *arguments: [both(net, *arguments) for net in nets])(zeros, direction):
        assert_trees_equal(actual, expected)


def test_a_deep_network_with_positions(key):
    net = jn.mlp((3, 5, 4, 6, 5, 2), jn.tanh)
    x, y = jax.random.normal(key, (4, 2, 3)), jax.random.randint(key, (4, 2), 0, 2)
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
    expected = jax.value_and_grad(lambda params: (weights * loss.forward(net.apply(params, x), y)).sum())
    assert_trees_equal(jax.jit(jn.value_and_grad(net, loss))(params, x, y, weights), jax.jit(expected)(params))


def test_the_vjp_takes_batches_of_one_under_vmap(problem):
    net, loss, params, x, y = problem

    def example_loss(apply, params, x, y):
        return loss.forward(apply(params, x[None]), y[None])[0]

    ours = jn.with_hand_derived_vjp(net)

    def gradients(apply):
        return jax.jit(jax.vmap(jax.grad(lambda p, x, y: example_loss(apply, p, x, y)), (None, 0, 0)))(params, x, y)

    assert_trees_equal(gradients(ours), gradients(net.apply))


def test_the_vjp_runs_our_backward(problem):
    net, _, params, x, _ = problem
    doubled = net._replace(backward=lambda p, c, dy: net.backward(p, c, 2 * dy))
    gradient = jax.jit(jax.grad(lambda p, layer: jn.with_hand_derived_vjp(layer)(p, x).sum()), static_argnums=1)
    expected = jax.tree.map(lambda g: 2 * g, gradient(params, net))
    assert_trees_equal(gradient(params, doubled), expected)


def test_an_ensemble_of_parameters_trains_under_vmap(problem, key):
    net, loss, _, x, y = problem
    ensemble = jax.vmap(net.init)(jax.random.split(key, 3))
    values, grads = jax.jit(jax.vmap(jn.value_and_grad(net, loss), (0, None, None)))(ensemble, x, y)
    by_autodiff = jax.jit(jax.value_and_grad(lambda params: loss.forward(net.apply(params, x), y).mean()))
    for member in range(3):
        params = jax.tree.map(lambda leaf, member=member: leaf[member], ensemble)
        expected = by_autodiff(params)
        assert_trees_equal((values[member], jax.tree.map(lambda leaf, m=member: leaf[m], grads)), expected)


def test_forward_mode_of_our_gradient_is_the_hessian_vector_product(problem):
    net, loss, params, x, y = problem
    ours = jn.value_and_grad(net, loss)
    direction = jax.tree.map(jnp.cos, params)

    @jax.jit
    def both(params, direction):
        mean_loss = lambda params: loss.forward(net.apply(params, x), y).mean()  # noqa: E731
        gradients = (lambda params: ours(params, x, y)[1]), jax.grad(mean_loss)
        return [jax.jvp(gradient, (params,), (direction,))[1] for gradient in gradients]

    assert_trees_equal(*both(params, direction))


@pytest.mark.parametrize("shape", [(), (6, 2), (6, 1)])
def test_a_loss_that_gives_no_number_for_each_example_is_named(shape, problem):
    """A mean over outputs too would be the value of another loss than the one whose derivative goes back."""
    net, _, params, x, y = problem

    def mean_everywhere_forward(z, y):
        return jnp.zeros(shape)

    loss = jn.Loss(mean_everywhere_forward, lambda z, y: z - y)
    with pytest.raises(ValueError) as error:
        jn.value_and_grad(net, loss)(params, x, y)
    assert str(error.value) == (
        f"mean_everywhere: expected forward to give a number for each example, (m,), here (6,), got shape {shape}"
    )
