"""What is told of a network's contestants: their times beside ours, and for whom there are none, why."""

from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.contest import curve, problems
from benchmarks.contest.contestants import OURS, Contestant
from benchmarks.contest.problems import Net
from benchmarks.contest.process import Died
from benchmarks.contest.rounds import Times
from benchmarks.report import Spread
from jaxnet.experiment.console import screen

MEASURED, ANOTHER_CURVE, FAILED, ABSENT = "measured", "another curve", "failed", "not installed"
INSTALL = "pip install -e '.[bench]'"
HEADER = (
    "contestant",
    "us/step",
    "times ours",
    "GFLOP/s",
    "of the peak",
    "compile s",
    "memory MiB",
    "temporary MiB",
    "times ours",
    "version",
)


class Standing(NamedTuple):
    """A contestant on a network; None for what could not be measured.

    Attributes:
      state: `MEASURED`, `ANOTHER_CURVE`, `FAILED` or `ABSENT`.
      reason: why it is not `MEASURED`.
      version: of its package.
      sizes: of the network that it trained.
      deviation: of its losses from the reference, see `curve.deviation`.
      microseconds: a step's.
      ratio: its median over ours, more than 1 where it is slower.
      gflops: 1e9 operations of the step's matrix products in a second.
      share: of the machine's peak.
      compilation: seconds.
      memory: the peak in bytes.
      temporaries: bytes of its compiled program, besides its arguments and what it returns.
      memory_ratio: its temporaries over ours.
    """

    state: str
    reason: str | None = None
    version: str | None = None
    sizes: tuple[int, ...] | None = None
    deviation: float | None = None
    microseconds: Spread | None = None
    ratio: float | None = None
    gflops: float | None = None
    share: float | None = None
    compilation: float | None = None
    memory: int | None = None
    temporaries: int | None = None
    memory_ratio: float | None = None


def judge(
    net: Net, contestants: Mapping[str, Contestant], outcomes: Mapping[str, Times | Died], peak: float | None
) -> dict[str, Standing]:
    """Compares all with ours and with the reference.

    Args:
      net: what they were given.
      contestants: all that take part.
      outcomes: of those that are installed.
      peak: the machine's, in GFLOP/s.
    """
    given = problems.make(net)
    standings = {}
    for name, contestant in contestants.items():
        outcome = outcomes.get(name)
        if outcome is None:
            standings[name] = Standing(ABSENT, INSTALL)
        elif isinstance(outcome, Died):
            standings[name] = Standing(FAILED, str(outcome), contestant.version())
        else:
            trained = contestant.trains(given)
            apart = curve.deviation(outcome.losses, trained)
            standings[name] = _measured(outcome, trained.net, apart, peak)._replace(version=contestant.version())
    return _beside_ours(standings)


def table(standings: Mapping[str, Standing], net: Net) -> str:
    """A row for each contestant, and below, the reasons."""
    reasons = [screen.fill(f"{name}: {s.state}: {s.reason}") for name, s in standings.items() if s.state != MEASURED]
    return "\n".join((screen.table(HEADER, [_row(name, s, net) for name, s in standings.items()]), *reasons))


def dashed(sizes: tuple[int, ...]) -> str:
    """As in 3-4-1."""
    return "-".join(map(str, sizes))


def _measured(times, net, apart, peak):
    microseconds = Spread(*(1e6 * seconds / net.steps for seconds in times.passes))
    gflops = problems.operations(net) / microseconds.median / 1e3
    same = apart <= curve.TOLERANCE
    return Standing(
        MEASURED if same else ANOTHER_CURVE,
        None if same else f"its losses are off by {apart:.1e} of their size, more than {curve.TOLERANCE:.0e}",
        sizes=net.sizes,
        deviation=apart,
        microseconds=microseconds,
        gflops=gflops,
        share=gflops / peak if peak else None,
        compilation=times.compilation,
        memory=times.memory,
        temporaries=times.temporaries,
    )


def _beside_ours(standings):
    ours = standings.get(OURS)
    if ours is None or ours.state != MEASURED:
        return standings
    return {name: _ratios(s, ours) if s.state == MEASURED else s for name, s in standings.items()}


def _ratios(standing, ours):
    told = standing.temporaries is not None and ours.temporaries
    return standing._replace(
        ratio=standing.microseconds.median / ours.microseconds.median,
        memory_ratio=standing.temporaries / ours.temporaries if told else None,
    )


def _row(name, standing, net):
    s = standing
    if s.microseconds is None:
        return (name, s.state, *[""] * (len(HEADER) - 3), s.version or "")
    return (
        name if s.sizes == net.sizes else f"{name} ({dashed(s.sizes)})",
        s.microseconds.text(".1f"),
        s.state if s.state != MEASURED else "" if s.ratio is None else f"{s.ratio:.2f}",
        f"{s.gflops:.2f}",
        "" if s.share is None else f"{100 * s.share:.1f}%",
        f"{s.compilation:.2f}",
        f"{s.memory / 2**20:.0f}",
        "" if s.temporaries is None else f"{s.temporaries / 2**20:.3g}",
        "" if s.memory_ratio is None else f"{s.memory_ratio:.2f}",
        s.version,
    )
