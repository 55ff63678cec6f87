"""Arrays drawn by NumPy, which has nothing to compile: `jax.random` and `jnp` compile a program for each new shape."""

import jax
import jax.numpy as jnp
import numpy as np


def normal(*shape, seed=0):
    """Normal numbers, of the type that JAX takes for a float."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def ids(below, *shape, seed=0):
    """Whole numbers from 0 on."""
    return jnp.asarray(np.random.default_rng(seed).integers(0, below, shape), jnp.int32)


def like(tree, scale=1.0, seed=0):
    """Normal numbers of that scale, in the shapes and types of a tree's leaves."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(scale * rng.standard_normal(leaf.shape), leaf.dtype), tree)


def parameters(net, scale=0.5, seed=0):
    """Parameters of a network of which none is where it starts."""
    return like(jax.eval_shape(net.init, jax.random.key(0)), scale, seed)
