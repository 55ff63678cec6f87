"""Who is measured after whom."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

One = TypeVar("One")


def turns(everyone: Iterable[One], rounds: int) -> Iterator[One]:
    """All of them in every round, each round in an order of its own, the same whenever it is asked.

    What one leaves, memory that the system clears or a processor that is hot, is not always its successor's.
    """
    everyone = list(everyone)
    for of_round in range(rounds):
        for position in np.random.default_rng(of_round).permutation(len(everyone)):
            yield everyone[position]


def in_turns(entrants: Collection[Any], rounds: int) -> None:
    """Has everyone attempt to begin, one after the other, then its turn of every round, and at the end to finish."""
    for entrant in entrants:
        entrant.attempt(entrant.begin)
    for entrant in turns(entrants, rounds):
        entrant.attempt(entrant.turn)
    for entrant in entrants:
        entrant.attempt(entrant.finish)
