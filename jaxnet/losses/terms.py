"""What losses are made of: sums over an example, diagonal roots, |z| with derivatives at 0."""

import math

import jax.numpy as jnp


def sum_by_example(values):
    return values.sum(axis=tuple(range(1, values.ndim)))


def diagonal_root(root):
    """S (v, m, *f) with S_v = root_v e_v, from the root (m, *f) of a diagonal Hessian; v counts the outputs *f."""
    outputs = root.shape[1:]
    columns = jnp.eye(math.prod(outputs), dtype=root.dtype).reshape(-1, 1, *outputs)
    return columns * root[None]


def distance(z):
    """|z|, with one side's derivatives at 0: where a function is smooth there, both sides have the same."""
    return jnp.where(z > 0, z, -z)
