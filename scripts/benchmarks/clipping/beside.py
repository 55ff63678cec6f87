"""A clipped step beside a plain one, and beside those of other packages: seconds, operations and memory."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from benchmarks.clipping import agreement, networks
from benchmarks.clipping.methods import OUR_PLAIN, Method, absent, asked
from benchmarks.clipping.networks import Net, Problem, scans
from benchmarks.clipping.workers import started
from benchmarks.contest.process import Died, Worker
from benchmarks.contest.rounds import LEAST_SECONDS, PAUSE
from benchmarks.report import Spread
from benchmarks.turns import in_turns
from jaxnet.experiment.console import screen

NOTES = (
    "over plain: in units of the same package's plain step; over ours: of jaxnet's plain step.",
    "MB: of JAX what the compiler counts, arguments, outcome and between; of PyTorch the most its allocator held.",
    "operations: as the compiler counts them, over those of the plain step; none through a scan, counted once.",
)


class Cost(NamedTuple):
    """What a step takes.

    Attributes:
      seconds, processor: of the wall's clock and of all processors, over the rounds.
      bytes: at once.
      operations: None where they are not counted.
    """

    seconds: Spread
    processor: Spread
    bytes: int
    operations: float | None


def measure(rounds: int, against: Sequence[str], kinds: Sequence[str]) -> dict[str, Any]:
    """Asks that all give the same gradient, measures every network and batch, and prints a table of each.

    Raises:
      Failure: when a clipped gradient is not ours.
    """
    everyone = asked(against)
    methods = {name: method for name, method in everyone.items() if method.installed()}
    missing = absent(everyone)
    for package in missing:
        screen.say(f"left out   {package}: not installed")
    nets = networks.of_kinds(kinds)
    refused = agreement.check(methods, sorted({net.kind for net in nets.values()}))
    found: dict[str, dict[str, Any]] = {}
    for name, net in nets.items():
        for batch in net.batches:
            costs = costs_of(methods, net, batch, rounds)
            found.setdefault(name, {})[str(batch)] = {
                method: cost if isinstance(cost, str) else cost._asdict() for method, cost in costs.items()
            }
            print(f"\n{screen.fill(f'{name}, batch {batch}')}\n{table(costs, methods)}", flush=True)
    print("", *map(screen.fill, NOTES), sep="\n")
    return {"max_norm": networks.MAX_NORM, "absent": missing, "refused": refused, "networks": found}


def costs_of(methods: Mapping[str, Method], net: Net, batch: int, rounds: int) -> dict[str, Cost | str]:
    """Of everyone, each in its turn of every round, while the others are at rest; of who died, the last words."""
    with ExitStack() as stack:
        entrants = {}
        for name, method in methods.items():
            worker = stack.enter_context(started(method, Problem(net, batch)))
            entrants[name] = _Entrant(worker, counted=not scans(net))
        in_turns(entrants.values(), rounds)
        return {name: entrant.outcome() for name, entrant in entrants.items()}


class _Entrant:
    """A process, and what it has told so far."""

    def __init__(self, worker: Worker, *, counted: bool) -> None:
        self.worker, self.counted = worker, counted
        self.death: str | None = None
        self.turns: list[dict[str, float]] = []

    def attempt(self, part):
        if self.death is None:
            try:
                part()
            except Died as death:
                self.death = str(death)

    def begin(self):
        self.worker.ask("prepare")
        self.steps = max(1, math.ceil(LEAST_SECONDS / self.worker.ask("go 1")["seconds"]))

    def turn(self):
        time.sleep(PAUSE)
        told = self.worker.ask(f"go {self.steps}")
        self.turns.append({clock: told[clock] / self.steps for clock in ("seconds", "processor")})

    def finish(self):
        self.operations = self.worker.ask("operations")["operations"] if self.counted else None
        self.bytes = self.worker.ask("bytes")["bytes"]

    def outcome(self):
        if self.death is not None:
            return self.death
        seconds, processor = (Spread.of([turn[clock] for turn in self.turns]) for clock in ("seconds", "processor"))
        return Cost(seconds, processor, self.bytes, self.operations)


def table(costs: Mapping[str, Cost | str], methods: Mapping[str, Method]) -> str:
    """A row for each; of who died, its last words below."""
    ours = costs.get(OUR_PLAIN)
    rows, words = [], []
    for name, cost in costs.items():
        if isinstance(cost, str):
            words.append(screen.fill(f"{name}: {cost}"))
            continue
        base = costs.get(methods[name].base or name)
        rows.append(
            (
                name,
                f"{1e3 * cost.seconds.median:.2f}",
                f"{1e3 * cost.processor.median:.2f}",
                _over(cost, base, lambda one: one.seconds.median),
                _over(cost, ours, lambda one: one.seconds.median),
                f"{cost.bytes / 1e6:.1f}",
                _over(cost, base, lambda one: one.bytes),
                _over(cost, base, lambda one: one.operations),
            )
        )
    heads = ("step", "ms", "processor ms", "over plain", "over ours", "MB", "over plain", "operations")
    return "\n".join([screen.table(heads, rows), *words])


def _over(cost, base, number):
    if base is None or isinstance(base, str) or number(cost) is None or not number(base):
        return ""
    return f"{number(cost) / number(base):.2f}"
