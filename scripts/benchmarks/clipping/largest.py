"""`benchmark.py largest`: how many examples a step takes at most, plain or clipped, in 8 GiB."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.clipping import networks
from benchmarks.clipping.methods import METHODS, Method, absent, asked
from benchmarks.clipping.networks import Net, Problem
from benchmarks.clipping.workers import started
from benchmarks.contest.process import Died
from jaxnet.experiment.console import screen

LIMIT = 2**33
# A number of examples that fits where one larger by this part does not.
PART = 1 / 32
FIRST = 8
# Up to which a program that has to be run is run.
RUN = LIMIT // 16
NOTES = (
    "Of JAX by what the compiler counts, arguments, outcome and between: a number that fits where one larger by 1/32 "
    "does not, with nothing run.",
    f"Of PyTorch by the most that its allocator held: on the line of two batches, the larger of over {RUN >> 20} MiB.",
)


def run(out: Path, against: Sequence[str], kinds: Sequence[str]) -> dict[str, Any]:
    """Finds it for every network and method, prints a table, and writes results.json.

    Args:
      out: an existing folder.
      against: which packages take part besides JAX.
      kinds: of networks.
    """
    everyone = asked(against)
    methods = {name: method for name, method in everyone.items() if method.installed()}
    for package in absent(everyone):
        screen.say(f"left out   {package}: not installed")
    found: dict[str, dict[str, int | str]] = {}
    for name, net in networks.of_kinds(kinds).items():
        found[name] = {method: _of(METHODS[method], net) for method in methods}
        screen.say(f"{name}: {found[name]}", flush=True)
    rows = [(method, *(str(of[method]) for of in found.values())) for method in methods]
    print(screen.table(("step", *found), rows))
    print("", *map(screen.fill, NOTES), sep="\n")
    results = {"what": "largest", "limit": LIMIT, "absent": absent(everyone), **report.environment(), "found": found}
    report.write_results(out, results)
    return results


def _of(method: Method, net: Net) -> int | str:
    try:
        with started(method, Problem(net, FIRST)) as worker:

            def bytes_of(examples: int) -> int:
                return int(worker.ask(f"bytes {examples}")["bytes"])

            return within(bytes_of, LIMIT) if method.counted else along(bytes_of, LIMIT, RUN)
    except Died as death:
        return str(death)


def within(bytes_of: Callable[[int], int], limit: int) -> int:
    """The largest number of examples that fits, to `PART`; 0 for none.

    Memory is nearly a line, along which the next number is guessed, between one that fits and one that does not.
    """
    told = {examples: bytes_of(examples) for examples in (FIRST, 4 * FIRST)}
    while True:
        fits = max((n for n, size in told.items() if size <= limit), default=0)
        fails = min((n for n, size in told.items() if size > limit and n > fits), default=None)
        if fails is not None and fails - fits <= max(1, PART * fits):
            return fits
        examples = _next(_on_line(told, limit), fits, fails)
        told[examples] = bytes_of(examples)


def _next(line, fits, fails):
    """A little below the line's number, then a little above; half-way where the line leads nowhere new."""
    for guess in (int(line * (1 - PART / 3)), int(line * (1 + PART / 3)) + 1):
        if fits < guess and (fails is None or guess < fails):
            return guess
    return 2 * fits if fails is None else (fits + fails) // 2


def along(bytes_of: Callable[[int], int], limit: int, run: int) -> int:
    """Where the line of the last two numbers, each twice the one before, is at the limit; the last is over `run`."""
    told = {FIRST: bytes_of(FIRST)}
    while max(told.values()) <= run:
        examples = 2 * max(told)
        told[examples] = bytes_of(examples)
    if len(told) == 1:
        told[FIRST // 2] = bytes_of(FIRST // 2)
    return _on_line(told, limit)


def _on_line(told, limit):
    """Of the two largest numbers."""
    (less, least), (more, most) = sorted(told.items())[-2:]
    return max(0, int(less + (limit - least) * (more - less) / (most - least)))
