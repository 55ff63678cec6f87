"""The same initial weights and data must give the same losses; otherwise the times of two programs say nothing."""

from functools import cache

import numpy as np

from benchmarks.contest import jax_grad, plain, problems
from benchmarks.contest.problems import Net, Problem

CHECKED = 20
# A float32 is rounded by up to 6e-8 of its size, and all contestants' losses were within 3e-7, whatever the order of
# their sums; a learning rate that is 1% off shows as 3e-4 or more.
TOLERANCE = 1e-5


def deviation(losses: np.ndarray, problem: Problem) -> float:
    """How far a first pass is from the float64 reference: the largest relative difference of a step's loss.

    Args:
      losses: one for each step, of which the first `CHECKED` count; or one alone, the mean over the pass.
      problem: what was trained.

    Returns:
      At most `TOLERANCE` for the same curve; infinity for other lengths and where something is not finite.
    """
    steps = problem.net.steps
    if len(losses) == 1 < steps:
        expected = reference(problem, steps).mean(keepdims=True)
    else:
        expected = reference(problem, CHECKED)
        losses = losses[:CHECKED] if len(losses) == steps else losses
    if losses.shape != expected.shape or not np.isfinite(losses).all():
        return np.inf
    return float((abs(losses - expected) / abs(expected)).max())


def reference(problem: Problem, steps: int) -> np.ndarray:
    """The first steps' losses in float64: by hand in NumPy; of a network that is not dense, by JAX."""
    return plain.losses(problem, steps) if problem.net.kind == "dense" else _by_jax(problem.net, steps)


@cache
def _by_jax(net: Net, steps: int) -> np.ndarray:
    return jax_grad.losses(problems.make(net), steps)
