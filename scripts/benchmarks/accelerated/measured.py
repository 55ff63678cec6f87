"""Gradients timed: by hand, clipped, by `jax.grad`, and by other packages that are installed."""

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.accelerated.problems import DTYPE, PROBLEMS, Images, Tokens, operations
from jaxnet import losses, per_example
from jaxnet.experiment.console import packages, screen
from jaxnet.experiment.console.errors import first_line
from jaxnet.gradient import value_and_grad
from jaxnet.precision import mixed_precision

REPEATS = 10
LOSS = losses.softmax_cross_entropy_with_integer_labels
OURS, CLIPPED, AUTODIFF, FLAX, TORCH = "by hand", "by hand, clipped", "jax.grad", "flax", "torch.compile"


def seconds(call: Callable[[], Any], rounds: int, wait: Callable[[Any], Any] = jax.block_until_ready) -> float:
    """Of a call: the median of rounds of some calls in a row, after one of each.

    Args:
      call: begins what is measured.
      rounds: how many.
      wait: until what the last call returned is there.
    """

    def once():
        started = time.perf_counter()
        for _ in range(REPEATS):
            outcome = call()
        wait(outcome)
        return (time.perf_counter() - started) / REPEATS

    once()
    return median(once() for _ in range(rounds))


def programs(problem: Images | Tokens, x: jax.Array, y: jax.Array) -> dict[str, Callable[[], Any]]:
    """The mean loss and its gradient, in JAX, each by a way of its own; all of one start."""
    net, apply = problem.net(), problem.plain()
    trained, params = mixed_precision(net, DTYPE), jax.jit(net.init)(jax.random.key(0))

    def mean_loss(params, x, y):
        shorter = jax.tree.map(lambda leaf: leaf.astype(DTYPE), params)
        z = apply(shorter, x.astype(DTYPE) if isinstance(problem, Images) else x)
        return LOSS.forward(z.astype(jnp.float32), y).mean()

    ways = {
        OURS: value_and_grad(trained, LOSS),
        CLIPPED: value_and_grad(trained, LOSS, read=per_example.clipped(1.0)),
        AUTODIFF: jax.value_and_grad(mean_loss),
    }
    return {name: partial(jax.jit(way), params, x, y) for name, way in ways.items()}


def measure(problem: Images | Tokens, peak: float, rounds: int) -> dict[str, Any]:
    """Of each way the seconds, images or tokens a second and share of the peak; or why it was not measured.

    Args:
      problem: what is computed.
      peak: operations a second of a large product in the same type.
      rounds: of timing.
    """
    x, y = problem.batch_of(jax.random.key(1))
    taken: dict[str, float | str] = {name: seconds(call, rounds) for name, call in programs(problem, x, y).items()}
    for name, others in ((FLAX, _by_flax), (TORCH, _by_torch)):
        try:
            taken[name] = others(problem, x, y, rounds)
        except Exception as error:  # each package fails in its own way, of a device that it has no code for too
            taken[name] = f"failed: {first_line(error)}"
    counted = operations(problem)
    return {name: of_one if isinstance(of_one, str) else {
        "seconds": of_one,
        "a_second": problem.units() / of_one,
        "share": counted / of_one / peak,
    } for name, of_one in taken.items()}  # fmt: skip


def _by_flax(problem, x, y, rounds):
    if not packages.is_there("flax"):
        return "not installed"
    from benchmarks.accelerated import by_flax

    return seconds(by_flax.gradient(problem, x, y), rounds)


def _by_torch(problem, x, y, rounds):
    if not packages.is_there("torch"):
        return "not installed"
    import torch

    if not torch.cuda.is_available():
        return "finds no device"
    from benchmarks.accelerated import by_torch

    return seconds(by_torch.gradient(problem, x, y), rounds, lambda _: torch.cuda.synchronize())


def measure_all(peak: float, rounds: int) -> dict[str, Any]:
    """Every problem by every way; see `measure`."""
    return {unit: measure(problem, peak, rounds) for unit, problem in PROBLEMS.items()}


def table(unit: str, measured: dict[str, Any]) -> str:
    """Of one problem, in units of what the gradient by hand takes."""
    ours = measured[OURS]["seconds"]
    rows = [
        (name, of_one, "", "")
        if isinstance(of_one, str)
        else (name, f"{of_one['a_second']:,.0f}", f"{of_one['share']:.2f}", f"{of_one['seconds'] / ours:.2f}")
        for name, of_one in measured.items()
    ]
    return screen.table((f"gradient in {DTYPE}", f"{unit} a second", "share of the peak", "time"), rows)
