"""All that clip give the same gradient: asked on a small network of each kind before anything is measured."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

import jaxnet as jn
from benchmarks.clipping import by_jax, networks
from benchmarks.clipping.methods import METHODS, OURS, Method
from benchmarks.clipping.networks import LOSS, Kind, Problem
from benchmarks.clipping.workers import started
from benchmarks.contest.process import Died
from jaxnet.experiment.console.errors import Failure

EXAMPLES, TOLERANCE = 6, 1e-4


def check(methods: Mapping[str, Method], kinds: Sequence[Kind]) -> dict[str, dict[str, str]]:
    """Asks everyone for a clipped gradient, half of whose examples are shortened, and sets it beside ours.

    Returns:
      For each kind whom it could not be asked of, and in which words it refused.

    Raises:
      Failure: when a number differs by more than `TOLERANCE` of its parameter's largest.
    """
    refused: dict[str, dict[str, str]] = {kind: {} for kind in kinds}
    for kind in kinds:
        problem = small(kind)
        expected = _gradient_of_ours(problem)
        for name, method in methods.items():
            if method.base is None or name == OURS:
                continue
            try:
                with started(method, problem) as worker:
                    worker.ask("prepare")
                    told = worker.ask("gradient")["gradient"]
            except Died as death:
                refused[kind][name] = str(death)
                continue
            worst = off(told, expected)
            if not worst <= TOLERANCE:
                raise Failure(
                    f"{name} on a small {kind}: expected jaxnet's clipped gradient to {TOLERANCE:g} of a parameter's "
                    f"largest number, got one that is off by {worst:.1e}"
                )
    return refused


def small(kind: Kind) -> Problem:
    """Clipped at the median of the lengths."""
    net = networks.SMALL[kind]
    params, (x, y) = networks.parameters(net), networks.examples(net, EXAMPLES)
    ours = networks.build(net)

    def norms(params, x, y):
        z, cache = ours.forward(params, x)
        return jn.per_example.norms(ours.backward(params, cache, LOSS.backward(z, y))[0])

    return Problem(net, EXAMPLES, float(np.median(jax.jit(norms)(params, x, y))))


def off(told: Sequence[object], expected: Sequence[np.ndarray]) -> float:
    """The largest difference, in units of its parameter's largest number; infinite for other shapes."""
    arrays = [np.asarray(leaf) for leaf in told]
    if [leaf.shape for leaf in arrays] != [leaf.shape for leaf in expected]:
        return float("inf")
    return max(
        float(np.abs(mine - leaf).max() / max(float(np.abs(leaf).max()), np.finfo(np.float32).tiny))
        for mine, leaf in zip(arrays, expected, strict=True)
    )


def _gradient_of_ours(problem):
    module, function = METHODS[OURS].start.split(":")
    assert module == by_jax.__name__
    step = getattr(by_jax, function)(problem)
    step.prepare()
    return step.gradient()
