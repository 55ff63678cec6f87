"""How the lesson's figures look: a colour, a line and a marker for each activation, the same in all of them."""

from typing import Any

import numpy as np
from benchmarks import report

from claims.verdict import Interval
from jaxnet.experiment.figures.canvas import GREY

# Okabe and Ito's colours, told apart by colour-blind readers; in grey, the lines' dashes and the markers tell.
LINES: dict[str, dict[str, Any]] = {
    "sigmoid": {"color": "#E69F00", "ls": "--", "marker": "s"},
    "tanh": {"color": "#0072B2", "ls": "-", "marker": "o"},
    "relu": {"color": "#009E73", "ls": "-.", "marker": "^"},
    "leaky_relu": {"color": "#CC79A7", "ls": ":", "marker": "D"},
    "sigmoid - 1/2": {"color": "#D55E00", "ls": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    "none": {"color": GREY, "ls": (0, (6, 2)), "marker": "x"},
}
NAMES = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU", "leaky_relu": "leaky ReLU", "none": "no activation"}
# For what is not an activation: light to dark, told apart in grey.
SHADES = ("#56B4E9", "#D55E00", "#000000")
DASHES = ("-", "--", ":")


def epoch_axis(axes: Any, label: str = "epochs") -> None:
    """An x axis of whole numbers."""
    axes.set_xlabel(label)
    axes.xaxis.get_major_locator().set_params(integer=True)


def draw_mean(axes: Any, runs: np.ndarray, *, each: int = 5, **line: Any) -> None:
    """The mean over the seeds of `runs (seeds, epochs + 1)` against the epoch, in its 95% interval."""
    epochs = np.arange(runs.shape[1])
    intervals = np.array([Interval.of(values) for values in runs.T])
    low = np.maximum(intervals[:, 1], runs.min(axis=0))
    axes.fill_between(epochs, low, intervals[:, 2], color=line["color"], alpha=report.BAND, lw=0)
    axes.plot(epochs, intervals[:, 0], **{"ms": 4, "markevery": each, **line})
