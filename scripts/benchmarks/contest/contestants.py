"""Who takes part: where in this folder each contestant is, and which package it measures."""

import importlib.util
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Literal, NamedTuple

from benchmarks.contest import problems
from benchmarks.contest.problems import Problem

Against = Literal["flax", "equinox", "haiku", "torch", "scikit-learn"]


class Contestant(NamedTuple):
    """A way to train.

    Attributes:
      start: MODULE:FUNCTION, as the worker takes it.
      package: as it is imported.
      distribution: as it is installed.
      against: by which name `--against` asks for it; None for those that always take part.
      nets: the networks that it takes part in; None for all.
      trains: the problem that it makes of the one it is given.
    """

    start: str
    package: str
    distribution: str
    against: Against | None = None
    nets: tuple[str, ...] | None = None
    trains: Callable[[Problem], Problem] = lambda problem: problem

    def installed(self) -> bool:
        """Whether its package is there."""
        return importlib.util.find_spec(self.package) is not None

    def version(self) -> str:
        """Its package's."""
        return metadata.version(self.distribution)


OURS = "jaxnet"
DENSE = tuple(name for name, net in problems.NETS.items() if net.kind == "dense")
CONTESTANTS = {
    OURS: Contestant("benchmarks.contest.by_jaxnet:prepare", "jaxnet", "jaxnet"),
    "jax.grad, scanned": Contestant("benchmarks.contest.jax_grad:scanned", "jax", "jax"),
    "jax.grad": Contestant("benchmarks.contest.jax_grad:prepare", "jax", "jax"),
    "haiku": Contestant("benchmarks.contest.by_haiku:prepare", "haiku", "dm-haiku", "haiku"),
    "equinox": Contestant("benchmarks.contest.by_equinox:prepare", "equinox", "equinox", "equinox"),
    "flax.nnx": Contestant("benchmarks.contest.by_flax:objects", "flax", "flax", "flax"),
    "flax.nnx, functional": Contestant("benchmarks.contest.by_flax:functional", "flax", "flax", "flax"),
    "torch": Contestant("benchmarks.contest.by_torch:eager", "torch", "torch", "torch"),
    "torch.compile": Contestant("benchmarks.contest.by_torch:compiled", "torch", "torch", "torch"),
    "scikit-learn": Contestant(
        "benchmarks.contest.by_sklearn:prepare", "sklearn", "scikit-learn", "scikit-learn", DENSE, problems.logistic
    ),
    "numpy": Contestant("benchmarks.contest.plain:prepare", "numpy", "numpy", nets=("3-4-1",)),
}
PEAKS = {
    "numpy": Contestant("benchmarks.contest.peak:by_numpy", "numpy", "numpy"),
    "torch": Contestant("benchmarks.contest.peak:by_torch", "torch", "torch"),
    "jax": Contestant("benchmarks.contest.peak:by_jax", "jax", "jax"),
}


def of(net: str, against: Sequence[str]) -> dict[str, Contestant]:
    """Who takes part in a network, installed or not."""
    return {
        name: contestant
        for name, contestant in CONTESTANTS.items()
        if (contestant.against is None or contestant.against in against)
        and (contestant.nets is None or net in contestant.nets)
    }
