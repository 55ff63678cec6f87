"""Readings of a network of text by position, against automatic differentiation of each position's loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet as jn
from jaxnet.experiment.training.text_readings import attention_maps, read

NET = jn.transformer(5, width=8, heads=2, depth=2, length=4, tied=True)


def test_losses_and_gradient_norms_of_each_position_and_where_each_looks():
    with jax.enable_x64(True):
        params = jax.jit(NET.init)(jax.random.key(0))
        # Away from the start, where all heads look alike.
        params = jax.tree.map(lambda leaf: leaf + 0.2 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params)
        x, y = jax.random.randint(jax.random.key(1), (2, 2, 4), 0, 5)

        def losses(params, x, y):
            return optax.losses.softmax_cross_entropy_with_integer_labels(NET.apply(params, x[None])[0], y)

        # (m, t, *parameters)
        each = jax.jit(jax.vmap(jax.jacfwd(losses), (None, 0, 0)))(params, x, y)
        g = np.concatenate([leaf.reshape(2, 4, -1) for leaf in jax.tree.leaves(each)], axis=-1)
        found = read(NET, params, np.asarray(x), np.asarray(y))
        np.testing.assert_allclose(found.losses, jax.vmap(losses, (None, 0, 0))(params, x, y), rtol=1e-12)
        np.testing.assert_allclose(found.by_position, np.linalg.norm(g, axis=-1), rtol=1e-11)
        np.testing.assert_allclose(found.by_example, np.linalg.norm(g.mean(1), axis=-1), rtol=1e-11)
        maps = np.stack(attention_maps(NET, params, np.asarray(x[0])))
        assert maps.shape == (2, 2, 4, 4)
        np.testing.assert_allclose(maps.sum(-1), 1, rtol=1e-12)
        assert not np.triu(maps, 1).any()
