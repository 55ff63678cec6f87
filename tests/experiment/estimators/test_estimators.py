"""Classifier and Regressor where scikit-learn's own checks do not ask: the shell's results, options, partial fits."""

import pickle
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from short_runs import train
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from trees import assert_trees_equal

import jaxnet as jn
from jaxnet.estimator import Classifier, Regressor
from jaxnet.experiment.console import packages
from jaxnet.experiment.estimators.examples import Orders
from jaxnet.experiment.estimators.program import _compiled
from jaxnet.training import epoch_order

pytestmark = pytest.mark.usefixtures("optax_promotion")
X, Y = load_iris(return_X_y=True)
NAMES = load_iris().target_names[Y]
Tiny = partial(Classifier, hidden=(8,), epochs=3, learning_rate=0.02, dtype="float32", random_state=0)


@pytest.mark.usefixtures("without_figures")
def test_the_same_options_and_data_give_the_parameters_and_predictions_of_jaxnet_train(tmp_path):
    options = {"hidden": (8,), "epochs": 4, "early_stopping": 3}
    out, result, _ = train(tmp_path, data="wine", seed=3, checkpoint_every="0", **options)
    model = jn.load(out)
    x, y = load_wine(return_X_y=True)
    rest, test = train_test_split(np.arange(178), test_size=36, stratify=y, random_state=3)
    estimator = Classifier(**options, dtype="float32", random_state=3, validation_fraction=18 / len(rest))
    with pytest.warns(ConvergenceWarning):
        estimator.fit(x[rest], y[rest])
    # To the last bit here; another compiler may sum in another order.
    assert_trees_equal(estimator.params_, jax.device_get(model.params), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(estimator.predict_proba(x[test]), model.predict_proba(x[test]), rtol=1e-5, atol=1e-7)
    assert estimator.kept_epoch_ == result["kept_epoch"]
    assert estimator.score(x[test], y[test]) == pytest.approx(result["test_accuracy"])


@pytest.mark.parametrize("in_64_bits", [False, True])
def test_the_order_of_the_examples_is_that_of_make_epoch(in_64_bits):
    with jax.enable_x64(in_64_bits):
        key = jax.random.key(5)
        for examples, batch, epoch in ((7, 3, 0), (1100, 1100, 41)):
            expected = epoch_order(key, epoch, examples, batch)
            np.testing.assert_array_equal(Orders(key, examples, batch)[epoch], expected)


def test_it_serves_in_pipelines_searches_and_cross_validation_with_texts_for_labels():
    pipeline = make_pipeline(MinMaxScaler(), Tiny(epochs=20))
    search = GridSearchCV(pipeline, {"classifier__learning_rate": np.array([1e-4, 0.02])}, cv=2).fit(X, NAMES)
    assert search.best_params_ == {"classifier__learning_rate": 0.02}
    assert set(search.predict(X[::50])) <= {"setosa", "versicolor", "virginica"}
    assert cross_val_score(clone(pipeline), X, NAMES, cv=2).min() > 0.8
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(search)).predict_proba(X), search.predict_proba(X))


def test_partial_fits_go_on_where_fit_would_be_also_after_a_pickle():
    whole = Tiny(epochs=2).fit(X, NAMES)
    parts = Tiny().partial_fit(X, NAMES, classes=["virginica", "setosa", "versicolor"])
    parts = pickle.loads(pickle.dumps(parts)).partial_fit(X, NAMES)
    assert_trees_equal(parts.params_, whole.params_, rtol=0, atol=0)
    assert parts.loss_curve_ == whole.loss_curve_
    assert (parts.n_iter_, len(parts.loss_curve_)) == (2, 2)


def test_partial_fits_refuse_labels_that_were_not_told():
    with pytest.raises(ValueError) as error:
        Tiny().partial_fit(X, NAMES)
    assert str(error.value) == "Classifier: classes must be passed on the first call to partial_fit"
    with pytest.raises(ValueError) as error:
        Tiny().partial_fit(X, NAMES, classes=["setosa", "versicolor"])
    assert str(error.value) == "Classifier: y has the class 'virginica', expected those of ['setosa' 'versicolor']"
    told = Tiny().partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError) as error:
        told.partial_fit(X, Y, classes=[0, 1])
    assert str(error.value) == "Classifier: classes are those of the first call to partial_fit, [0 1 2]; got [0 1]"


def test_a_network_of_ones_own_is_compiled_once_for_all_fits_that_need_the_same():
    def net(inputs, outputs):
        return jn.chain(jn.dense(inputs, 5), jn.tanh, jn.dense(5, outputs, bias=False))

    first = Tiny(net, hidden=(256,)).fit(X, Y)
    compiled = _compiled.cache_info().misses
    again = Tiny(net, hidden=(256,), random_state=1).fit(X[1:], Y[1:])
    assert _compiled.cache_info().misses == compiled
    assert repr(first.net_) == "chain(dense(4, 5), tanh, dense(5, 3, bias=False))"
    assert again.predict_proba(X).shape == (150, 3)
    # A function made inside the builder is another one each time.
    own = Tiny(lambda i, o: jn.chain(jn.dense(i, o, weight_init=lambda key, shape: jnp.ones(shape))), hidden=(256,))
    own.fit(X, Y)
    own.fit(X, Y)
    assert _compiled.cache_info().misses == compiled + 2


def test_gradient_norms_are_those_of_each_example():
    estimator = Tiny(epochs=1).fit(X, Y)
    loss, net = jn.losses.softmax_cross_entropy_with_integer_labels, estimator.net_
    x, y = jnp.asarray(estimator.scaling_(X[::30]), jnp.float32), jnp.asarray(Y[::30])

    def gradient(x, y):
        return jax.grad(lambda params: loss.forward(net.apply(params, x[None]), y[None])[0])(estimator.params_)

    gradients = jax.tree.leaves(jax.jit(jax.vmap(gradient))(x, y))
    expected = np.sqrt(sum((np.asarray(leaf) ** 2).reshape(len(x), -1).sum(axis=1) for leaf in gradients))
    # In float32.
    np.testing.assert_allclose(estimator.gradient_norms(X[::30], Y[::30]), expected, rtol=1e-4)


def test_early_stopping_keeps_the_best_and_warns_only_where_it_was_cut_short():
    stopped = Tiny(epochs=60, early_stopping=2, learning_rate=0.3).fit(X, Y)
    assert stopped.n_iter_ == stopped.kept_epoch_ + 2 < 60
    assert min(stopped.validation_loss_curve_) == stopped.validation_loss_curve_[stopped.kept_epoch_ - 1]
    with pytest.warns(ConvergenceWarning) as warned:
        Tiny(epochs=2, early_stopping=2).fit(X, Y)
    assert str(warned[0].message) == (
        "Classifier: the validation loss was lowest after the last epoch, so that early stopping did not find an end; "
        "give more epochs than 2"
    )


def test_several_targets_and_a_column_come_back_as_they_came():
    regressor = Regressor(hidden=(), epochs=30, batch_size=150, optimizer="sgd", learning_rate=0.5, weight_decay=0.0)
    both = regressor.fit(X[:, :2], X[:, 2:]).predict(X[:, :2])
    assert both.shape == (150, 2)
    one = regressor.fit(X[:, :2], X[:, 2:3]).predict(X[:, :2])
    assert one.shape == (150, 1)
    # A linear model of standardised targets: each by itself.
    np.testing.assert_allclose(one[:, 0], both[:, 0], rtol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs: expected an integer of at least 1, got 0"),
        ({"optimizer": "adamm"}, "optimizer is 'adamm'; expected"),
        ({"learning_rate": -1.0}, "learning_rate: expected a positive number up to 1e+18, got -1.0"),
        ({"random_state": -1}, "random_state: expected an integer of at least 0, got -1"),
        (
            {"validation_fraction": 1.0, "early_stopping": 1},
            "validation_fraction: expected a number between 0 and 1, got 1.0",
        ),
        (
            {"net": jn.dense},
            "hidden and activation are of the network without net; let net decide on them",
        ),
        (
            {"net": lambda i, o: None, "hidden": (256,)},
            "expected net(inputs, outputs) to be a Layer, such as jaxnet.mlp((inputs, 64, outputs)), got None",
        ),
        (
            {"optimizer": "sgd", "learning_rate": 1e18},
            "the loss is no longer finite in epoch 1; lower learning_rate (1e+18) or look for extreme values in the "
            "data",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError) as error:
        Tiny(**options).fit(X, Y)
    assert str(error.value).startswith(f"Classifier: {message}")
    assert "\n" not in str(error.value)


def test_without_scikit_learn_it_says_what_is_missing(monkeypatch):
    monkeypatch.delitem(sys.modules, "jaxnet.estimator")
    monkeypatch.delattr(jn, "estimator")
    monkeypatch.setattr(packages, "is_there", lambda name: name != "sklearn")
    with pytest.raises(ModuleNotFoundError) as error:
        _ = jn.estimator
    assert str(error.value) == f"jaxnet.estimator: {packages.missing('sklearn')}"
