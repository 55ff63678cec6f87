from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet as jn

OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(1e-2),
    "adamw": optax.adamw(1e-2, weight_decay=1e-3),
    "rmsprop": optax.rmsprop(1e-2),
    "clipped with a schedule": optax.chain(
        optax.clip_by_global_norm(1.0), optax.sgd(optax.cosine_decay_schedule(0.1, decay_steps=20))
    ),
    "injected hyperparameters": optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
    "lbfgs": optax.lbfgs(),
    "polyak_sgd": optax.polyak_sgd(max_learning_rate=0.1),
}
pytestmark = pytest.mark.usefixtures("optax_promotion")


@pytest.fixture
def problem(key):
    keys = jax.random.split(key, 2)
    net = jn.mlp((3, 4, 1), jn.tanh)
    x = jax.random.normal(keys[0], (20, 3))
    y = (x[:, :1] > 0).astype(x.dtype)
    return net, jn.losses.sigmoid_binary_cross_entropy, net.init(keys[1]), x, y


@partial(jax.jit, static_argnums=(0, 1, 2))
def reference_step(net, loss, optimizer, params, opt_state, x, y):
    """A step as the optax manual writes it, through jax.value_and_grad."""
    mean_loss = lambda params: loss.forward(net.apply(params, x), y).mean()  # noqa: E731
    value, grads = jax.value_and_grad(mean_loss)(params)
    optimizer = optax.with_extra_args_support(optimizer)
    updates, opt_state = optimizer.update(grads, opt_state, params, value=value, grad=grads, value_fn=mean_loss)
    return optax.apply_updates(params, updates), opt_state, value


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_that_of_the_optimizer_with_jax_grad_and_compiles_once(name, x64, key, compilations):
    net, loss = jn.mlp((3, 4, 1), jn.tanh), jn.losses.sigmoid_binary_cross_entropy
    x = jax.random.normal(key, (20, 3))
    y = (x[:, :1] > 0).astype(x.dtype)
    optimizer, params = OPTIMIZERS[name], net.init(key)
    state, step = jn.TrainState.create(params, optimizer), jn.make_step(net, loss, optimizer)
    opt_state = optimizer.init(params)
    for _ in range(5):
        state, metrics = step(state, x, y)
        params, opt_state, value = reference_step(net, loss, optimizer, params, opt_state, x, y)
        # Rounding at 1.1e-16, enlarged by Adam's division by a root near 0.
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-9)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), state.params, params)
    assert int(state.step) == 5
    assert compilations("step") == 1


# An epoch is a scan, which refuses a state that changes its type; of a step every optimizer is asked above.
@pytest.mark.parametrize("name", ["momentum", "injected hyperparameters", "lbfgs"])
def test_a_whole_run_compiles_once(name, problem, compilations):
    net, loss, params, x, y = problem
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def once(params, x):
        return net.forward(params, x)

    traced = jn.Layer(net.init, once, net.backward)
    optimizer = OPTIMIZERS[name]
    # lbfgs evaluates the loss again inside its line search, which traces forward more than once in one compilation.
    counted = net if name == "lbfgs" else traced
    step = jn.make_step(counted, loss, optimizer)
    state = jn.TrainState.create(params, optimizer)
    for _ in range(3):
        state, _ = step(state, x, y)
    assert compilations("step") == 1
    chex.clear_trace_counter()
    epoch = jn.make_epoch(counted, loss, optimizer, 7)
    state = jn.TrainState.create(params, optimizer)
    for _ in range(3):
        state, _ = epoch(state, x, y)
    assert compilations("epoch") == 1


def test_weakly_typed_parameters_do_not_compile_twice(problem, compilations):
    """A parameter made from a Python number is weakly typed, and comes back from an update strongly typed."""
    _, loss, _, _, y = problem
    shift = jn.Layer(
        lambda key: jnp.asarray(0.1),
        lambda b, x: (x + b, ()),
        lambda b, cache, dy: (jn.Each(dy[:, 0], ndim=0), dy),
    )
    params = shift.init(jax.random.key(0))
    assert params.weak_type
    step, optimizer = jn.make_step(shift, loss, optax.sgd(0.1)), optax.sgd(0.1)
    state = jn.TrainState.create(params, optimizer)
    for _ in range(3):
        state, _ = step(state, y, y)
    assert compilations("step") == 1


def test_a_step_gives_its_states_memory_to_the_next_and_leaves_the_parameters_alone(problem):
    net, loss, params, x, y = problem
    key = jax.random.key(7)
    state = jn.TrainState.create(params, optax.sgd(0.1), key)
    jn.make_step(net, loss, optax.sgd(0.1))(state, x, y)
    assert state.params[0].W.is_deleted()
    assert not params[0].W.is_deleted()
    assert not key.is_deleted()


# One, so that steps by hand are compiled once for each size of a batch.
NET, MOMENTUM = jn.mlp((3, 4, 1), jn.tanh), optax.sgd(0.1, 0.9)


def epoch_by_hand(net, loss, optimizer, params, batch_size, x, y, key, epochs):
    """make_epoch in a Python loop: the same order, and the last batch as small as it is."""
    opt_state, means = optimizer.init(params), []
    for epoch in range(epochs):
        order = np.argsort(jax.random.bits(jax.random.fold_in(key, epoch), (len(x),)), stable=True)
        values = []
        for start in range(0, len(x), batch_size):
            rows = order[start : start + batch_size]
            params, opt_state, value = reference_step(net, loss, optimizer, params, opt_state, x[rows], y[rows])
            values.append(float(value) * len(rows))
        means.append(sum(values) / len(x))
    return params, means


@pytest.mark.parametrize("batch_size", [1, 5, 7, 19, 50, None])
def test_an_epoch_is_a_loop_over_shuffled_batches_with_a_smaller_last_one(batch_size, x64, key):
    net, loss, optimizer = NET, jn.losses.sigmoid_binary_cross_entropy, MOMENTUM
    x = jax.random.normal(key, (20, 3))
    y = (x[:, :1] > 0).astype(x.dtype)
    params = net.init(key)
    expected, means = epoch_by_hand(net, loss, optimizer, params, batch_size or 20, x, y, key, epochs=3)
    epoch, state = jn.make_epoch(net, loss, optimizer, batch_size), jn.TrainState.create(params, optimizer, key)
    for mean in means:
        state, metrics = epoch(state, x, y)
        np.testing.assert_allclose(metrics["loss"], mean, rtol=1e-12)
    # 60 updates of rounding at 1.1e-16.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), state.params, expected)
    assert int(state.epoch) == 3
    assert int(state.step) == 3 * -(-20 // min(batch_size or 20, 20))


@pytest.mark.usefixtures("without_shape_annotations")
def test_inputs_and_targets_may_be_trees_and_targets_none(problem):
    net, loss, params, x, y = problem
    first = jn.Layer(lambda key: (), lambda _, x: (x["x"], ()), lambda params, _, dz: (params, {"x": dz}))
    of_tree = jn.Loss(
        lambda z, y: loss.forward(z, y["y"]), lambda z, y: loss.backward(z, y["y"]), loss.root_hessian, loss.sample
    )
    of_none = jn.Loss(
        lambda z, _: loss.forward(z, 0 * z), lambda z, _: loss.backward(z, 0 * z), loss.root_hessian, loss.sample
    )
    optimizer = optax.sgd(0.1)

    def trained(net, loss, params, x, y):
        state, metrics = jn.make_epoch(net, loss, optimizer, 7)(jn.TrainState.create(params, optimizer), x, y)
        return jax.tree.leaves(state.params), metrics["loss"]

    plain = trained(net, loss, params, x, y)
    jax.tree.map(
        np.testing.assert_array_equal, trained(jn.chain(first, net), of_tree, ((), params), {"x": x}, {"y": y}), plain
    )
    jax.tree.map(
        np.testing.assert_array_equal, trained(net, of_none, params, x, None), trained(net, loss, params, x, 0 * y)
    )


def test_every_epoch_sees_every_example_once_in_its_own_order(key):
    """A 'network' that adds up what it sees: y's as bits, so that a repeated or dropped example shows."""
    identity = jn.Layer(
        lambda key: {"sum": jnp.zeros(1)},
        lambda params, x: (params["sum"][None] + x, ()),
        lambda params, cache, dy: ({"sum": jn.Each(dy)}, dy),
    )
    minus_one = jn.Loss(lambda z, y: z[:, 0], lambda z, y: -y, lambda z, y: z[None], lambda key, z: z)
    examples = 2.0 ** jnp.arange(10)[:, None]
    optimizer = optax.sgd(1.0)
    orders = []
    for batch_size in (1, 3):
        state = jn.TrainState.create(identity.init(key), optimizer, key)
        epoch = jn.make_epoch(identity, minus_one, optimizer, batch_size)
        state, _ = epoch(state, jnp.zeros((10, 1)), examples)
        # Each batch moves the sum by the mean of its examples; with batches of 1 that is every example once.
        if batch_size == 1:
            assert float(state.params["sum"][0]) == 1023.0
    for number in (0, 1):
        bits = jax.random.bits(jax.random.fold_in(key, number), (10,))
        orders.append(tuple(np.argsort(bits)))
    assert orders[0] != orders[1]


def test_the_key_decides_the_order(problem):
    net, loss, params, x, y = problem
    epoch = jn.make_epoch(net, loss, optax.sgd(0.5), 4)

    def weights_after_an_epoch(seed):
        state, _ = epoch(jn.TrainState.create(params, optax.sgd(0.5), jax.random.key(seed)), x, y)
        return np.asarray(state.params[0].W)

    np.testing.assert_array_equal(weights_after_an_epoch(1), weights_after_an_epoch(1))
    assert (weights_after_an_epoch(1) != weights_after_an_epoch(2)).any()


def test_another_gradient_may_be_used(problem):
    net, loss, params, x, y = problem

    def autodiff(net, loss):
        def weighted_loss(params, x, y, weights=None):
            losses = loss.forward(net.apply(params, x), y)
            return losses.mean() if weights is None else (losses * weights).sum()

        return jax.value_and_grad(weighted_loss)

    for make in (jn.make_step, lambda *args, **kwargs: jn.make_epoch(*args, 7, **kwargs)):
        by_hand = make(net, loss, optax.sgd(0.1))
        by_autodiff = make(net, loss, optax.sgd(0.1), value_and_grad=autodiff)
        state, metrics = by_hand(jn.TrainState.create(params, optax.sgd(0.1)), x, y)
        other, other_metrics = by_autodiff(jn.TrainState.create(params, optax.sgd(0.1)), x, y)
        # float32 rounds at 6e-8.
        np.testing.assert_allclose(metrics["loss"], other_metrics["loss"], rtol=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.params, other.params)


def test_a_step_scans(problem):
    net, loss, params, x, y = problem
    step, optimizer = jn.make_step(net, loss, optax.sgd(0.1)), optax.sgd(0.1)
    scanned, metrics = jax.lax.scan(
        lambda state, _: step(state, x, y), jn.TrainState.create(params, optimizer), length=5
    )
    state = jn.TrainState.create(params, optimizer)
    for _ in range(5):
        state, _ = step(state, x, y)
    assert metrics["loss"].shape == (5,)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), scanned.params, state.params)


@pytest.mark.usefixtures("without_shape_annotations")
def test_misuse_is_named(problem):
    net, loss, params, x, y = problem
    epoch = jn.make_epoch(net, loss, optax.sgd(0.1), 4)
    message = r"^make_epoch: expected x and y to have the same number of examples, at least 1, got shapes "
    with pytest.raises(ValueError, match=message + r"\(20, 3\) and \(19, 1\)"):
        epoch(jn.TrainState.create(params, optax.sgd(0.1)), x, y[:19])
