"""Gradients of stacked parameters: of `repeat`, and in what memory they are added."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.factored import Each, Stacked


def stacked(g):
    """The form of gradients g (n, m, *shape) of a parameter (n, *shape)."""
    return Stacked(jax.vmap(lambda of_layer: Each(of_layer, of_layer.ndim - 1))(g))


def test_a_total_is_the_weighted_sum_of_every_layers_gradients(x64):
    rng = np.random.default_rng(0)
    weights = jnp.asarray([*rng.standard_normal(5), 0])
    for shape in ((7,), (128, 80)):  # below and above what is summed by a product
        g = jnp.asarray(rng.standard_normal((3, 6, *shape)))
        for read, expected in ((weights, jnp.einsum("m,nm...->n...", weights, g)), (None, g.sum(1))):
            # Six products and sums round at 1.1e-16 of terms below 10.
            np.testing.assert_allclose(stacked(g).total(read), expected, rtol=0, atol=1e-14)


def test_of_many_layers_the_weighted_total_keeps_no_copy_of_their_gradients():
    g, weights = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 32, 256, 256), (32,)))
    memory = jax.jit(lambda g, weights: stacked(g).total(weights)).lower(g, weights).compile().memory_analysis()
    # The gradients are 32 times what is returned.
    assert memory.temp_size_in_bytes <= memory.output_size_in_bytes
