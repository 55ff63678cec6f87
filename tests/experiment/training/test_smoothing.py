"""Smoothed labels, against the same loss of targets made by hand, and jax.grad."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet import losses
from jaxnet.experiment.data.problem import OF_POSITIONS
from jaxnet.experiment.training.smoothing import smoothed, with_plain_samples

SHARE, CLASSES = 0.3, 3


@pytest.mark.parametrize("name", ["softmax_cross_entropy_with_integer_labels", "softmax_cross_entropy"])
def test_all_classes_get_a_share_of_each_label(name, key, x64):
    z, labels = jax.random.normal(key, (5, CLASSES)), jnp.array([0, 2, 1, 1, 0])
    loss, y = getattr(losses, name), jnp.eye(CLASSES)[labels]
    targets = (1 - SHARE) * y + SHARE / CLASSES
    _check(loss, z, y if name == "softmax_cross_entropy" else labels, -(targets * jax.nn.log_softmax(z)).sum(1))


@pytest.mark.parametrize("name", ["sigmoid_binary_cross_entropy", "binary_cross_entropy"])
def test_yes_and_no_get_half_of_the_share_each(name, key, x64):
    a = jax.random.uniform(key, (5, 1), minval=0.1, maxval=0.9)
    y = jnp.array([[0.0], [1.0], [1.0], [0.0], [1.0]])
    targets = (1 - SHARE) * y + SHARE / 2
    expected = -(targets * jnp.log(a) + (1 - targets) * jnp.log(1 - a))[:, 0]
    _check(getattr(losses, name), jnp.log(a / (1 - a)) if name.startswith("sigmoid") else a, y, expected)


def _check(loss, z, y, expected):
    trained = smoothed(loss, SHARE)
    # Of sums of three terms.
    np.testing.assert_allclose(trained.forward(z, y), expected, rtol=1e-13)
    of_forward = jax.grad(lambda z: trained.forward(z, y).sum())
    np.testing.assert_allclose(trained.backward(z, y), of_forward(z), rtol=1e-12, atol=1e-14)
    curved = with_plain_samples(trained, loss)
    root = curved.root_hessian(z, y)
    squares = jnp.einsum("vmo,vmp->mop", root, root)
    one = jax.hessian(lambda z, y: trained.forward(z[None], y[None])[0])
    np.testing.assert_allclose(squares, jax.vmap(one)(z, y), rtol=1e-11, atol=1e-13)
    # The Fisher matrix's samples are what the network predicts: a mean of 0 over them is of labels as they are.
    drawn = jax.vmap(lambda key: curved.backward(z, curved.sample(key, z)))(jax.random.split(jax.random.key(1), 4000))
    spread = drawn.std(0) / 4000**0.5
    assert (jnp.abs(drawn.mean(0)) < 5 * spread).all()


def test_at_each_position_of_a_text_all_tokens_get_a_share_and_the_loss_is_the_mean(key, x64):
    z, labels = jax.random.normal(key, (2, 4, CLASSES)), jnp.array([[0, 2, 1, 1], [0, 0, 1, 2]])
    targets = (1 - SHARE) * jnp.eye(CLASSES)[labels] + SHARE / CLASSES
    expected = -(targets * jax.nn.log_softmax(z)).sum(-1).mean(-1)
    trained = smoothed(OF_POSITIONS, SHARE)
    np.testing.assert_allclose(trained.forward(z, labels), expected, rtol=1e-13)
    by_autodiff = jax.grad(lambda z: trained.forward(z, labels).sum())(z)
    np.testing.assert_allclose(trained.backward(z, labels), by_autodiff, rtol=1e-12, atol=1e-14)


def test_no_share_leaves_the_loss_as_it_is():
    assert smoothed(losses.softmax_cross_entropy, 0.0) is losses.softmax_cross_entropy
