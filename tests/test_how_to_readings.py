"""The pages on gradients of examples, influence, uncertainty and feedback print what is written, and it is so."""

import jax
import numpy as np
import pytest
from page_programs import run

import jaxnet as jn

pytestmark = pytest.mark.usefixtures("optax_promotion", "any_rank")


def test_lengths_of_a_cnns_gradients_find_wrong_labels(capsys):
    names = run("cnn-example-gradients.md", capsys, units=3)
    assert np.isin(names["longest"], names["wrong"]).sum() > 15
    by_hand, by_vmap = names["operations"]
    assert by_hand < by_vmap


def test_influences_are_near_what_training_again_changes(capsys):
    names = run("influence.md", capsys, units=3)
    # Newton has arrived: the gradient is that of rounding.
    _, grads = jn.value_and_grad(names["net"], names["loss"])(names["params"], names["x"], names["y"])
    for grad, leaf in zip(jax.tree.leaves(grads), jax.tree.leaves(names["params"]), strict=True):
        np.testing.assert_allclose(grad, -names["decay"] * leaf, rtol=0, atol=1e-6)
    assert names["changes"].shape == (100, 50)


def test_laplaces_deviations_are_those_of_the_matrix_formed(capsys):
    names = run("laplace.md", capsys, units=3)
    flat, unflatten = jax.flatten_util.ravel_pytree(names["params"])
    J_train, J = (
        jax.jacrev(lambda flat, x=x: names["net"](unflatten(flat), x)[:, 0])(flat) for x in (names["x"], names["at"])
    )
    precision = J_train.T @ J_train / names["s"] ** 2 + names["t"] * np.eye(len(flat))
    expected = np.sqrt(np.einsum("np,pq,nq->n", J, np.linalg.inv(np.asarray(precision, np.float64)), J))
    np.testing.assert_allclose(names["exact"], expected, rtol=0.02)
    ratio = names["by_factors"] / expected
    assert (ratio[2:9] > 0.5).all()
    assert (ratio[2:9] < 2).all()


def test_feedback_alignment_turns_towards_the_gradient(capsys):
    names = run("feedback-alignment.md", capsys, units=6)
    assert jax.tree.structure(names["B"]) == jax.tree.structure(names["params"])
    assert names["angle_of_first"](names["params"], names["B"]) < 25
