"""The options of `scripts/benchmark.py`, and where its results go."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxnet.experiment import report
from jaxnet.experiment.errors import BadInput
from jaxnet.experiment.run import device

What = Literal["per-example", "kfac", "feedback"]


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """Measure one of the README's claims on this machine: a table, results.json and, but for per-example, a figure."""

    what: Annotated[What, tyro.conf.Positional] = dataclasses.field(metadata={"positional": True})
    """per-example: the cost of readings; kfac: K-FAC against Adam; feedback: other ways back."""
    out: str | None = None
    """The folder for the results; by default benchmarks/WHAT."""
    seeds: int = 5
    """Seeds, or rounds of timing, of which medians are reported."""
    overwrite: bool = False
    """Write into an existing folder."""

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= 1000:
            raise BadInput(f"--seeds: expected an integer from 1 to 1000, got {self.seeds}")


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Runs the benchmark that is asked for.

    Raises:
      BadInput: when the folder exists already.
    """
    from jaxnet.experiment.benchmark import feedback, kfac, per_example

    out = Path(config.out or f"benchmarks/{config.what}")
    report.make_folder(out, overwrite=config.overwrite)
    print(f"device     {device()}")
    results = {"per-example": per_example.run, "kfac": kfac.run, "feedback": feedback.run}[config.what](
        out, config.seeds
    )
    print(f"written    {out}/")
    return results
