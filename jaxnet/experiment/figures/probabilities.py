"""What probabilities of classes or labels are worth on the test part: ROC curves, and how far they can be believed."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnet.experiment.data.problem import LIKELY, Problem
from jaxnet.experiment.figures.canvas import (
    BLUE,
    GREY,
    LINE_COLOURS,
    LINE_STYLES,
    ORANGE,
    pyplot,
    save,
    short_names,
)
from jaxnet.experiment.training import ranking

# Of more classes those with the least AUC have a colour and a name, and the others are grey.
MOST_NAMED = 8
MOST_BINS = 10
# In a bin on average, at least: fewer examples say little of a share.
LEAST_IN_A_BIN = 20


class _Question(NamedTuple):
    """Whether an example has a class or a label: of each example, and with which probability."""

    name: str
    has: np.ndarray
    probability: np.ndarray


def draw_roc(
    path: Path, predicted: np.ndarray, y: np.ndarray, problem: Problem, weights: np.ndarray | None = None
) -> None:
    """For each class, or label, against the rest: the share that is found, against the share of false alarms.

    Args:
      path: of the figure.
      predicted: probabilities (m, classes) or (m, targets).
      y: numbers of classes (m,), or labels (m, targets).
      problem: what was learnt.
      weights: (m,), what each example counts; None where all count alike.
    """
    curves = []
    for question in _questions(predicted, y, problem):
        counted = question.has if weights is None else question.has[weights > 0]
        if counted.any() and not counted.all():
            alarms, found = ranking.roc(question.has, question.probability, weights)
            curves.append((question.name, alarms, found, ranking.area(alarms, found)))
    few = len(curves) <= MOST_NAMED
    # The least last: drawn over the others, and beside each other in the legend.
    curves.sort(key=lambda curve: curve[3], reverse=True)
    named = curves if few else curves[-MOST_NAMED:]
    names = short_names([name for name, *_ in named], 20)
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(6.6 + 0.09 * max(map(len, names), default=0), 4.6), layout="constrained")
    for k, (_, alarms, found, _) in enumerate(curves[: len(curves) - len(named)]):
        label = f"the {len(curves) - len(named)} others" if k == 0 else None
        axes.plot(100 * alarms, 100 * found, color="#BBBBBB", lw=0.8, label=label)
    for k, (name, (_, alarms, found, area)) in enumerate(zip(names, named, strict=True)):
        style = LINE_STYLES[k // 2 % len(LINE_STYLES)]
        axes.plot(100 * alarms, 100 * found, style, color=LINE_COLOURS[k], lw=1.6, label=f"{name} ({area:.3f})")
    axes.plot([0, 100], [0, 100], color=GREY, lw=0.8)
    axes.text(52, 48, "by chance", color=GREY, rotation=45, rotation_mode="anchor", va="top", fontsize=9)
    axes.set(
        xlim=(-2, 102), ylim=(-2, 102), aspect="equal", xlabel="false positive rate (%)",
        ylabel="true positive rate (%)",
    )  # fmt: skip
    axes.set_title(f"ROC, test part, {len(y)} examples")
    if curves:
        title = "AUC" if few else f"the least {len(named)} AUC of {len(curves)}"
        figure.legend(loc="outside right upper", frameon=False, title=title, alignment="left")
    save(plt, figure, path)


def _questions(predicted, y, problem):
    if problem.labels:
        return [_Question(*of) for of in zip(problem.targets, y.T >= LIKELY, predicted.T, strict=True)]
    classes = list(enumerate(problem.classes))
    # Of two, the curve of one is that of the other, mirrored.
    return [_Question(name, y == k, predicted[:, k]) for k, name in (classes[1:] if len(classes) == 2 else classes)]


def draw_calibration(
    path: Path, predicted: np.ndarray, y: np.ndarray, problem: Problem, weights: np.ndarray | None = None
) -> None:
    """How often what is said with some probability is true, in bins of as many examples, with 95% intervals.

    Of two classes the probability is that of the second; of more, that of the class that is decided for; of labels,
    that of every label.

    Args:
      path, predicted, y, problem, weights: as for `draw_roc`.
    """
    said, is_true, of_what = _said(predicted, y, problem)
    counts = np.ones(len(y)) if weights is None else weights
    counts = np.repeat(counts, len(said) // len(y))
    order = np.argsort(said, kind="stable")
    many = int(np.clip(len(said) // LEAST_IN_A_BIN, 1, MOST_BINS))
    bins = [at for at in np.array_split(order, many) if counts[at].any()]
    x, share = (np.array([np.average(of[at], weights=counts[at]) for at in bins]) for of in (said, is_true))
    total = np.array([counts[at].sum() for at in bins])
    error = np.average(np.abs(x - share), weights=total)
    plt = pyplot()
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(5.0, 5.8), layout="constrained", sharex=True, height_ratios=(4, 1)
    )
    upper.plot([0, 100], [0, 100], color=GREY, lw=1, label="probability = share")
    bars = _intervals(share, np.array([counts[at].sum() ** 2 / (counts[at] ** 2).sum() for at in bins]))
    upper.errorbar(
        100 * x, 100 * share, 100 * np.abs(bars - share), fmt="o-", color=BLUE, ms=5, lw=1.2, capsize=2,
        label="test part, 95% intervals",
    )  # fmt: skip
    upper.set(xlim=(-2, 102), ylim=(-2, 102), ylabel="how often it is true (%)")
    upper.set_title(f"Calibration: off by {100 * error:.1f}% on average")
    upper.legend(frameon=False, loc="upper left")
    lower.hist(100 * said, bins=np.linspace(0, 100, 21), weights=counts, color=ORANGE)
    lower.set(xlabel=f"probability of {of_what} (%)", ylabel="labels" if problem.labels else "examples")
    figure.align_ylabels()
    save(plt, figure, path)


def _said(predicted: np.ndarray, y: np.ndarray, problem: Problem) -> tuple[Any, Any, str]:
    """Probabilities, whether what they are of is true, and what that is."""
    if problem.labels:
        return predicted.ravel(), (y >= LIKELY).ravel(), "each label"
    if len(problem.classes) == 2:
        (_, name) = short_names(problem.classes, 24)
        return predicted[:, 1], y == 1, name
    return predicted.max(axis=1), predicted.argmax(axis=1) == y, "the class decided for"


def _intervals(share, examples):
    """Wilson's intervals of shares of so many examples: (2, bins), the lower and the upper ends."""
    z = 1.96
    middle = (share + z**2 / (2 * examples)) / (1 + z**2 / examples)
    half = z / (1 + z**2 / examples) * np.sqrt(share * (1 - share) / examples + z**2 / (4 * examples**2))
    return np.stack([np.minimum(middle - half, share), np.maximum(middle + half, share)])
