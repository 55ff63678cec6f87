"""Readings of a network of images, against automatic differentiation of each image's loss."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet as jn
from jaxnet.experiment.training.image_readings import feature_maps, filters, read

NET = jn.chain(jn.random_shift(1), jn.cnn((4, 4, 2), 3, channels=(2, 3), hidden=(4,)))
LOSS = jn.losses.softmax_cross_entropy_with_integer_labels


def test_norms_and_saliency_are_those_of_each_images_own_loss(x64, monkeypatch):
    monkeypatch.setattr("jaxnet.experiment.training.image_readings.BLOCK", 2)
    params, x = NET.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (3, 4, 4, 2))
    y = jnp.array([2, 0, 1])

    def loss(params, x, y):
        return LOSS.forward(NET.apply(params, x[None]), y[None])[0]

    g, dx = jax.jit(jax.vmap(jax.grad(loss, (0, 1)), (None, 0, 0)))(params, x, y)
    found = read(NET, LOSS, params, np.asarray(x), np.asarray(y))
    flat = np.concatenate([leaf.reshape(3, -1) for leaf in jax.tree.leaves(g)], axis=1)
    np.testing.assert_allclose(found.norms, np.linalg.norm(flat, axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.saliency, abs(dx).max(-1), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.losses, jax.vmap(loss, (None, 0, 0))(params, x, y), rtol=1e-12)


def test_first_filters_and_feature_maps_are_found_in_any_network():
    image = np.random.default_rng(0).normal(size=(4, 4, 2)).astype(np.float32)
    params = NET.init(jax.random.key(0))
    first = params[1][0]
    np.testing.assert_array_equal(filters(NET, params, (4, 4, 2)), first.W)
    one, two = feature_maps(NET, params, image)
    np.testing.assert_allclose(
        one, jax.nn.relu(jn.conv(2, 2, (3, 3)).apply(first, jnp.asarray(image[None])))[0], rtol=1e-6
    )
    assert two.shape == (2, 2, 3)
    deep = jn.resnet((4, 4, 2), 3, channels=(2,), depth=2, groups=1)
    of_deep = deep.init(jax.random.key(0))
    np.testing.assert_array_equal(filters(deep, of_deep, (4, 4, 2)), of_deep[0].W)
    # Two in each block, and the last one.
    assert [one.shape for one in feature_maps(deep, of_deep, image)] == [(4, 4, 2)] * 5
    net = jn.chain(jn.flatten, jn.dense(32, 3))
    assert filters(net, net.init(jax.random.key(0)), (4, 4, 2)) is None
