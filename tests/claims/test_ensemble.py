"""The ensemble: each member is the run that one would have trained alone."""

from functools import partial
from pathlib import Path
from threading import Barrier

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from claims import ensemble
from claims.ensemble import History, Lab, Runs

import jaxnet as jn

RATES = (0.03, 0.3)


@pytest.fixture
def lab(tmp_path):
    return Lab(3, tmp_path, lambda what: None, RATES)


@pytest.mark.parametrize("batch_size", [32, None])
def test_a_member_is_the_run_of_its_rate_start_and_seed_alone(lab, batch_size):
    on = ensemble.task("iris", lab.seeds)
    net = jn.mlp((4, 5, 3), jn.tanh)
    zeros = ensemble.start(jn.mlp((4, 5, 3), jn.tanh, weight_init=jn.initializers.zeros), lab.seeds)
    starts = {"zeros": zeros, "glorot": ensemble.start(net, lab.seeds)}
    runs = ensemble.fit(lab, "a test", net, on, starts, epochs=4, batch_size=batch_size)

    rate, seed = 1, 2
    optimizer = optax.sgd(RATES[rate])
    x, y = on.train.x[seed], on.train.y[seed]
    of_start, of_order = jax.random.split(jax.random.key(seed))
    state = jn.TrainState.create(net.init(of_start), optimizer, of_order)
    epoch = jn.make_epoch(net, on.loss, optimizer, batch_size)
    losses = [float(on.loss.forward(net.apply(state.params, x), y).mean())]
    for _ in range(4):
        state, _ = epoch(state, x, y)
        losses.append(float(on.loss.forward(net.apply(state.params, x), y).mean()))
    # float32, summed in another order under vmap.
    np.testing.assert_allclose(runs["glorot"].history.train_loss[rate, seed], losses, rtol=1e-5)
    jax.tree.map(
        lambda member, alone: np.testing.assert_allclose(member[rate, seed], alone, atol=1e-5),
        runs["glorot"].params,
        state.params,
    )
    test = net.apply(state.params, on.test.x[seed])
    np.testing.assert_allclose(
        runs["glorot"].history.test_accuracy[rate, seed, -1], (test.argmax(1) == on.test.y[seed]).mean(), rtol=1e-6
    )


def test_what_is_fitted_together_is_told_by_name_and_in_order(monkeypatch):
    """Two at a time: each waits for the other."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    both = Barrier(2)

    def fitted(value):
        both.wait(timeout=60)
        return value

    fits = {name: partial(fitted, len(name)) for name in ("tanh", "relu", "sigmoid", "none")}
    assert list(ensemble.together(fits).items()) == [("tanh", 4), ("relu", 4), ("sigmoid", 7), ("none", 4)]


def test_what_one_of_them_raises_is_raised():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensemble.together({"one": lambda: 1, "other": interrupted})


def test_one_configuration_is_traced_once_for_all_members(lab):
    traced = []

    def observe(params, x):
        traced.append(params)
        return jnp.abs(params[0].W).max()

    on = ensemble.task("iris", lab.seeds)
    net = jn.mlp((4, 3, 3))
    runs = ensemble.fit(lab, "a test", net, on, {"he": ensemble.start(net, lab.seeds)}, epochs=2, observe=observe)
    # Before the first epoch, and in the scan over epochs, whatever the numbers of rates, starts, seeds and epochs;
    # the scan may trace its body again to settle its types.
    assert len(traced) <= 3
    assert runs["he"].seen.shape == (len(RATES), 3, 3)


def test_the_rate_is_that_of_the_lowest_validation_loss_at_the_time_and_never_of_a_run_that_diverged(lab):
    validation = np.array([[[2.0, 1.0, 0.9]] * 2, [[2.0, 1.5, 0.5]] * 2])
    misleading = -validation
    runs = Runs(
        np.array(RATES), History(misleading, validation, misleading, misleading), {"W": np.zeros((2, 2, 1))}, ()
    )
    assert [runs.tuned(epochs).rate for epochs in (1, 2)] == [RATES[0], RATES[1]]
    validation[1, 0, 2] = np.nan
    assert runs.tuned(2).rate == RATES[0]
    assert runs.tuned(2).history.validation_loss.shape == (2, 3)


def test_each_seed_draws_parts_of_its_own_that_do_not_overlap():
    on = ensemble.task("iris", 3)
    assert [len(part.x) for part in (on.train, on.validation, on.test)] == [3, 3, 3]
    assert sum(part.x.shape[1] for part in (on.train, on.validation, on.test)) == 150
    assert not np.array_equal(on.train.y[0], on.train.y[1])
    moons = ensemble.task("moons", 2)
    rows = np.concatenate([np.asarray(part.x[0]) for part in (moons.train, moons.validation, moons.test)])
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_accuracy_goes_by_the_sign_of_one_output_and_the_largest_of_several():
    assert ensemble.accuracy(jnp.array([[2.0], [-1.0], [1.0]]), jnp.array([[1.0], [0.0], [0.0]])) == pytest.approx(
        2 / 3
    )
    assert ensemble.accuracy(jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([0, 0])) == 0.5


def test_ctrl_c_stops_before_the_next_configuration(lab, monkeypatch):
    monkeypatch.setattr(ensemble, "interrupted", lambda: True)
    net = jn.mlp((4, 3))
    with pytest.raises(KeyboardInterrupt):
        ensemble.fit(lab, "a test", net, ensemble.task("iris", 3), {"he": ensemble.start(net, 3)}, epochs=1)
    assert list(Path(lab.out).iterdir()) == []
