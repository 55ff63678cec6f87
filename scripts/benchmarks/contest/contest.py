"""`benchmark.py training`: jaxnet beside other packages: dense networks, and a CNN, a ResNet, a GPT and a GRU."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from benchmarks import report
from benchmarks.contest import contestants, curve, figure, peak, problems, standings
from benchmarks.contest.contestants import Against, Contestant
from benchmarks.contest.problems import NetName
from benchmarks.contest.process import Died
from benchmarks.contest.rounds import Times, race
from benchmarks.contest.standings import Standing
from jaxnet.experiment.console import screen
from jaxnet.experiment.console.errors import Failure

NOTES = (
    "us/step: the median over the rounds [least-most]; times ours: the ratio of the medians, above 1 where slower.",
    "GFLOP/s: matrix products alone; of the peak: of the fastest product of two float32 matrices of 2048 by 2048.",
    "compile s: by how much the first pass takes longer; memory: the process's peak.",
    "temporary: what the compiled pass of jaxnet and of jax.grad, scanned, and the step of jax.grad take besides their "
    "arguments and what they return, as the compiler counts it.",
)


def run(
    out: Path,
    seeds: int = 5,
    against: Sequence[str] = get_args(Against),
    nets: Sequence[NetName] = get_args(NetName),
) -> dict[str, Any]:
    """Times all contestants, prints a table for each network, and writes results.json and training.png and .svg.

    Args:
      out: an existing folder.
      seeds: rounds, in each of which everyone has a turn; medians are reported.
      against: which packages take part besides JAX and NumPy.
      nets: names of `problems.NETS`.

    Returns:
      What results.json holds.

    Raises:
      Failure: when a contestant's losses are not those of the reference; all is written by then.
    """
    peaks = _peaks(seeds)
    highest = max(peaks.values(), default=None)
    found: dict[NetName, dict[str, Standing]] = {}
    for name in nets:
        net, entered = problems.NETS[name], contestants.of(name, against)
        heading = f"{name}, batch {net.batch}: {len(entered)} contestants, rounds: {seeds}"
        print(f"\n{screen.fill(heading)}", flush=True)
        found[name] = standings.judge(net, entered, _outcomes(entered, net, seeds), highest)
        print(standings.table(found[name], net), flush=True)
    print("", *map(screen.fill, NOTES), sep="\n")
    results = {
        "what": "training",
        "rounds": seeds,
        **report.environment(),
        "peak_gflops": peaks,
        "tolerance": curve.TOLERANCE,
        "nets": {name: _told(name, of) for name, of in found.items()},
    }
    report.write_results(out, results)
    figure.draw(out, found)
    _check_curves(found, out)
    return results


def _peaks(rounds):
    """GFLOP/s by package: a peak, so of the fastest turn."""
    outcomes = _outcomes(contestants.PEAKS, peak.NET, rounds)
    peaks = {name: peak.OPERATIONS / of.passes.least / 1e9 for name, of in outcomes.items() if isinstance(of, Times)}
    told = ", ".join(f"{name} {gflops:.0f}" for name, gflops in peaks.items())
    screen.say(f"peak       GFLOP/s: {told}", flush=True)
    return peaks


def _outcomes(entered: Mapping[str, Contestant], net: problems.Net, rounds: int) -> dict[str, Times | Died]:
    return race({name: entrant.start for name, entrant in entered.items() if entrant.installed()}, net, rounds)


def _told(name, of):
    return {**problems.NETS[name]._asdict(), "contestants": {who: standing._asdict() for who, standing in of.items()}}


def _check_curves(found, out):
    differing = [
        f"{who} on {name}" for name, of in found.items() for who, s in of.items() if s.state == standings.ANOTHER_CURVE
    ]
    if differing:
        raise Failure(f"losses that are not the reference's: {', '.join(differing)}; {out}/results.json has the rest")
