"""`benchmark.py forming`: where a gradient is better formed before it is clipped, measured, and the rule that fits."""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxnet as jn
from benchmarks import report
from jaxnet import per_example
from jaxnet.experiment.console import screen
from jaxnet.factored.worth import BATCHED, READ

# Positions, sides and examples.
TIMES = (2, 4, 8, 16, 32, 64, 128, 256)
SIDES = ((32, 32), (128, 128), (128, 512), (512, 128), (64, 288), (512, 512))
EXAMPLES = (8, 32)
# Numbers that the factors of all examples, or what is formed, may hold.
MOST = 2**23
LEAST_SECONDS = 0.01
# How often what is formed is read, and by how much its product is dearer, in the rules that are compared.
READS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
DEARER = (0, 0.125, 0.25, 0.5, 0.75, 1, 1.5, 2)
FORMS = "2 T^2 (o + i) > (b + c T) o i"


class Point(NamedTuple):
    """What was measured.

    Attributes:
      times, outputs, inputs, examples: T, o, i and m.
      unformed, formed: processor seconds of norms and the weighted total; formed, with the forming.
    """

    times: int
    outputs: int
    inputs: int
    examples: int
    unformed: float
    formed: float

    def forms(self, b: float, c: float) -> bool:
        """What the rule of b and c says."""
        t, o, i = self.times, self.outputs, self.inputs
        return 2 * t**2 * (o + i) > (b + c * t) * o * i


class Fit(NamedTuple):
    """How a rule does on the points.

    Attributes:
      b, c: of the rule.
      hits: the part of the points at which it chooses what was faster.
      excess: by which part its choices take longer than the fastest, on the points' geometric mean.
    """

    b: float
    c: float
    hits: float
    excess: float


def run(out: Path, rounds: int = 5) -> dict[str, Any]:
    """Measures the grid, prints every point and how the rules do, and writes results.json.

    Args:
      out: an existing folder.
      rounds: in each of which both are timed at a point; medians are taken.
    """
    points = [point(*sizes, rounds) for sizes in grid()]
    heads = ("T", "o", "i", "m", "unformed ms", "formed ms", "faster", "the rule")
    print(screen.table(heads, [_row(p) for p in points]))
    present, best = judged(points, READ, BATCHED), fitted(points)
    always = judged(points, 0, 0)
    for name, fit in {"the library's": present, "the best": best, "always": always}.items():
        told = f"hits {100 * fit.hits:.0f}%, takes {100 * fit.excess:.1f}% longer than the faster"
        screen.say(f"{name:13} b {fit.b:g}, c {fit.c:g}: {told}")
    print(screen.fill(f"A rule forms where {FORMS}. Processor milliseconds of norms and a weighted total."))
    fits = {"present": present._asdict(), "best": best._asdict(), "always": always._asdict()}
    about = {"what": "forming", "rule": FORMS, "rounds": rounds, **report.environment()}
    results = {**about, **fits, "points": [p._asdict() for p in points]}
    report.write_results(out, results)
    return results


def _row(p):
    sizes = map(str, (p.times, p.outputs, p.inputs, p.examples))
    choices = ("formed" if forms else "unformed" for forms in (p.formed < p.unformed, p.forms(READ, BATCHED)))
    return *sizes, f"{1e3 * p.unformed:.3f}", f"{1e3 * p.formed:.3f}", *choices


def grid() -> list[tuple[int, int, int, int]]:
    """All (T, o, i, m) of which neither the factors nor what is formed hold too many numbers."""
    return [
        (t, o, i, m)
        for t, (o, i), m in itertools.product(TIMES, SIDES, EXAMPLES)
        if max(t * (o + i), o * i, t * t) * m <= MOST
    ]


def point(times: int, outputs: int, inputs: int, examples: int, rounds: int) -> Point:
    """One of the grid, with both timed in turn."""
    keys = jax.random.split(jax.random.key(0))
    dz, a = (jax.random.normal(k, (examples, times, size)) for k, size in zip(keys, (outputs, inputs), strict=True))
    programs = [jax.jit(step).lower(dz, a).compile() for step in (unformed, formed)]
    repeats = [max(1, math.ceil(LEAST_SECONDS / _seconds(program, dz, a, 2))) for program in programs]
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for program, repeat, of_program in zip(programs, repeats, seconds, strict=True):
            of_program.append(_seconds(program, dz, a, repeat))
    return Point(times, outputs, inputs, examples, *map(median, seconds))


def unformed(dz: jax.Array, a: jax.Array) -> jax.Array:
    """Norms as the factors have them, and the clipped sum."""
    return _clipped(jn.Outer(dz, a))


def formed(dz: jax.Array, a: jax.Array) -> jax.Array:
    """The same of gradients that are formed."""
    return _clipped(jn.Outer(dz, a).formed())


def _clipped(form):
    lengths = per_example.norms([form])
    (total,) = per_example.total([form], jnp.minimum(1, 1 / lengths))
    return total


def judged(points: Sequence[Point], b: float, c: float) -> Fit:
    """How the rule of b and c does."""
    chosen = [(p.formed if p.forms(b, c) else p.unformed) / min(p.formed, p.unformed) for p in points]
    hits = sum(ratio == 1 for ratio in chosen) / len(points)
    return Fit(b, c, hits, math.exp(sum(map(math.log, chosen)) / len(points)) - 1)


def fitted(points: Sequence[Point]) -> Fit:
    """The rule whose choices take the least time; of equal ones that with more hits, then with the smaller numbers."""
    rules = [judged(points, b, c) for b, c in itertools.product(READS, DEARER)]
    return min(rules, key=lambda fit: (fit.excess, -fit.hits, fit.b, fit.c))


def _seconds(program: Callable[..., Any], dz: jax.Array, a: jax.Array, repeats: int) -> float:
    """Of all processors, which other programs on the machine disturb less than the wall's clock."""
    jax.block_until_ready(program(dz, a))
    started = time.process_time()
    for _ in range(repeats):
        outcome = program(dz, a)
    jax.block_until_ready(outcome)
    return (time.process_time() - started) / repeats
