"""How time and memory of a training step grow with width, depth and batch, and the time to compile with depth."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from benchmarks import report
from jaxnet import losses
from jaxnet.compose import chain
from jaxnet.experiment.console import screen
from jaxnet.experiment.figures.canvas import BLUE, GREEN, ORANGE
from jaxnet.layer import Layer
from jaxnet.layers.activations import relu
from jaxnet.layers.dense import dense
from jaxnet.recompute import recompute
from jaxnet.repeat import repeat
from jaxnet.training import TrainState, make_steps

WIDTHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
DEPTHS = (1, 2, 4, 8, 16, 32, 64)
BATCHES = (1, 4, 16, 64, 256, 1024, 4096, 16384)
WIDTH, DEPTH, BATCH = 256, 3, 128
# The largest sizes, over which the exponents are fitted: at the small ones other things than size cost most.
FITTED = 4
LEAST_SECONDS = 0.05
# Steps in a scan, so that starting it costs little; fewer where a step is long.
STEPS = 10


class Point(NamedTuple):
    """What a step of a network takes.

    Attributes:
      size: width, depth or batch.
      seconds: of a step, the median over the rounds.
      memory: bytes of parameters, batches and temporaries, as the compiler counts them.
      compile_seconds: of tracing and compiling.
    """

    size: int
    seconds: float
    memory: int
    compile_seconds: float


class Curve(NamedTuple):
    """One line of the figure.

    Attributes:
      along: 'width', 'depth' or 'batch'.
      name: of the way the network is built.
      sizes: along the axis.
      build: from a size to the network, its width and the batch.
    """

    along: str
    name: str
    sizes: tuple[int, ...]
    build: Callable[[int], tuple[Layer, int, int]]


def _block(width):
    return chain(dense(width, width), relu)


def _chained(width, depth):
    return chain(*[_block(width)] * depth)


CURVES = (
    Curve("width", "chain", WIDTHS, lambda width: (_chained(width, DEPTH), width, BATCH)),
    Curve("depth", "chain", DEPTHS, lambda depth: (_chained(WIDTH, depth), WIDTH, BATCH)),
    Curve("depth", "repeat", DEPTHS, lambda depth: (repeat(_block(WIDTH), depth), WIDTH, BATCH)),
    # Of blocks of four layers, so that what is not kept is more than what is.
    Curve(
        "depth",
        "repeat, recompute",
        DEPTHS[2:],
        lambda depth: (repeat(recompute(_chained(WIDTH, 4)), depth // 4), WIDTH, BATCH),
    ),
    Curve("batch", "chain", BATCHES, lambda batch: (_chained(WIDTH, DEPTH), WIDTH, batch)),
)
LINES = {
    "chain": {"color": BLUE, "ls": "-", "marker": "o"},
    "repeat": {"color": ORANGE, "ls": "--", "marker": "s"},
    "repeat, recompute": {"color": GREEN, "ls": ":", "marker": "^"},
}


def run(out: Path, seeds: int = 5) -> dict[str, Any]:
    """Measures, prints a table with the exponents, and writes results.json and scale.png and .svg.

    Args:
      out: the folder that is written into.
      seeds: rounds of timing.
    """
    curves = []
    for curve in CURVES:
        points = [_measure(size, *curve.build(size), seeds) for size in curve.sizes]
        curves.append((curve, points))
        screen.say(f"measured   {curve.along}, {curve.name}", flush=True)
    told = [
        {
            "along": curve.along,
            "network": curve.name,
            "points": [point._asdict() for point in points],
            "time_exponent": exponent(curve.sizes, [point.seconds for point in points]),
            "memory_exponent": exponent(curve.sizes, [point.memory for point in points]),
        }
        for curve, points in curves
    ]
    fixed = {"width": WIDTH, "depth": DEPTH, "batch": BATCH, "fitted_over": FITTED}
    results = {"benchmark": "scale", **report.environment(), "rounds": seeds, **fixed, "curves": told}
    report.write_results(out, results)
    _draw(out, curves)
    print(_table(curves))
    return results


def exponent(sizes: Sequence[int], values: Sequence[float | int]) -> float:
    """p of values ~ sizes^p, by least squares in logarithms over the largest sizes."""
    slope, _ = np.polyfit(np.log(sizes[-FITTED:]), np.log(values[-FITTED:]), 1)
    return float(slope)


def _measure(size, net, width, batch, rounds):
    optimizer = optax.sgd(1e-3)
    steps = make_steps(net, losses.half_squared_error, optimizer)
    # He's weights keep the signals' size at any depth; the targets do not matter for the time.
    state = TrainState.create(jax.jit(net.init)(jax.random.key(0)), optimizer)
    x = jax.random.normal(jax.random.key(1), (STEPS, batch, width)) / width
    started = time.perf_counter()
    compiled = jax.jit(steps, donate_argnums=0).lower(state, x, x).compile()
    compile_seconds = time.perf_counter() - started
    counted: Any = compiled.memory_analysis()
    memory = counted.temp_size_in_bytes + counted.argument_size_in_bytes

    def seconds(repeats):
        nonlocal state
        started = time.perf_counter()
        for _ in range(repeats):
            state, metrics = compiled(state, x, x)
        jax.block_until_ready(metrics)
        return (time.perf_counter() - started) / repeats / STEPS

    seconds(1)
    repeats = max(1, int(LEAST_SECONDS / (seconds(1) * STEPS)))
    return Point(size, median(seconds(repeats) for _ in range(rounds)), memory, compile_seconds)


def _table(curves):
    header = ("network", "from", "to", "step, us", "time ~", "memory, MiB", "memory ~", "compile, s")
    rows = []
    for curve, points in curves:
        first, last = points[0], points[-1]
        rows.append((
            f"{curve.along}: {curve.name}",
            str(first.size),
            str(last.size),
            f"{1e6 * first.seconds:.3g} - {1e6 * last.seconds:.3g}",
            f"{curve.along}^{exponent(curve.sizes, [point.seconds for point in points]):.2f}",
            f"{first.memory / 2**20:.3g} - {last.memory / 2**20:.3g}",
            f"{curve.along}^{exponent(curve.sizes, [point.memory for point in points]):.2f}",
            f"{first.compile_seconds:.2f} - {last.compile_seconds:.2f}",
        ))  # fmt: skip
    note = f"Exponents over the {FITTED} largest sizes. Where not varied: width {WIDTH}, depth {DEPTH}, batch {BATCH}."
    return f"{screen.table(header, rows)}\n{screen.fill(note)}"


def _draw(out, curves):
    figure, axes = report.subplots(4, rows=2)
    panels = {"width": 0, "depth": 1, "batch": 2}
    for curve, points in curves:
        column, line = panels[curve.along], {**LINES[curve.name], "ms": 4}
        sizes = [point.size for point in points]
        axes[0, column].plot(sizes, [1e3 * point.seconds for point in points], **line)
        axes[1, column].plot(sizes, [point.memory / 2**20 for point in points], **line)
        if curve.along == "depth":
            axes[0, 3].plot(sizes, [point.compile_seconds for point in points], **line, label=curve.name)
    for along, column in panels.items():
        label = {"width": "width (neurons)", "depth": "depth (layers)", "batch": "batch (examples)"}[along]
        axes[0, column].set(ylabel="time of a step (ms)", yscale="log")
        axes[1, column].set_ylabel("memory (MiB)")
        axes[1, column].set_yscale("log", base=2)
        for row in (0, 1):
            axes[row, column].set_xscale("log", base=2)
            axes[row, column].set_xlabel(label)
    axes[0, 3].set(xlabel="depth (layers)", ylabel="time to compile (s)", ylim=(0, None))
    axes[0, 3].set_xscale("log", base=2)
    axes[1, 3].axis("off")
    axes[1, 3].legend(*axes[0, 3].get_legend_handles_labels(), loc="center", frameon=False, title="layers as")
    report.save(figure, out, "scale")
