"""The noise of private training and what is spent of its budget, beside dp-accounting and SciPy themselves."""

import math

import dp_accounting
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dp_accounting import pld, rdp
from scipy import stats

import jaxnet as jn
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.training import budget
from jaxnet.experiment.training.budget import OVERFLOW, TOLERANCE, budget_of, interval_of, room_for

# 4 epochs of 11 batches.
EPSILON, DELTA, EXAMPLES, BATCH, EPOCHS = 3.0, 1e-5, 1293, 128, 4


def event(multiplier, steps):
    sampled = dp_accounting.PoissonSampledDpEvent(BATCH / EXAMPLES, dp_accounting.GaussianDpEvent(multiplier))
    return dp_accounting.SelfComposedDpEvent(sampled, steps)


@pytest.fixture(scope="module")
def made():
    return budget_of(EPSILON, DELTA, EXAMPLES, BATCH, EPOCHS)


def test_the_multiplier_is_dp_accountings_own(made):
    left = DELTA * (1 - OVERFLOW)
    own = dp_accounting.calibrate_dp_mechanism(
        lambda: pld.PLDAccountant(value_discretization_interval=1e-3),
        lambda multiplier: event(multiplier, 44),
        EPSILON,
        left,
        dp_accounting.LowerEndpointAndGuess(0, 1),
        tol=TOLERANCE,
    )
    assert (made.noise_multiplier, made.steps) == (own, 44)
    # By Renyi divergences, another way to account, which is known to be a little looser.
    loose = rdp.RdpAccountant().compose(event(own, 44)).get_epsilon(left)
    assert EPSILON < loose < 1.15 * EPSILON


def test_epsilon_follows_from_the_step_and_ends_at_the_budget(made):
    spent = [made.spent(step) for step in (1, 11, 43, 44)]
    assert spent == sorted(spent)
    assert 0.99 * EPSILON < spent[-1] <= EPSILON
    finely = pld.PLDAccountant().compose(event(made.noise_multiplier, 44)).get_epsilon(DELTA * (1 - OVERFLOW))
    assert finely <= spent[-1] <= finely + 2e-3
    # A run that goes on is told its multiplier, and searches for none.
    assert budget_of(EPSILON, DELTA, EXAMPLES, BATCH, EPOCHS, made.noise_multiplier) == made


def test_batches_have_room_but_for_a_thousandth_of_delta(made):
    taken = made.steps * (1 + math.exp(EPSILON)) * stats.binom.sf([made.room, made.room - 1], EXAMPLES + 1, made.rate)
    assert taken[0] <= OVERFLOW * DELTA < taken[1]
    for examples, rate, mass in ((60_000, 1 / 1875, 1e-14), (20, 0.5, 1e-3), (1000, 0.999, 1e-9), (3, 0.5, 1e-9)):
        room = room_for(examples, rate, mass)
        assert room == examples or stats.binom.sf(room, examples + 1, rate) <= mass
        assert stats.binom.sf(room - 1, examples + 1, rate) > mass
    assert room_for(20, 1.0, 1e-9) == 20


def test_the_accountant_rounds_more_finely_where_there_are_more_steps():
    intervals = [interval_of(steps) for steps in (1, 2000, 20_000, 10**9)]
    np.testing.assert_allclose(intervals, [1e-3, 1e-3, 3.16e-4, 1e-4], rtol=1e-2)


def test_a_delta_that_could_tell_all_of_one_example_is_refused():
    with pytest.raises(BadInput) as error:
        budget_of(EPSILON, 1e-3, EXAMPLES, BATCH, EPOCHS)
    assert str(error.value) == (
        "--private-delta 0.001: expected less than 1 / 1293, one over the training examples: with more, a run may tell "
        "all about one of them"
    )


def test_keys_are_of_the_systems_entropy_and_take_the_place_of_the_seeds(monkeypatch):
    assert not np.array_equal(budget.secret_words(), budget.secret_words())
    told = iter((1, 2, 3, 2**32 - 1))
    monkeypatch.setattr(budget.secrets, "randbits", lambda bits: next(told))
    words = budget.secret_words()
    assert (words.dtype, words.tolist()) == (np.uint32, [1, 2, 3, 2**32 - 1])
    params = {"W": jnp.ones((2, 2))}
    noisy = optax.chain(jn.optimizers.private_noise(1.0, 1.0, 4), optax.adam(1e-3))
    state = budget.with_keys(jn.TrainState.create(params, noisy), jnp.asarray(words))
    np.testing.assert_array_equal(jax.random.key_data(state.key), [1, 2])
    np.testing.assert_array_equal(jax.random.key_data(state.opt_state[0].rng_key), [3, 2**32 - 1])
