"""Scores are those that scikit-learn and SciPy have for them."""

import numpy as np
import pytest
from scipy.stats import t
from sklearn.metrics import auc, precision_recall_fscore_support, r2_score, roc_curve

from jaxnet.experiment.data.posing import pose
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.table import Table
from jaxnet.experiment.training import decisions, interval, ranking
from jaxnet.experiment.training.scores import scores


def examples(seed, weighted):
    """Probabilities (60, 4), of which some are alike, whether an example has each class, and weights, some 0."""
    rng = np.random.default_rng(seed)
    probability = np.round(rng.uniform(size=(60, 4)), 1)
    weights = rng.integers(0, 4, 60) / 3 if weighted else None
    return probability, rng.uniform(size=(60, 4)) < 0.3, weights


@pytest.mark.parametrize("weighted", [False, True])
def test_roc_curves_and_their_areas(weighted):
    probability, has, weights = examples(0, weighted)
    for k in range(4):
        alarms, found, _ = roc_curve(has[:, k], probability[:, k], sample_weight=weights)
        ours = ranking.roc(has[:, k], probability[:, k], weights)
        np.testing.assert_allclose(ours, (alarms, found), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(ranking.area(*ours), auc(alarms, found), rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_precision_recall_and_f1(weighted):
    probability, has, weights = examples(1, weighted)
    # One that nobody has and none is decided to have.
    has[:, 3], probability[:, 3] = False, 0.0
    told = decisions.of_labels(probability, has.astype(float), weights, ("a", "b", "c", "d"))["targets"]
    expected = precision_recall_fscore_support(
        has, probability >= 0.5, average=None, sample_weight=weights, zero_division=0
    )
    for name, theirs in zip(("precision", "recall", "f1"), expected[:3], strict=True):
        np.testing.assert_allclose([of_one[name] for of_one in told.values()], theirs, rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_r2_also_of_targets_that_do_not_vary(weighted):
    rng = np.random.default_rng(2)
    y = rng.normal(size=(30, 4))
    y[:, 2:] = 0.0
    predicted = y + np.array([0.1, 1.0, 0.0, 0.1]) * rng.normal(size=(30, 4))
    weights = rng.integers(0, 4, 30) / 3 if weighted else None
    names = ("p", "q", "still, met", "still, not met")
    problem, _ = pose(Table("t", InMemory(rng.normal(size=(30, 1))), rng.normal(size=(30, 4)), ("x",), names))
    told = scores(problem, predicted, y, weights)
    theirs = r2_score(y, predicted, sample_weight=weights, multioutput="raw_values")
    np.testing.assert_allclose([of_one["r2"] for of_one in told["targets"].values()], theirs, rtol=1e-12)
    assert theirs[2:].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("values", [(1.0, 2.0), (0.5, 0.25, 0.75, 1.0), tuple(range(50))])
def test_intervals_by_student_s_t(values):
    low, high = t.interval(0.95, len(values) - 1, np.mean(values), np.std(values, ddof=1) / len(values) ** 0.5)
    np.testing.assert_allclose(interval.interval(values), [low, high], rtol=1e-12)
