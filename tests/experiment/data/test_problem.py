"""Targets as the network's outputs meet them, and predictions in the targets' own units."""

import jax.numpy as jnp
import numpy as np
import pytest
from tables import table_of

from jaxnet.experiment.data.posing import pose
from jaxnet.experiment.data.problem import loss_of, scaled_to


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
