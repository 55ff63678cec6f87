"""The options of `scripts/benchmark.py`, and where its results go."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from benchmarks import report
from benchmarks.clipping.methods import Peer
from benchmarks.clipping.networks import Kind
from benchmarks.contest.contestants import Against
from benchmarks.contest.problems import NetName
from jaxnet.experiment.commands.train import device
from jaxnet.experiment.console import packages, screen
from jaxnet.experiment.console.errors import BadInput, option

What = Literal[
    "training",
    "scale",
    "stream",
    "shell",
    "accelerator",
    "devices",
    "per-example",
    "largest",
    "forming",
    "kfac",
    "feedback",
    "private",
]


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """Measure one of the docs' claims on this machine: a table, results.json and, for some, a figure."""

    what: Annotated[What, tyro.conf.Positional, tyro.conf.arg(metavar="WHAT")]
    """training: a step beside that of other packages; scale: time and memory against width, depth and batch;
    stream: from disk beside in memory; shell: train.py beside scripts of other packages; accelerator: the share of its
    peak; devices: what each of 1 to 1024 devices holds and sends, worked out; per-example: the cost of readings, and a
    clipped step beside other packages'; largest: the most examples of one in 8 GiB; forming: where gradients are better
    formed; kfac: K-FAC against Adam; feedback: other ways back; private: accuracy under differential privacy beside
    Opacus's."""
    out: str | None = None
    """The folder for the results; by default benchmarks/WHAT."""
    seeds: int = 5
    """Seeds, or rounds of timing, of which medians are reported."""
    overwrite: bool = False
    """Write into an existing folder."""
    against: tuple[Against | Peer, ...] = (*get_args(Against), *get_args(Peer))
    """training, per-example, largest: the packages to measure besides JAX and NumPy, of those that the benchmark has;
    those not installed are named."""
    nets: tuple[NetName, ...] = get_args(NetName)
    """training: the networks."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    """per-example, largest: the kinds of networks."""
    data: str | None = None
    """private: a folder of images or a text, as `jaxnet train` takes them, in place of the digits."""
    kfac_jax: str | None = None
    """kfac: the Python of an environment with kfac-jax, which is then measured in Adam's place."""

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= 1000:
            raise BadInput(f"--seeds: expected an integer from 1 to 1000, got {self.seeds}")
        for name, takers in TAKERS.items():
            if self.what not in takers and getattr(self, name) != type(self).__dict__[name]:
                raise BadInput(f"{option(name)}: an option of {', '.join(takers)} only; {self.what} has none")
        for package in self.against if self.against != type(self).__dict__["against"] else ():
            if package not in (has := PACKAGES.get(self.what, ())):
                raise BadInput(f"--against {package}: {self.what} has {', '.join(has)}")
        for name, choices in {"nets": NetName, "kinds": Kind}.items():
            if not getattr(self, name):
                raise BadInput(f"--{name}: expected at least one of {', '.join(get_args(choices))}")


# Options that not all benchmarks have.
TAKERS: dict[str, tuple[What, ...]] = {
    "against": ("training", "per-example", "largest"),
    "nets": ("training",),
    "kinds": ("per-example", "largest"),
    "data": ("private",),
    "kfac_jax": ("kfac",),
    "seeds": tuple(what for what in get_args(What) if what not in ("devices", "largest")),
}
PACKAGES: dict[What, tuple[str, ...]] = {
    "training": get_args(Against),
    "per-example": get_args(Peer),
    "largest": get_args(Peer),
}


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Runs the benchmark that is asked for.

    Raises:
      BadInput: when the folder exists already.
    """
    from benchmarks import accelerator, devices, forming, from_disk, kfac, private, readings, scale, ways_back
    from benchmarks.beside_kfac_jax import comparison
    from benchmarks.clipping import largest
    from benchmarks.contest import contest
    from benchmarks.shell import timing

    packages.require("sklearn", "matplotlib")
    out = Path(config.out or f"benchmarks/{config.what}")
    report.make_folder(out, overwrite=config.overwrite)
    screen.say(f"device     {device()}")
    runs: dict[What, Callable[[], dict[str, Any]]] = {
        "per-example": lambda: readings.run(out, config.seeds, config.against, config.kinds),
        "largest": lambda: largest.run(out, config.against, config.kinds),
        "forming": lambda: forming.run(out, config.seeds),
        "kfac": lambda: (
            comparison.run(out, config.seeds, config.kfac_jax) if config.kfac_jax else kfac.run(out, config.seeds)
        ),
        "feedback": lambda: ways_back.run(out, config.seeds),
        "training": lambda: contest.run(out, config.seeds, config.against, config.nets),
        "scale": lambda: scale.run(out, config.seeds),
        "stream": lambda: from_disk.run(out, config.seeds),
        "shell": lambda: timing.run(out, config.seeds),
        "accelerator": lambda: accelerator.run(out, config.seeds),
        "devices": lambda: devices.run(out),
        "private": lambda: private.run(out, config.seeds, config.data),
    }
    results = runs[config.what]()
    screen.say(f"written    {out}/")
    return results
