"""What differential privacy rests on: how batches are drawn, and how far one example moves the sum."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import jaxnet as jn
from jaxnet import optimizers, per_example

EXAMPLES, RATE, STEPS = 60, 0.3, 4000
NET, LOSS = jn.mlp((3, 5, 2), jn.relu), jn.losses.half_squared_error
DRAWN = jax.jit(jn.poisson_batches, static_argnums=(2, 3, 4))


@pytest.fixture(scope="module")
def present():
    """(steps, examples): which were drawn with a fixed key, so that what is asked of them holds or does not."""
    rows, weights = DRAWN(jax.random.key(5), jnp.arange(STEPS), EXAMPLES, RATE, EXAMPLES)
    drawn = np.zeros((STEPS, EXAMPLES), bool)
    step, place = np.nonzero(np.asarray(weights))
    drawn[step, np.asarray(rows)[step, place]] = True
    np.testing.assert_array_equal(drawn.sum(1), (np.asarray(weights) > 0).sum(1))
    sizes = drawn.sum(1, keepdims=True)
    np.testing.assert_allclose(np.asarray(weights).max(1), 1 / sizes[:, 0], rtol=1e-6)
    return drawn


def test_the_sizes_of_batches_are_binomial(present):
    sizes, trials = present.sum(1), np.arange(EXAMPLES + 1)
    p = np.array([math.comb(EXAMPLES, k) * RATE**k * (1 - RATE) ** (EXAMPLES - k) for k in trials])
    often = p * STEPS > 10
    observed = np.bincount(sizes, minlength=EXAMPLES + 1)
    groups = [*zip(observed[often], p[often], strict=True), (observed[~often].sum(), p[~often].sum())]
    squares = sum((count - STEPS * share) ** 2 / (STEPS * share) for count, share in groups)
    # Chi-squared with so many degrees of freedom: its mean is that, its deviation sqrt(2 freedom).
    freedom = len(groups) - 1
    assert abs(squares - freedom) < 3 * math.sqrt(2 * freedom)


def test_each_example_is_in_a_batch_by_itself(present):
    """All alike often, and none more often where another is, nor after a step in which it was."""
    error = math.sqrt(RATE * (1 - RATE) / STEPS)
    assert np.abs(present.mean(0) - RATE).max() < 4 * error
    centred = (present - RATE) / math.sqrt(RATE * (1 - RATE))
    pairs = centred.T @ centred / STEPS
    after = centred[1:].T @ centred[:-1] / STEPS
    # 1,770 and 3,600 correlations of standard error 1 / sqrt(steps).
    assert np.abs(pairs - np.diag(np.diag(pairs))).max() < 4.5 / math.sqrt(STEPS)
    assert np.abs(after).max() < 4.5 / math.sqrt(STEPS)


def test_a_batch_depends_on_the_key_and_on_its_step_alone(key):
    rows, weights = DRAWN(key, jnp.arange(8), EXAMPLES, RATE, 40)
    later = DRAWN(key, jnp.array([5, 2]), EXAMPLES, RATE, 40)
    for whole, some in zip((rows, weights), later, strict=True):
        np.testing.assert_array_equal(some, whole[jnp.array([5, 2])])
    other, _ = DRAWN(jax.random.fold_in(key, 1), jnp.arange(8), EXAMPLES, RATE, 40)
    assert (other != rows).any(1).all()


def test_what_finds_no_room_is_left_out_and_all_are_drawn_at_rate_1(key):
    rows, weights = DRAWN(key, jnp.arange(8), EXAMPLES, RATE, 40)
    fewer, of_fewer = DRAWN(key, jnp.arange(8), EXAMPLES, RATE, 5)
    np.testing.assert_array_equal(fewer, rows[:, :5])
    np.testing.assert_allclose(of_fewer, 0.2, rtol=1e-6)
    rows, weights = jn.poisson_batches(key, jnp.arange(2), 4, 1.0, 6)
    np.testing.assert_array_equal(rows[1], [0, 1, 2, 3, 0, 0])
    np.testing.assert_array_equal(weights[1], [0.25] * 4 + [0, 0])


HUGE = np.float32(3e38)
ADVERSARIES = {
    "long": (np.array([1e8, -1e8, 1e8]), np.array([1e8, -2e8])),
    "longer than float32": (np.full(3, 1e30), np.zeros(2)),
    "a loss beyond float32": (np.full(3, HUGE), np.full(2, -HUGE)),
    "NaN": (np.array([np.nan, 1, 1]), np.zeros(2)),
    "infinite": (np.array([np.inf, -np.inf, 0]), np.ones(2)),
    "a target that is none": (np.ones(3), np.array([np.nan, np.inf])),
    "as another one": (np.array([0.5, -1, 2]), np.array([3.0, -3])),
    "nothing": (np.zeros(3), np.zeros(2)),
}


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "by parameter"])
def test_no_example_moves_the_sum_by_more_than_c(parts, key):
    """In float32, added to examples of any kind, to twins of itself and to none; nor does one of weight 0 at all."""
    params, most, size = NET.init(key), 0.7, 4.5
    bounds = per_example.even_norms(most, params) if parts else most
    read = jax.jit(jn.value_and_grad(NET, LOSS, read=per_example.clipped(bounds, size, drop_not_finite=True)))
    others = [ADVERSARIES[name] for name in ("as another one", "long", "infinite", "a target that is none")]
    for name, added in ADVERSARIES.items():
        for beside in ([added] * 6, others + others[:1] * 2):
            x, y = (np.array(side, np.float32) for side in zip(added, *beside, strict=True))
            for present in (7, 1):
                weights = np.where(np.arange(7) < present, np.float32(1 / present), np.float32(0))
                without = np.where(np.arange(7) == 0, np.float32(0), weights)
                sums = [ravel_pytree(read(params, x, y, w)[1])[0] * size for w in (weights, without)]
                assert all(bool(jnp.isfinite(of_one).all()) for of_one in sums), name
                moved = np.linalg.norm(np.asarray(sums[0], np.float64) - np.asarray(sums[1], np.float64))
                # A sum of six gradients of length C is rounded itself.
                assert moved <= most * (1 + 7 * 2.0**-23), (name, present)
                if name == "long":
                    # The bound is reached; of four parameters, by those with a gradient.
                    assert moved > 0.99 * most * (0.5 if parts else 1)


def test_parameters_that_are_clipped_by_themselves_have_an_even_share(key):
    params = NET.init(key)
    bounds = per_example.even_norms(2.0, params)
    assert jax.tree.structure(bounds) == jax.tree.structure(params)
    np.testing.assert_allclose(jax.tree.leaves(bounds), 1.0)
    x, y = 100 * jax.random.normal(key, (1, 3)), jnp.ones((1, 2))
    _, grads = jax.jit(jn.value_and_grad(NET, LOSS, read=per_example.clipped(bounds)))(params, x, y)
    for leaf in jax.tree.leaves(grads):
        np.testing.assert_allclose(np.linalg.norm(leaf), 1.0, rtol=1e-4)


def test_without_asking_what_is_not_finite_is_seen(key):
    params, x = NET.init(key), jnp.array([[jnp.nan, 0, 0], [1, 2, 3]])
    _, grads = jax.jit(jn.value_and_grad(NET, LOSS, read=per_example.clipped(1.0)))(params, x, jnp.ones((2, 2)))
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.usefixtures("optax_promotion")
def test_a_number_of_the_noise_is_half_the_sum_of_four_of_optaxs(key):
    zeros = {"W": jnp.zeros((4, 3)), "b": jnp.zeros(2)}
    plain, noise = optax.add_noise(1.0, 0.0, key), optimizers.private_noise(2.0, 3.0, 4.0, key)
    state, draws = plain.init(zeros), []
    for _ in range(4):
        drawn, state = plain.update(zeros, state)
        draws.append(drawn)
    noisy, _ = noise.update(zeros, noise.init(zeros))
    for actual, *four in zip(*map(jax.tree.leaves, (noisy, *draws)), strict=True):
        # The deviation 2 x 3 / 4, and half of it for each.
        np.testing.assert_allclose(actual, 0.75 * sum(four), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (
            lambda key: jn.poisson_batches(key, jnp.arange(1), 0, 0.5, 1),
            "poisson_batches: expected examples to be a positive integer, got 0",
        ),
        (
            lambda key: jn.poisson_batches(key, jnp.arange(1), 9, 1.5, 1),
            "poisson_batches: expected rate to be above 0 and at most 1, got 1.5",
        ),
        (
            lambda key: jn.poisson_batches(key, jnp.arange(1), 9, 0.5, 1.5),
            "poisson_batches: expected size to be a positive integer, got 1.5",
        ),
        (
            lambda key: per_example.even_norms(-1.0, NET.init(key)),
            "per_example.even_norms: expected max_norm to be one positive and finite number, got -1",
        ),
        (lambda key: per_example.even_norms(1.0, ()), "per_example.even_norms: expected parameters, got none"),
    ],
)
def test_misuse_is_named(misuse, message, key):
    with pytest.raises(ValueError) as error:
        misuse(key)
    assert str(error.value) == message
