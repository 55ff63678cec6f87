"""What probabilities of classes and labels are worth, beside numbers worked out by hand."""

import numpy as np
import pytest

from jaxnet.experiment.training import decisions

# Of four examples of classes 0, 0, 1, 2 the second is given to class 1.
PREDICTED = np.array([[0.8, 0.1, 0.1], [0.25, 0.5, 0.25], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
Y = np.array([0, 0, 1, 2])


def test_scores_of_classes_are_those_worked_out_by_hand():
    scores = decisions.of_classes(PREDICTED, Y, None, ("a", "b", "c"))
    each = scores["classes"]
    assert each["a"] == {"precision": 1, "recall": 0.5, "f1": pytest.approx(2 / 3), "auc": 1, "examples": 2}
    assert each["b"] == {
        "precision": 0.5, "recall": 1, "f1": pytest.approx(2 / 3), "auc": pytest.approx(2.5 / 3), "examples": 1,
    }  # fmt: skip
    assert scores["accuracy"] == 0.75
    assert scores["log_loss"] == pytest.approx(-np.log([0.8, 0.25, 0.5, 0.8]).mean())
    assert scores["recall"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert scores["auc"] == pytest.approx((1 + 2.5 / 3 + 1) / 3)


def test_an_example_that_counts_twice_counts_as_two():
    weights, twice = np.array([1, 2, 0, 1.0]), np.array([0, 1, 1, 3])
    weighted = decisions.of_classes(PREDICTED, Y, weights, ("a", "b", "c"))
    repeated = decisions.of_classes(PREDICTED[twice], Y[twice], None, ("a", "b", "c"))
    for scores in (weighted, repeated):
        for of_one in scores.pop("classes").values():
            of_one.pop("examples")
    assert weighted == pytest.approx(repeated)
    # No example of it counts.
    assert decisions.of_classes(PREDICTED, Y, weights, ("a", "b", "c"))["classes"]["b"]["auc"] is None


def test_a_class_without_examples_has_no_auc_and_a_probability_of_0_is_finite():
    predicted = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    scores = decisions.of_classes(predicted, np.array([0, 0]), None, ("a", "b", "c"))
    assert {of_one["auc"] for of_one in scores["classes"].values()} == {None}
    assert scores["auc"] is None
    assert scores["classes"]["c"] == {"precision": 0, "recall": 0, "f1": 0, "auc": None, "examples": 0}
    assert scores["log_loss"] == pytest.approx(-np.log(np.finfo(np.float32).eps) / 2)


def test_scores_of_labels_are_those_worked_out_by_hand():
    predicted = np.array([[0.9, 0.2], [0.4, 0.7], [0.6, 0.6]])
    y = np.array([[1, 0], [1, 1], [0, 1.0]])
    scores = decisions.of_labels(predicted, y, None, ("p", "q"))
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["exact_match"] == pytest.approx(2 / 6)
    assert scores["targets"]["p"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "auc": 0.5, "examples": 2}
    assert scores["targets"]["q"] == {"precision": 1, "recall": 1, "f1": 1, "auc": 1, "examples": 2}
    expected = -np.log([0.9, 0.8, 0.4, 0.7, 0.4, 0.6]).mean()
    assert scores["log_loss"] == pytest.approx(expected)
