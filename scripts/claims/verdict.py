"""How a claim is judged: a bound stated beforehand, and on which side of it the 95% interval over the seeds lies."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

CONFIDENCE = 0.95
# Where a claim says that two arms do not differ, or that one is no better: up to this share of the reference's value.
MARGIN = 0.05

Verdict = Literal["holds", "does not hold", "not told apart", "depends"]


class Interval(NamedTuple):
    """A mean over the seeds, and where the true one lies with 95% confidence."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Interval":
        """mean +- t(0.975, n - 1) s / sqrt(n), with Student's t for n values of standard deviation s."""
        # It is `scipy.stats.t.ppf`, whose package takes long to import.
        from scipy.special import stdtrit

        values = np.asarray(values, np.float64)
        mean = float(values.mean())
        half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(len(values)))
        return cls(mean, mean - half, mean + half)

    def text(self, form: str = ".3g") -> str:
        """As 'mean [low, high]'."""
        return f"{self.mean:{form}} [{self.low:{form}}, {self.high:{form}}]"


class Row(NamedTuple):
    """One measured number beside the bound that the claim puts on it.

    Attributes:
      setting: data, network and for how long it was trained.
      quantity: what was measured, with its unit.
      values: (seeds,).
      claimed: '> 0' or '<= 0.01'.
      verdict: whether the interval lies on the claimed side, on the other, or on both.
    """

    setting: str
    quantity: str
    values: np.ndarray
    claimed: str
    verdict: Verdict

    @property
    def interval(self) -> Interval:
        """Over the seeds."""
        return Interval.of(self.values)


def more(setting: str, quantity: str, values: np.ndarray, than: float = 0.0) -> Row:
    """A row for a claim that a number is larger than a bound."""
    interval = Interval.of(values)
    return Row(
        setting, quantity, np.asarray(values), f"> {than:.3g}", _side(interval.low > than, interval.high <= than)
    )


def at_most(setting: str, quantity: str, values: np.ndarray, bound: float) -> Row:
    """A row for a claim that a number is no larger than a bound."""
    interval = Interval.of(values)
    claimed = f"<= {bound:.3g}"
    return Row(setting, quantity, np.asarray(values), claimed, _side(interval.high <= bound, interval.low > bound))


def no_worse(setting: str, quantity: str, loss: np.ndarray, reference: np.ndarray) -> Row:
    """A row for a claim that a loss is no higher than a reference's, up to `MARGIN` of the reference."""
    return at_most(setting, quantity, loss - reference, MARGIN * float(np.mean(reference)))


def of(rows: Sequence[Row]) -> Verdict:
    """The claim's: 'holds' where every row holds, 'does not hold' where none does, else 'depends'."""
    held = sum(row.verdict == "holds" for row in rows)
    if held == len(rows):
        return "holds"
    return "depends" if held else "does not hold"


class Claim(NamedTuple):
    """A claim of the lesson, and what was found.

    Attributes:
      name: that of the experiment.
      source: where it stands.
      says: the claim, in the lesson's words.
      equations: what it is about, a line each.
      method: how it was put to the test.
      rows: what was measured.
      why: one sentence, with measured numbers.
      figure: the name of its figure, without a suffix.
      legend: what the figure shows.
      rates: the chosen learning rates, by setting and arm.
      numbers: what else was measured, for results.json.
      moving: whether there is an animation beside the figure.
    """

    name: str
    source: str
    says: str
    equations: tuple[str, ...]
    method: str
    rows: tuple[Row, ...]
    why: str
    figure: str
    legend: str
    rates: dict[str, Any]
    numbers: dict[str, Any] = {}  # noqa: RUF012 never changed
    moving: bool = False

    @property
    def verdict(self) -> Verdict:
        """That of all rows."""
        return of(self.rows)


def _side(claimed, other):
    if claimed:
        return "holds"
    return "does not hold" if other else "not told apart"
