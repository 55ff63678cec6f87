"""Inferring the problem from its targets, and meeting them with the network's outputs."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data import named
from jaxnet.experiment.data.problem import loss_of, pose, scaled_to
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.table import Table


def table_of(y, **changes):
    y = np.asarray(y)
    y = y if y.dtype.kind == "U" or y.ndim == 2 else y[:, None].astype(float)
    targets = ("y",) if y.ndim == 1 or y.shape[1] == 1 else tuple(f"y{k}" for k in range(y.shape[1]))
    return Table("somewhere", InMemory(np.zeros((len(y), 2))), y, ("a", "b"), targets)._replace(**changes)


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
    ("loss", "outputs", "encoded"),
    [
        ("sigmoid_binary_cross_entropy", 1, [[0.0], [1.0], [1.0]]),
        ("sigmoid_focal_loss", 1, [[0.0], [1.0], [1.0]]),
        ("binary_cross_entropy", 1, [[0.0], [1.0], [1.0]]),
        ("softmax_cross_entropy", 2, [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]),
        ("softmax_cross_entropy_with_integer_labels", 2, [0, 1, 1]),
    ],
)
def test_two_classes_for_every_loss(loss, outputs, encoded):
    problem, table = pose(table_of(["no", "yes", "yes"] * 3), loss)
    assert problem.outputs == outputs
    assert problem.classes == ("no", "yes")
    y = problem.encode(table.y, np.float32)
    np.testing.assert_array_equal(y[:3], encoded)
    z = jnp.array([[0.2], [0.9], [0.4]]) if outputs == 1 else jnp.array([[0.2, 0.1], [0.0, 1.0], [2.0, 1.0]])
    z = z if loss == "binary_cross_entropy" or outputs == 2 else z - 0.5
    probabilities = problem.predict(z)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    assert probabilities.argmax(1).tolist() == [0, 1, 0]
    np.testing.assert_array_equal(problem.measure(z, jnp.asarray(y[:3])), [1, 1, 0])
    assert loss_of(problem).forward(z, jnp.asarray(y[:3])).shape == (3,)


@pytest.mark.parametrize("loss", ["sigmoid_binary_cross_entropy", "binary_cross_entropy"])
def test_many_classes_as_one_question_each(loss):
    problem, table = pose(table_of([0, 1, 2] * 5), loss)
    y = problem.encode(table.y, np.float32)
    np.testing.assert_array_equal(y[:3], np.eye(3))
    assert problem.outputs == 3
    np.testing.assert_array_equal(problem.measure(jnp.eye(3), jnp.asarray(y[:3])), 1)


def test_regression_targets_are_standardised_on_what_is_given_and_predicted_in_their_units():
    y = np.array([[1.0, 5e30], [3.0, 7e30]])
    problem, _ = pose(table_of(y.repeat(10, 0)))
    problem = scaled_to(problem, y)
    np.testing.assert_array_equal(problem.encode(y, np.float32), [[-1, -1], [1, 1]])
    np.testing.assert_allclose(problem.predict(jnp.array([[-1.0, 0.0], [2.0, 1.0]])), [[1, 6e30], [4, 7e30]])
    z = jnp.array([[-1.0, -1.0], [1.0, 2.0]])
    # One of four values is off by one standard deviation, 1e30, beyond what float32 can square.
    measured = problem.measure(z, jnp.asarray(problem.encode(y, np.float32)))
    np.testing.assert_allclose(problem.metric_of(np.asarray(measured).mean(axis=0)), 0.5e30)


def test_huber_losses_are_of_numbers_in_standard_deviations():
    y = np.array([[1.0], [3.0]])
    problem, _ = pose(table_of(y.repeat(10, 0)), "huber_loss")
    problem = scaled_to(problem, y)
    np.testing.assert_array_equal(problem.encode(y, np.float32), [[-1], [1]])
    # An error of 3 counts by its size beyond 1: 3 - 1 / 2.
    np.testing.assert_allclose(loss_of(problem).forward(jnp.array([[2.0]]), jnp.array([[-1.0]])), [2.5])


def test_counts_are_divided_by_their_mean_and_predicted_as_the_exponential():
    y = np.array([[0.0, 4.0], [6.0, 0.0]])
    problem, _ = pose(table_of(y.repeat(10, 0)), "poisson_nll_loss")
    problem = scaled_to(problem, y)
    assert (problem.kind, problem.output_activation) == ("regression with 2 outputs", "identity")
    np.testing.assert_array_equal(problem.encode(y, np.float32), [[0, 2], [2, 0]])
    z = jnp.log(jnp.array([[1.0, 1.0], [3.0, 0.5]]))
    np.testing.assert_allclose(problem.predict(z), [[3, 2], [9, 1]], rtol=1e-6)
    measured = problem.measure(z, jnp.asarray(problem.encode(y, np.float32)))
    expected = np.sqrt(((np.array([[3, 2], [9, 1]]) - y) ** 2).mean())
    np.testing.assert_allclose(problem.metric_of(np.asarray(measured).mean(axis=0)), expected, rtol=1e-6)
    # An output of 0 is the mean count.
    np.testing.assert_allclose(problem.predict(jnp.zeros((1, 2))), [[3, 2]])
    assert np.isinf(problem.predict(jnp.full((1, 2), 800.0))).all()


@pytest.mark.parametrize(
    ("output", "mean", "scale"),
    [("relu", 0, 0.25), ("softplus", 0, 0.25), ("sigmoid", 0, 1), ("tanh", 0, 1), ("leaky_relu", 0.5, 0.25)],
)
def test_bounded_outputs_keep_the_targets_zero(output, mean, scale):
    y = np.array([[0.25], [0.75]])
    problem, _ = pose(table_of(y.repeat(10, 0)), output_activation=output)
    problem = scaled_to(problem, y)
    assert problem.output_activation == output
    np.testing.assert_allclose((problem.mean, problem.scale), ([mean], [scale]))


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
