"""K-FAC's update against its formulas in NumPy; the noise of differentially private SGD."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import jaxnet as jn
from jaxnet import curvature, optimizers, per_example

# Inverses of matrices whose condition is about 100, at 1.1e-16.
EXACT = {"rtol": 1e-9, "atol": 1e-12}
NET, LOSS = jn.mlp((4, 5, 3), jn.tanh), jn.losses.softmax_cross_entropy_with_integer_labels


@pytest.fixture
def problem(x64, key):
    keys = jax.random.split(key, 3)
    return NET.init(keys[0]), jax.random.normal(keys[1], (12, 4)), jax.random.randint(keys[2], (12,), 0, 3)


def seen(params, x, y, weights=None):
    """What make_step hands an optimizer."""

    def value_fn(params):
        return jn.value_and_grad(NET, LOSS)(params, x, y, weights)[0]

    return {"x": x, "y": y, "weights": weights, "value": value_fn(params), "value_fn": value_fn}


@jax.jit
def gradient(params, x, y, weights=None):
    return jn.value_and_grad(NET, LOSS)(params, x, y, weights)[1]


def compiled_update(optimizer, params, x, y, weights=None):
    """(grads, state) -> (updates, state)."""
    return jax.jit(lambda grads, state: optimizer.update(grads, state, params, **seen(params, x, y, weights)))


def preconditioned(grads, factors, damping):
    """-(B + sqrt(lambda) / pi I)^-1 dW (A + pi sqrt(lambda) I)^-1 at a weight, -(B + lambda I)^-1 db at a bias."""

    def of_layer(dense, factors):
        B, A = map(np.asarray, factors.W)
        pi = np.sqrt((np.trace(A) / len(A)) / (np.trace(B) / len(B)))
        left = np.linalg.inv(B + np.sqrt(damping) / pi * np.eye(len(B)))
        right = np.linalg.inv(A + np.sqrt(damping) * pi * np.eye(len(A)))
        of_bias = np.linalg.inv(np.asarray(factors.b[0]) + damping * np.eye(len(B)))
        return jn.Dense(W=-left @ np.asarray(dense.W) @ right, b=-of_bias @ np.asarray(dense.b))

    return tuple(of_layer(d, f) if d != () else () for d, f in zip(grads, factors, strict=True))


def assert_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **EXACT), actual, expected)


@jax.jit
def batch_factors(params, x, y, key):
    _, sample_key = jax.random.split(key)
    return curvature.kfac(NET, LOSS, params, x, y, sample_key)


def test_with_a_learning_rate_the_update_is_the_damped_preconditioned_gradient_and_momentum(problem, key):
    params, x, y = problem
    chosen = {"damping": 0.3, "momentum": 0.5, "decay": 0.75, "interval": 1, "one_block": False}
    optimizer = optimizers.kfac(NET, LOSS, 0.1, key=key, **chosen)
    state, grads = optimizer.init(params), gradient(params, x, y)
    update = compiled_update(optimizer, params, x, y)
    averages, last, key_of_step = None, None, key
    # The first steps are plain averages of their factors: shares 0, 1/2, 2/3, then 3/4 as asked for.
    for share in (0, 1 / 2, 2 / 3, 3 / 4, 3 / 4):
        of_batch = batch_factors(params, x, y, key_of_step)
        key_of_step, _ = jax.random.split(key_of_step)
        averages = (
            of_batch
            if averages is None
            else jax.tree.map(lambda old, new, s=share: s * old + (1 - s) * new, averages, of_batch)
        )
        proposal = jax.tree.map(lambda d: 0.1 * d, preconditioned(grads, averages, 0.3))
        last = proposal if last is None else jax.tree.map(lambda d, before: d + 0.5 * before, proposal, last)
        updates, state = update(grads, state)
        assert_equal(updates, last)
        assert_equal(state.factors, averages)
    assert float(state.damping) == 0.3


def test_a_schedule_decides_the_learning_rate_step_by_step(problem, key):
    params, x, y = problem
    grads, updates = gradient(params, x, y), {}
    rates = (0.5, 0.125, 0.0625)
    # In another type than the parameters, as optax's schedules are with 64-bit types.
    for name, rate in (("one", 1.0), ("scheduled", lambda step: jnp.asarray(rates, jnp.float32)[step])):
        optimizer = optimizers.kfac(NET, LOSS, rate, damping=0.3, momentum=0.0, key=key)
        update, state, updates[name] = compiled_update(optimizer, params, x, y), optimizer.init(params), []
        for _ in rates:
            of_step, state = update(grads, state)
            updates[name].append(of_step)
    for of_step, scheduled, rate in zip(updates["one"], updates["scheduled"], rates, strict=True):
        assert_equal(scheduled, jax.tree.map(lambda leaf, rate=rate: rate * leaf, of_step))


def positions(shape):
    """A table that is added to x: a parameter with so many axes, which is no weight."""
    return jn.Layer(
        lambda key: {"E": jax.random.normal(key, shape)},
        lambda params, x: (x + params["E"][None], ()),
        lambda params, cache, dy: ({"E": jn.Each(dy, len(shape))}, dy),
    )


def factors_of(block):
    """B_ts = sum_d F_tdsd and A_de = sum_t F_tdte / tr F."""
    B = sum(block[:, d, :, d] for d in range(block.shape[1]))
    return B, sum(block[t, :, t, :] for t in range(len(block))) / np.trace(B)


def test_a_matrix_that_is_no_weight_is_preconditioned_by_the_factors_of_its_block(x64, key):
    net, loss = jn.chain(positions((3, 4)), jn.dense(4, 2)), jn.losses.half_squared_error
    params, x = net.init(key), jax.random.normal(key, (8, 3, 4))
    y = x[..., :2] ** 2
    optimizer = optimizers.kfac(net, loss, 0.1, damping=0.3, key=key)
    _, sample_key = jax.random.split(key)

    @jax.jit
    def step(params, x, y):
        grads = jn.value_and_grad(net, loss)(params, x, y)[1]
        updates, _ = optimizer.update(grads, optimizer.init(params), params, x=x, y=y)
        return grads, updates, curvature.kfac(net, loss, params, x, y, sample_key)[0]["E"]

    grads, updates, (block,) = step(params, x, y)
    B, A = factors_of(np.asarray(block).reshape(3, 4, 3, 4))
    pi = np.sqrt((np.trace(A) / 4) / (np.trace(B) / 3))
    left = np.linalg.inv(B + np.sqrt(0.3) / pi * np.eye(3))
    right = np.linalg.inv(A + np.sqrt(0.3) * pi * np.eye(4))
    np.testing.assert_allclose(updates[0]["E"], -0.1 * left @ np.asarray(grads[0]["E"]) @ right, **EXACT)
    # Where the block is a Kronecker product, the product of these factors is it.
    product = np.kron(B, A)
    np.testing.assert_allclose(np.kron(*factors_of(product.reshape(3, 4, 3, 4))), product, **EXACT)


@pytest.mark.parametrize("weights", [None, jnp.array([0.5, 0.0, 0.3, 0.2])], ids=["mean", "weighted"])
def test_the_factors_of_a_matrix_that_is_no_weight_are_those_of_its_block(weights, x64, key):
    form = jn.Each(jax.random.normal(key, (4, 2, 3, 5)), 2)
    weights = None if weights is None else weights.astype("float64")
    (block,) = form.kronecker_factors(weights)
    expected = factors_of(np.asarray(block).reshape(3, 5, 3, 5))
    for actual, of_block in zip(form.matrix_factors(weights), expected, strict=True):
        np.testing.assert_allclose(actual, of_block, **EXACT)


def test_the_block_of_a_matrix_that_is_no_weight_is_never_formed(key):
    net, loss, x = jn.chain(positions((32, 64)), jn.dense(64, 2)), jn.losses.half_squared_error, jnp.ones((2, 32, 64))
    optimizer, params = optimizers.kfac(net, loss, 0.1), net.init(key)
    state = optimizer.init(params)
    update = jax.jit(lambda state: optimizer.update(params, state, params, x=x, y=x[..., :2]))
    block = 4 * (32 * 64) ** 2
    assert update.lower(state).compile().memory_analysis().temp_size_in_bytes < block / 2


@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (2, 3, 4)], ids=str)
def test_a_parameter_of_any_number_of_axes_trains(shape, key):
    layer = positions(shape)
    if shape == ():
        layer = layer._replace(
            forward=lambda params, x: (x + params["E"], ()),
            backward=lambda params, cache, dy: ({"E": jn.Each(dy.reshape(len(dy), -1).sum(1), 0)}, dy),
        )
    net, loss = jn.chain(jn.dense(4, 4), layer), jn.losses.half_squared_error
    x = jax.random.normal(key, (8, *(shape or (4,))))
    optimizer = optimizers.kfac(net, loss)
    epoch, state = jn.make_epoch(net, loss, optimizer, 8), jn.TrainState.create(net.init(key), optimizer)
    state, before = epoch(state, x, x)
    for _ in range(3):
        state, after = epoch(state, x, x)
    assert float(after["loss"]) < float(before["loss"])


def test_factors_and_inverses_serve_for_intervals_of_their_own(problem, key):
    params, x, y = problem
    chosen = {"interval": 4, "factor_interval": 2, "decay": 0.75, "one_block": False}
    optimizer = optimizers.kfac(NET, LOSS, 0.1, key=key, **chosen)
    state, grads = optimizer.init(params), gradient(params, x, y)
    states, update = [state], compiled_update(optimizer, params, x, y)
    for _ in range(9):
        states.append(update(grads, states[-1])[1])
    sums = [[float(sum(leaf.sum() for leaf in jax.tree.leaves(tree))) for tree in state[2:4]] for state in states[1:]]
    changes = np.flatnonzero(np.diff(sums, axis=0)[:, 0]) + 1, np.flatnonzero(np.diff(sums, axis=0)[:, 1]) + 1
    # The inverses of the first three steps are those of the factors then.
    assert [list(steps) for steps in changes] == [[2, 4, 6, 8], [2, 4, 8]]
    # Two steps' decay for each second step, once plain averages would go further back.
    before, share = states[4], 0.75**2
    of_batch = batch_factors(params, x, y, before.key)
    average = jax.tree.map(lambda old, new: share * old + (1 - share) * new, before.factors, of_batch)
    assert_equal(states[5].factors, average)


@pytest.mark.parametrize("present", [12, 7], ids=["a full batch", "a batch that is filled up"])
def test_without_a_learning_rate_the_update_is_the_least_of_the_quadratic_model(present, problem, key):
    """Over all combinations of the preconditioned gradient and the last update, with the explicit matrix G."""
    params, x, y = problem
    weights = None if present == 12 else (jnp.arange(12) < present).astype(float) / present
    optimizer = optimizers.kfac(NET, LOSS, damping=0.2, least_damping=0.0, one_block=False, key=key)
    flat, unflatten = ravel_pytree(params)
    J = jax.jit(jax.jacobian(lambda flat: NET.apply(unflatten(flat), x)))(flat)
    state, grads = optimizer.init(params), gradient(params, x, y, weights)
    update = compiled_update(optimizer, params, x, y, weights)
    for _ in range(3):
        S = LOSS.root_hessian(NET.apply(params, x), y)
        SJ = np.einsum("vno,nop->vnp", S, J)[:, :present].reshape(-1, flat.size)
        curved = SJ.T @ SJ / present + float(state.damping) * np.eye(flat.size)
        last, damping, g = state.last, float(state.damping), ravel_pytree(grads)[0]
        updates, state = update(grads, state)
        proposal = preconditioned(grads, state.factors, damping)
        directions = np.stack([ravel_pytree(tree)[0] for tree in (proposal, last)], axis=1)
        shares = np.linalg.lstsq(directions.T @ curved @ directions, -directions.T @ g, rcond=None)[0]
        np.testing.assert_allclose(ravel_pytree(updates)[0], directions @ shares, **EXACT)


def test_rows_that_fill_up_every_batch_change_nothing_once_its_size_is_told(problem, key):
    params, x, y = problem
    more = jnp.concatenate([x, 9 * x[:3]]), jnp.concatenate([y, y[:3]])
    weights = jnp.where(jnp.arange(15) < 12, 1 / 12, 0)
    states = []
    for batch, chosen in (((x, y, None), {}), ((*more, weights), {"batch_size": 12})):
        # Damping that falls to the least there is, which is 3 / m, in the fifth step.
        optimizer = optimizers.kfac(NET, LOSS, damping=0.26, key=key, **chosen)
        state, grads = optimizer.init(params), gradient(params, *batch)
        update = compiled_update(optimizer, params, *batch)
        for _ in range(5):
            _, state = update(grads, state)
        states.append(state)
    assert float(states[0].damping) == 0.25
    assert_equal(states[1]._replace(key=None), states[0]._replace(key=None))


def test_damping_falls_where_the_loss_falls_as_foretold_and_rises_where_it_does_not(problem, key):
    params, x, y = problem
    optimizer = optimizers.kfac(NET, LOSS, damping=0.2, least_damping=0.1, interval=1, key=key)
    grads, given = gradient(params, x, y), seen(params, x, y)
    # The fifth step asks how the loss fell.
    state = optimizer.init(params)._replace(step=jnp.asarray(4, jnp.int32))
    updates, _ = compiled_update(optimizer, params, x, y)(grads, state)
    # At the least point of the model it is half its slope along the update.
    foretold = float(sum(jnp.vdot(u, g) for u, g in zip(*map(jax.tree.leaves, (updates, grads)), strict=True))) / 2

    @jax.jit
    def damping_after(outcome, state):
        return optimizer.update(grads, state, params, **given | {"value_fn": lambda params: outcome})[1].damping

    def damping_when(kept):
        return float(damping_after(given["value"] + kept * foretold, state))

    assert foretold < 0
    np.testing.assert_allclose(damping_when(0.9), 0.2 * 0.9**5)
    np.testing.assert_allclose(damping_when(0.5), 0.2)
    np.testing.assert_allclose(damping_when(0.1), 0.2 / 0.9**5)
    np.testing.assert_allclose(damping_when(-3.0), 0.2 / 0.9**5)
    np.testing.assert_allclose(damping_when(float("nan")), 0.2 / 0.9**5)
    at_least = state._replace(damping=jnp.asarray(0.11))
    assert float(damping_after(given["value"] + foretold, at_least)) == 0.1
    between = state._replace(step=jnp.asarray(3, jnp.int32))
    assert float(damping_after(given["value"] + foretold, between)) == 0.2


def test_one_step_solves_linear_regression(x64, key):
    """Inputs without mean, whose weights and biases do not interact: K-FAC's blocks are then all there is."""
    x = jax.random.normal(key, (50, 4))
    x = jnp.concatenate([x, -x])
    y = x @ jnp.arange(8.0).reshape(4, 2) + 3
    net, loss = jn.dense(4, 2), jn.losses.half_squared_error
    optimizer = optimizers.kfac(net, loss, damping=1e-10, least_damping=0.0, samples=20_000, key=key)
    state = jn.TrainState.create(net.init(key), optimizer)
    step = jn.make_step(net, loss, optimizer)
    state, before = step(state, x, y)
    _, after = step(state, x, y)
    # The outputs' factor is drawn: 20,000 labels for each of 100 examples, a relative error of 1/1400.
    assert float(after["loss"]) < 1e-5 * float(before["loss"])


def test_kfac_trains_in_epochs_with_a_ragged_last_batch(x64, key, compilations):
    x = jax.random.normal(key, (50, 4))
    y = (x[:, 0] * x[:, 1] > 0).astype(int) + (x[:, 2] > 1).astype(int)
    losses = {}
    for number, (name, optimizer) in enumerate(
        {"kfac": optimizers.kfac(NET, LOSS, damping=1.0), "sgd": optax.sgd(0.1)}.items(), start=1
    ):
        epoch, state = jn.make_epoch(NET, LOSS, optimizer, 32), jn.TrainState.create(NET.init(key), optimizer)
        for _ in range(20):
            state, metrics = epoch(state, x, y)
        losses[name] = float(metrics["loss"])
        assert compilations("epoch") == number
    assert losses["kfac"] < 0.75 * losses["sgd"]


def test_a_parameter_that_gets_no_gradient_does_no_harm(key):
    """A constant input of 0: its factor A is 0."""
    optimizer = optimizers.kfac(NET, LOSS)
    x, y = jnp.zeros((6, 4)), jnp.array([0, 1, 2, 0, 1, 2])
    state = jn.TrainState.create(NET.init(key), optimizer)
    step = jn.make_step(NET, LOSS, optimizer)
    for _ in range(3):
        state, metrics = step(state, x, y)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, metrics)))


@pytest.mark.usefixtures("optax_promotion")
def test_noise_has_the_promised_size_and_mean(key):
    params = {"W": jnp.zeros((300, 400)), "b": jnp.zeros(5)}
    noise = optimizers.private_noise(2.0, 1.5, 30, key)
    state, draws = noise.init(params), []
    for _ in range(2):
        noisy, state = noise.update(params, state)
        draws.append(np.asarray(noisy["W"]))
    # 120,000 draws: standard errors of 0.3% of the deviation for the mean, 0.2% for the deviation.
    for draw in draws:
        np.testing.assert_allclose(draw.std(), 1.5 * 2 / 30, rtol=0.02)
        assert abs(draw.mean()) < 0.02 * 0.1
    assert (draws[0] != draws[1]).any()
    silent, _ = optimizers.private_noise(2.0, 0.0, 30).update(
        params, optimizers.private_noise(2.0, 0.0, 30).init(params)
    )
    assert not silent["W"].any()


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("max_norm", [1e-30, 1e30])
def test_noise_has_the_promised_size_where_its_variance_is_no_number_of_the_type(max_norm, key):
    noise, gradient = optimizers.private_noise(max_norm, 1.5, 30, key), jnp.zeros((300, 400))
    noisy, _ = noise.update(gradient, noise.init(gradient))
    np.testing.assert_allclose(np.asarray(noisy, np.float64).std(), 1.5 * max_norm / 30, rtol=0.02)


def test_an_example_more_or_less_moves_the_clipped_gradient_by_at_most_c_over_the_batch_size(problem):
    """What the noise is scaled to; with the weights that a batch has that is not full."""
    params, x, y = problem
    most = 0.05
    read = jax.jit(jn.value_and_grad(NET, LOSS, read=per_example.clipped(most, 12)))
    for present in (12, 5):
        weights = (jnp.arange(12) < present).astype(float) / present
        fewer = weights.at[0].set(0.0)
        moved = jax.tree.map(jnp.subtract, read(params, x, y, weights)[1], read(params, x, y, fewer)[1])
        length = float(jnp.linalg.norm(ravel_pytree(moved)[0]))
        # Every gradient here is longer than C, so that the bound is reached.
        np.testing.assert_allclose(length, most / 12, rtol=1e-9)


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (
            lambda: optimizers.kfac(NET, LOSS, 0.0),
            "kfac: expected learning_rate to be a positive number, a schedule or None, got 0.0",
        ),
        (lambda: optimizers.kfac(NET, LOSS, damping=0.0), "kfac: expected damping to be a positive number, got 0.0"),
        (
            lambda: optimizers.kfac(NET, LOSS, least_damping=-1.0),
            "kfac: expected least_damping to be a number of at least 0 or None, got -1.0",
        ),
        (lambda: optimizers.kfac(NET, LOSS, momentum=1.0), "kfac: expected momentum to be a number in [0, 1), got 1.0"),
        (lambda: optimizers.kfac(NET, LOSS, decay=1.0), "kfac: expected decay to be a number in [0, 1), got 1.0"),
        (
            lambda: optimizers.kfac(NET, LOSS, interval=0),
            "kfac: expected interval to be a positive integer, got 0",
        ),
        (
            lambda: optimizers.kfac(NET, LOSS, interval=1.5),
            "kfac: expected interval to be a positive integer, got 1.5",
        ),
        (
            lambda: optimizers.kfac(NET, LOSS, factor_interval=0),
            "kfac: expected factor_interval to be a positive integer, got 0",
        ),
        (
            lambda: optimizers.kfac(NET, LOSS, largest_block=-1),
            "kfac: expected largest_block to be a positive integer, got -1",
        ),
        (lambda: optimizers.kfac(NET, LOSS, samples=0), "kfac: expected samples to be a positive integer, got 0"),
        (lambda: optimizers.kfac(NET, LOSS, batch_size=0), "kfac: expected batch_size to be a positive integer, got 0"),
        (
            lambda: optimizers.kfac(LOSS, NET),
            f"kfac: expected net to be a Layer, such as jaxnet.mlp((3, 4, 1)), got the loss {LOSS!r}",
        ),
        (
            lambda: optimizers.private_noise(math.inf, 1.0, 8),
            "private_noise: expected finite max_norm > 0, finite noise_multiplier >= 0 and batch_size >= 1, "
            "got inf, 1.0 and 8",
        ),
        (
            lambda: optimizers.private_noise(0.0, 1.0, 8),
            "private_noise: expected finite max_norm > 0, finite noise_multiplier >= 0 and batch_size >= 1, "
            "got 0.0, 1.0 and 8",
        ),
    ],
)
def test_misuse_is_named(misuse, message):
    with pytest.raises(ValueError) as error:
        misuse()
    assert str(error.value) == message


def test_kfac_refuses_a_network_without_parameters():
    with pytest.raises(ValueError) as error:
        jn.TrainState.create(((),), optimizers.kfac(jn.chain(jn.tanh), LOSS))
    assert str(error.value) == "kfac: expected parameters, got none"


def test_kfac_asks_for_the_parameters(problem):
    params, x, y = problem
    optimizer = optimizers.kfac(NET, LOSS)
    with pytest.raises(ValueError, match=r"^kfac: expected update\(grads, state, params, x=x, y=y\), got no params$"):
        optimizer.update(gradient(params, x, y), optimizer.init(params), **seen(params, x, y))


def test_an_ensemble_trains_under_vmap(key):
    """Inverses of all members at once: LAPACK's can wait for each other for ever on a CPU of few cores."""
    optimizer = optimizers.kfac(NET, LOSS, 0.1)
    x, y = jax.random.normal(key, (12, 4)), jnp.arange(12) % 3

    def step(params):
        grads = gradient(params, x, y)
        updates, _ = optimizer.update(grads, optimizer.init(params), params, x=x, y=y)
        return updates

    members = jax.vmap(NET.init)(jax.random.split(key, 3))
    together = jax.jit(jax.vmap(step))(members)
    alone = jax.jit(step)(jax.tree.map(lambda leaf: leaf[1], members))
    # float32 rounds at 6e-8, inverses of matrices of condition 10 at ten times that.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, atol=1e-5), together, alone)


def test_a_small_last_batch_is_damped_more(problem, key):
    """By default lambda is at least 3 / m with the examples that are there, for that batch alone."""
    params, x, y = problem
    weights = (jnp.arange(12) < 2).astype(float) / 2
    optimizer = optimizers.kfac(NET, LOSS, damping=0.3, key=key)
    grads = gradient(params, x, y, weights)
    as_default = compiled_update(optimizer, params, x, y, weights)(grads, optimizer.init(params))
    other = optimizers.kfac(NET, LOSS, damping=1.5, least_damping=0.0, key=key)
    as_told = compiled_update(other, params, x, y, weights)(grads, other.init(params))
    assert_equal(as_default[0], as_told[0])
    assert 0.25 <= float(as_default[1].damping) <= 0.3 / 0.95
