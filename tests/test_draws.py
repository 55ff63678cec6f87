"""Training a network whose layers draw: anew in each step, by the state's key and the step's number."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet as jn


def drop_forward(keep, key, params, x):
    """y = x mask / keep; x itself without a key."""
    mask = jnp.ones_like(x) if key is None else jax.random.bernoulli(key, keep, x.shape).astype(x.dtype) / keep
    return x * mask, mask


def drop_backward(params, mask, dy):
    return params, dy * mask


def drop(keep, key=None):
    """Dropout, as a user may write it."""
    return jn.Layer(lambda key: (), partial(drop_forward, keep, key), drop_backward, keyed=partial(drop, keep))


BLOCK = jn.residual(jn.chain(jn.dense(8, 8), jn.tanh, drop(0.8)))
NET = jn.chain(jn.dense(3, 8), drop(0.5), jn.repeat(jn.recompute(BLOCK), 2), jn.dense(8, 2))
PLAIN = jn.mlp((3, 8, 2), jn.tanh)
LOSS, OPTIMIZER = jn.losses.softmax_cross_entropy, optax.sgd(0.1, momentum=0.9)


@pytest.fixture
def problem(x64, key):
    keys = jax.random.split(key, 3)
    x, labels = jax.random.normal(keys[0], (12, 3)), jax.random.randint(keys[1], (12,), 0, 2)
    return NET.init(keys[2]), x, jax.nn.one_hot(labels, 2)


def autodiff(net, loss):
    """The gradient of whatever network it is given, by jax.grad."""

    def mean_loss(params, x, y, weights=None):
        losses = loss.forward(net.apply(params, x), y)
        return losses.mean() if weights is None else (losses * weights).sum()

    return jax.value_and_grad(mean_loss)


@jax.jit
def step_apart(params, opt_state, number, key, x, y):
    """A step of the network as it draws in that step, by jax.grad."""
    bound = jn.bind(NET, jax.random.fold_in(jax.random.fold_in(key, 2**32 - 1), number))
    value, grads = autodiff(bound, LOSS)(params, x, y)
    updates, opt_state = OPTIMIZER.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, value


def run_apart(params, key, batches):
    opt_state, values = OPTIMIZER.init(params), []
    for number, (x, y) in enumerate(batches):
        params, opt_state, value = step_apart(params, opt_state, number, key, x, y)
        values.append(value)
    return params, values


def assert_trees_close(actual, expected):
    # A few updates of rounding at 1.1e-16.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), actual, expected)


@pytest.mark.parametrize("value_and_grad", [jn.value_and_grad, autodiff], ids=["by hand", "one's own"])
def test_every_step_draws_by_the_states_key_and_its_own_number_and_compiles_once(
    value_and_grad, problem, key, compilations
):
    params, x, y = problem
    make = partial(jn.TrainState.create, params, OPTIMIZER, key)
    options = {"value_and_grad": value_and_grad}
    step, state = jn.make_step(NET, LOSS, OPTIMIZER, **options), make()
    expected, values = run_apart(params, key, 4 * [(x, y)])
    for value in values:
        state, metrics = step(state, x, y)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-12)
    assert_trees_close(state.params, expected)
    assert compilations("step") == 1

    steps = jn.make_steps(NET, LOSS, OPTIMIZER, **options)
    state, metrics = steps(make(), *(jnp.stack(4 * [array]) for array in (x, y)))
    assert_trees_close((state.params, metrics["loss"]), (expected, jnp.stack(values)))

    epoch, state = jn.make_epoch(NET, LOSS, OPTIMIZER, 6, **options), make()
    orders = [np.asarray(jn.training.epoch_order(key, number, 12, 6)) for number in (0, 1)]
    expected, _ = run_apart(params, key, [(x[rows], y[rows]) for order in orders for rows in order])
    for _ in orders:
        state, _ = epoch(state, x, y)
    assert_trees_close(state.params, expected)
    assert compilations("epoch") == 1


def test_steps_differ_in_what_they_draw_and_a_state_says_what_its_step_draws(problem, key):
    params, x, y = problem
    step = jn.make_step(NET, LOSS, optax.sgd(0.0))
    state, losses = jn.TrainState.create(params, optax.sgd(0.0), key), []
    for _ in range(3):
        state, metrics = step(state, x, y)
        losses.append(float(metrics["loss"]))
    assert len(set(losses)) == 3
    again = jn.TrainState.create(params, optax.sgd(0.0), key)._replace(step=jnp.int32(2))
    assert float(step(again, x, y)[1]["loss"]) == losses[2]
    other = jn.TrainState.create(params, optax.sgd(0.0), jax.random.key(1))
    assert float(step(other, x, y)[1]["loss"]) != losses[0]


def test_training_that_was_interrupted_goes_on_to_the_last_bit(problem, key):
    params, x, y = problem
    epoch, state = jn.make_epoch(NET, LOSS, OPTIMIZER, 5), jn.TrainState.create(params, OPTIMIZER, key)
    for _ in range(2):
        state, _ = epoch(state, x, y)
    kept = jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))
    for _ in range(2):
        state, _ = epoch(state, x, y)
    resumed = jax.tree.map(jnp.asarray, kept)
    resumed = resumed._replace(key=jax.random.wrap_key_data(resumed.key))
    for _ in range(2):
        resumed, _ = epoch(resumed, x, y)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, state.params)


def test_what_is_evaluated_again_in_a_step_draws_the_same(problem, key):
    """An optimizer that keeps by how much the loss and the gradient differ when it asks for them again."""

    def update(grads, opt_state, params, *, value, value_fn, grad_fn):
        of_values, of_grads = value_fn(params) - value, jax.tree.map(jnp.subtract, grad_fn(params, None), grads)
        by_vjp = jax.tree.map(jnp.subtract, jax.grad(value_fn)(params), grads)
        return jax.tree.map(jnp.zeros_like, grads), (of_values, of_grads, by_vjp)

    params, x, y = problem
    blank = jax.tree.map(jnp.zeros_like, params)
    optimizer = optax.GradientTransformationExtraArgs(lambda params: (jnp.zeros(()), blank, blank), update)
    step, state = jn.make_step(NET, LOSS, optimizer), jn.TrainState.create(params, optimizer, key)
    for _ in range(2):
        state, _ = step(state, x, y)
        for difference in jax.tree.leaves(state.opt_state):
            np.testing.assert_allclose(difference, 0, atol=1e-14)


@pytest.mark.usefixtures("optax_promotion")
def test_a_line_search_lowers_the_loss_of_what_its_step_draws(problem, key):
    params, x, y = problem
    step = jn.make_step(NET, LOSS, optax.lbfgs())
    before = jn.TrainState.create(params, optax.lbfgs(), key)
    number, copy = 0, jax.tree.map(jnp.copy, before.params)
    after, metrics = step(before, x, y)
    bound = jn.bind(NET, jax.random.fold_in(jax.random.fold_in(key, 2**32 - 1), number))
    value_of = lambda params: float(LOSS.forward(bound.apply(params, x), y).mean())  # noqa: E731
    np.testing.assert_allclose(value_of(copy), metrics["loss"], rtol=1e-12)
    assert value_of(after.params) < value_of(copy)


def test_where_nothing_draws_the_network_is_the_same_and_the_program_draws_nothing():
    nets = []

    def noting(net, loss):
        nets.append(net)
        return jn.value_and_grad(net, loss)

    def text(net):
        state = jax.eval_shape(lambda: jn.TrainState.create(net.init(jax.random.key(0)), OPTIMIZER))
        step = jn.make_step(net, LOSS, OPTIMIZER, value_and_grad=noting)
        return step.lower(state, jnp.ones((4, 3)), jnp.ones((4, 2))).compile().as_text()

    plain, drawing = text(PLAIN), text(NET)
    assert nets[0] is PLAIN
    assert nets[1] is not NET
    # What threefry is made of.
    assert "xor" in drawing
    assert "xor" not in plain
