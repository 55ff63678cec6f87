"""The machine's peak: a large matrix product in float32 by each package that may have a fast one."""

from collections.abc import Callable

import numpy as np

from benchmarks.contest.problems import Net, Problem

SIZE = 2048
# A layer's forward pass alone; its operations are one product's.
NET = Net((SIZE, SIZE), batch=SIZE, steps=1, batches=1)
OPERATIONS = 2 * SIZE**3


def by_numpy(problem: Problem) -> Callable[[], list[float]]:
    """NumPy's BLAS."""
    x, W = _factors(problem, np.asarray)
    return lambda: _told(x @ W)


def by_torch(problem: Problem) -> Callable[[], list[float]]:
    """PyTorch's BLAS."""
    import torch

    x, W = _factors(problem, torch.from_numpy)
    return lambda: _told(x @ W)


def by_jax(problem: Problem) -> Callable[[], list[float]]:
    """XLA's."""
    import jax
    import jax.numpy as jnp

    x, W = _factors(problem, jnp.asarray)
    product = jax.jit(jnp.matmul)
    return lambda: _told(product(x, W).block_until_ready())


def _factors(problem, convert):
    return convert(problem.x[0]), convert(problem.params[0][0])


def _told(product):
    """No losses, once there is a product."""
    return []
