"""Contestants timed in turns: in each round everyone once, one at a time, while the others are at rest."""

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from benchmarks.contest.problems import Net
from benchmarks.contest.process import Died, Worker, uninterrupted
from benchmarks.report import Spread
from benchmarks.turns import in_turns
from jaxnet.experiment.console.errors import interrupted

LEAST_SECONDS = 0.3
# Threads that wait for work by spinning stop within it.
PAUSE = 0.3


class Times(NamedTuple):
    """A contestant's.

    Attributes:
      losses: of the first pass, as it told them.
      first: seconds of the first pass, with all compilation.
      passes: seconds of a later pass, over the rounds.
      memory: the peak in bytes.
      temporaries: bytes of its compiled program, where it tells them.
    """

    losses: np.ndarray
    first: float
    passes: Spread
    memory: int
    temporaries: int | None

    @property
    def compilation(self) -> float:
        """Seconds that the first pass took longer than a later one."""
        return max(0.0, self.first - self.passes.median)


def race(starts: Mapping[str, str], net: Net, rounds: int) -> dict[str, Times | Died]:
    """Times all contestants, given as the worker takes them; whoever dies is out, and the others go on."""
    with ExitStack() as stack:
        entrants = {name: _Entrant(start, net, stack) for name, start in starts.items()}
        # Started one after the other, so that no compilation is timed beside another.
        in_turns(entrants.values(), rounds)
        return {name: entrant.outcome() for name, entrant in entrants.items()}


class _Entrant:
    """A worker and what it has told so far."""

    def __init__(self, start, net, stack):
        self.start, self.net, self.stack = start, net, stack
        self.death = None
        self.seconds = []

    def attempt(self, part):
        if interrupted():
            raise KeyboardInterrupt
        if self.death is None:
            try:
                part()
            except Died as death:
                self.death = death

    def begin(self):
        with uninterrupted():
            self.worker = self.stack.enter_context(Worker(self.start, self.net))
        self.first = self.worker.answer()
        self.passes = max(1, math.ceil(LEAST_SECONDS / self.worker.ask("go 1")["seconds"]))

    def turn(self):
        time.sleep(PAUSE)
        self.seconds.append(self.worker.ask(f"go {self.passes}")["seconds"] / self.passes)

    def finish(self):
        self.memory = self.worker.ask("end")

    def outcome(self):
        if self.death is not None:
            return self.death
        return Times(np.array(self.first["losses"]), self.first["seconds"], Spread.of(self.seconds), **self.memory)
