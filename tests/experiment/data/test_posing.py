"""Inferring the problem from its targets, and what cannot be learnt."""

import numpy as np
import pytest
from tables import table_of

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data import named
from jaxnet.experiment.data.posing import pose


def refusal(table, **options):
    with pytest.raises(BadInput) as error:
        pose(table, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "kind", "loss", "outputs"),
    [
        ("digits", "10 classes", "softmax_cross_entropy_with_integer_labels", 10),
        ("breast_cancer", "two classes", "sigmoid_binary_cross_entropy", 1),
        ("iris", "3 classes", "softmax_cross_entropy_with_integer_labels", 3),
        ("wine", "3 classes", "softmax_cross_entropy_with_integer_labels", 3),
        ("diabetes", "regression", "half_squared_error", 1),
        ("linnerud", "regression with 3 outputs", "half_squared_error", 3),
        ("moons", "two classes", "sigmoid_binary_cross_entropy", 1),
        ("circles", "two classes", "sigmoid_binary_cross_entropy", 1),
        ("spirals", "two classes", "sigmoid_binary_cross_entropy", 1),
    ],
)
def test_the_kind_of_every_shipped_data_set(name, kind, loss, outputs):
    problem, _ = pose(named.load(name))
    assert (problem.kind, problem.loss, problem.outputs) == (kind, loss, outputs)
    assert problem.output_activation == "identity"


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (["no", "yes"] * 5, "two classes"),
        ([0, 1] * 5, "two classes"),
        ([1.0, 2.0, 3.0] * 5, "3 classes"),
        ([0.5, 1.0] * 5, "regression"),
        (np.arange(20), "regression"),
        (np.arange(101).repeat(10), "regression"),
        (np.arange(20.0).reshape(10, 2), "regression with 2 outputs"),
    ],
    ids=["texts", "bits", "whole numbers", "fractions", "all different", "too many", "two columns"],
)
def test_the_kind_is_inferred_from_the_targets(y, kind):
    assert pose(table_of(y))[0].kind == kind


def test_an_explicit_loss_decides():
    counts = table_of([1, 2, 3] * 5)
    assert pose(counts, "half_squared_error")[0].kind == "regression"
    many = table_of(np.arange(101).repeat(4))
    assert pose(many, "softmax_cross_entropy")[0].kind == "101 classes"


def test_whole_numbers_in_names_order_the_classes():
    names = ["class 10", "class 2", "class 2b", "1", "class 02", "other"]
    in_order = ("1", "class 02", "class 2", "class 2b", "class 10", "other")
    assert pose(table_of(names * 3))[0].classes == in_order


def test_labels_of_idx_files_are_classes_however_many():
    assert pose(table_of(np.arange(20).repeat(3), labels=True))[0].kind == "20 classes"


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (table_of(["a"] * 9), {}, "--data somewhere, target 'y': expected at least two classes, got only 'a'"),
        (table_of([3] * 9), {}, "--data somewhere, target 'y': expected at least two classes, got only '3'"),
        (
            table_of(list("abcdefgh")),
            {},
            "--data somewhere, target 'y': 8 classes in 8 rows; expected at least 3 rows for each class, "
            "one for each of training, validation and test; for numbers use --loss half_squared_error",
        ),
        (
            table_of(["a", "b"] * 4 + ["c"]),
            {},
            "--data somewhere, target 'y': class 'c' has 1 rows; expected at least 3, "
            "one for each of training, validation and test",
        ),
        (
            table_of(["a", "b"] * 4),
            {"loss": "half_squared_error"},
            "--loss half_squared_error: expects numbers, but 'y' holds texts",
        ),
        (
            table_of([0.5, 1.5] * 5),
            {"loss": "softmax_cross_entropy"},
            "--loss softmax_cross_entropy: expects classes, but somewhere has numbers that are not whole",
        ),
        (
            table_of(np.ones((10, 2))),
            {"loss": "softmax_cross_entropy"},
            "--loss softmax_cross_entropy: expects classes, but somewhere has several targets",
        ),
        (
            table_of(["a", "b"] * 5),
            {"output_activation": "sigmoid"},
            "--output-activation sigmoid: sigmoid_binary_cross_entropy includes its own; "
            "expected identity, or leave it at auto",
        ),
        (
            table_of(["a", "b"] * 5),
            {"loss": "binary_cross_entropy", "output_activation": "relu"},
            "--output-activation relu: binary_cross_entropy takes probabilities; expected sigmoid, or leave it at auto",
        ),
        (
            table_of([0.5, -1.5] * 5),
            {"output_activation": "relu"},
            "--output-activation relu: gives values in [0, inf], but somewhere, row 2, target 'y' is -1.5",
        ),
        (
            table_of([1, 0, -2] * 5),
            {"loss": "poisson_nll_loss"},
            "--loss poisson_nll_loss: expects counts of at least 0, but somewhere, row 3, target 'y' is -2",
        ),
        (
            table_of([1, 0, 2] * 5)._replace(test=table_of([0, -1])),
            {"loss": "poisson_nll_loss"},
            "--loss poisson_nll_loss: expects counts of at least 0, but somewhere, row 2, target 'y' is -1",
        ),
        (
            table_of([1, 0, 2] * 5),
            {"loss": "poisson_nll_loss", "output_activation": "softplus"},
            "--output-activation softplus: poisson_nll_loss includes its own exponential; "
            "expected identity, or leave it at auto",
        ),
        (
            table_of(["a", "b"] * 4),
            {"loss": "huber_loss"},
            "--loss huber_loss: expects numbers, but 'y' holds texts",
        ),
        (
            table_of([0.5, 1.5] * 5),
            {"loss": "sigmoid_focal_loss"},
            "--loss sigmoid_focal_loss: expects classes, but somewhere has numbers that are not whole",
        ),
        (table_of([0.1] * 10), {}, "--data somewhere, target 'y': expected numbers that differ, got only 0.1"),
        (table_of([0.5, 1.5]), {}, "--data somewhere: expected at least 10 rows to split, got 2"),
    ],
)
def test_targets_that_cannot_be_learnt_are_named(table, options, message):
    assert refusal(table, **options) == message


def test_a_class_that_only_the_test_part_has_is_named():
    table = table_of([0, 1] * 5, labels=True)
    message = "--data somewhere: the test part has the class '2', which the training part lacks"
    assert refusal(table._replace(test=table_of([0, 2]))) == message
    _, posed = pose(table._replace(test=table_of([1, 0, 1])))
    assert posed.test.y.tolist() == [1, 0, 1]
