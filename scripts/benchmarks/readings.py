"""What the readings of a backward pass cost, beside the gradient and beside `vmap(jax.grad)`; and a clipped step."""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, get_args

import jax

from benchmarks import report
from benchmarks.clipping import beside
from benchmarks.clipping.networks import Kind
from benchmarks.turns import turns
from jaxnet import losses, per_example
from jaxnet.experiment.console import screen
from jaxnet.networks import mlp

# A batch of so many examples through so many neurons, at so many positions.
PROBLEMS = {
    "64-64-10, batch 64": ((64, 64, 10), 64, ()),
    "784-512-512-10, batch 128": ((784, 512, 512, 10), 128, ()),
    "784-512-512-10, batch 1024": ((784, 512, 512, 10), 1024, ()),
    "64-128-10 at 8 positions, batch 128": ((64, 128, 10), 128, (8,)),
}
MAX_NORM = 1.0
LEAST_SECONDS = 0.05


def _first_order(dparams):
    return (
        per_example.mean(dparams),
        per_example.squared_norms_by_leaf(dparams),
        per_example.second_moment(dparams),
        per_example.variance(dparams),
        per_example.signal_to_noise(dparams),
        per_example.noise_scale(dparams),
    )


READINGS = {
    "mean": per_example.mean,
    "squared norms": per_example.squared_norms,
    "mean and squared norms": lambda d: (per_example.mean(d), per_example.squared_norms(d)),
    "clipped mean": lambda d: per_example.clipped_mean(d, MAX_NORM),
    "mean and second moment": lambda d: (per_example.mean(d), per_example.second_moment(d)),
    "all first-order readings": _first_order,
    "all first-order and clipped mean": lambda d: (_first_order(d), per_example.clipped_mean(d, MAX_NORM)),
    "mean and Gram matrix": lambda d: (per_example.mean(d), per_example.gram(d)),
}


class Cost(NamedTuple):
    """What a compiled program takes.

    Attributes:
      seconds: the median over the rounds.
      flops, memory: as the compiler counts them; bytes of temporary memory.
    """

    seconds: float
    flops: float
    memory: int


def run(
    out: Path, seeds: int = 5, against: Sequence[str] = (), kinds: Sequence[str] = get_args(Kind)
) -> dict[str, Any]:
    """Measures, prints a table for each problem, then of each network's clipped steps, and writes results.json.

    Args:
      out: an existing folder.
      seeds: rounds, in each of which every program runs in turn; medians are reported.
      against: the packages beside which a clipped step is measured.
      kinds: of networks; the readings are of dense ones.

    Raises:
      Failure: when another package's clipped gradient is not ours.
    """
    results = {}
    for name, (sizes, batch, positions) in PROBLEMS.items() if "dense" in kinds else ():
        costs = _measure(_programs(sizes), _data(sizes, batch, positions), seeds)
        results[name] = {program: cost._asdict() for program, cost in costs.items()}
        print(_table(name, costs), end="\n\n", flush=True)
    clipped = beside.measure(seeds, against, kinds)
    found = {"what": "per-example", "rounds": seeds, "problems": results, "clipped": clipped, **report.environment()}
    report.write_results(out, found)
    return found


def _programs(sizes):
    net, loss = mlp(sizes), losses.softmax_cross_entropy_with_integer_labels

    def mean_loss(params, x, y):
        return loss.forward(net.apply(params, x), y).mean()

    def loss_of_one(params, x, y):
        return loss.forward(net.apply(params, x[None]), y[None])[0]

    def by_reading(read):
        def program(params, x, y):
            z, cache = net.forward(params, x)
            dparams, _ = net.backward(params, cache, loss.backward(z, y))
            return read(dparams)

        return program

    def norms_by_vmap(params, x, y):
        formed = jax.vmap(jax.grad(loss_of_one), (None, 0, 0))(params, x, y)
        return sum((leaf.reshape(len(x), -1) ** 2).sum(1) for leaf in jax.tree.leaves(formed))

    return {
        "jax.grad": jax.grad(mean_loss),
        **{name: by_reading(read) for name, read in READINGS.items()},
        "squared norms by vmap(jax.grad)": norms_by_vmap,
    }


def _data(sizes, batch, positions):
    x = jax.random.normal(jax.random.key(0), (batch, *positions, sizes[0]))
    y = jax.random.randint(jax.random.key(1), (batch, *positions), 0, sizes[-1])
    return mlp(sizes).init(jax.random.key(2)), x, y


def _measure(programs, data, rounds):
    compiled = {name: jax.jit(program).lower(*data).compile() for name, program in programs.items()}
    times: dict[str, list[float]] = {name: [] for name in compiled}
    repeats = {name: max(1, int(LEAST_SECONDS / _seconds(program, data, 3))) for name, program in compiled.items()}
    for name, program in turns(compiled.items(), rounds):
        times[name].append(_seconds(program, data, repeats[name]))
    return {
        name: Cost(
            median(times[name]),
            *_counted(program),
        )
        for name, program in compiled.items()
    }


def _counted(program):
    """Operations, and bytes of temporary memory."""
    cost, memory = program.cost_analysis(), program.memory_analysis()
    return float(cost["flops"]), int(memory.temp_size_in_bytes)


def _seconds(program, data, repeats):
    jax.block_until_ready(program(*data))
    started = time.perf_counter()
    for _ in range(repeats):
        outcome = program(*data)
    jax.block_until_ready(outcome)
    return (time.perf_counter() - started) / repeats


def _table(name, costs):
    base = costs["jax.grad"]
    rows = [
        (
            program,
            f"{cost.seconds / base.seconds:.2f}",
            f"{cost.flops / base.flops:.2f}",
            f"{cost.memory / max(base.memory, 1):.2f}",
        )
        for program, cost in costs.items()
    ]
    heading = screen.fill(f"{name}: jax.grad takes {1e6 * base.seconds:.0f} us; in units of that")
    return f"{heading}\n{screen.table(('reading', 'time', 'operations', 'memory'), rows)}"
