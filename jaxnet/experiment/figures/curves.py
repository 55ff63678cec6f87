"""How losses, the metric and the layers went, epoch by epoch."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.figures.canvas import (
    BLUE,
    GREEN,
    LINE_COLOURS,
    LINE_STYLES,
    MARKERS,
    ORANGE,
    letters_as_boxes,
    log_axis,
    pyplot,
    save,
    short_names,
)
from jaxnet.experiment.training.position import Epoch

MOST_LETTERS_OF_A_RUN = 60
# Of a line with markers, how many it has at most.
MOST_MARKERS = 10
# Where the longest run has so many times the epochs of the shortest, the shortest is a stroke beside it: epochs then go
# by their logarithm.
UNLIKE_LENGTHS = 10
# Of a layer's diagnostics: title and axis.
PANELS = {
    "gradient_norm": ("Gradient", "norm"),
    "update_to_weight": ("Update", "norm, relative to the weights'"),
    "dead": ("Dead units", "% of the layer's"),
    "saturated": ("Flat slopes", "% of units and examples"),
}


def draw_curves(path: Path, epochs: list[Epoch], problem: Problem, kept: Epoch, training: str = "training") -> None:
    """Loss, and accuracy or RMSE, against the epoch; and the learning rate where it changes.

    Args:
      path: of the figure; its ending says in which format.
      epochs: of the run.
      problem: what was learnt.
      kept: the epoch whose parameters are kept.
      training: the name of the training loss.
    """
    plt = pyplot()
    numbers = [epoch.number for epoch in epochs]
    accuracy = problem.metric == "accuracy"
    rates = [epoch.learning_rate for epoch in epochs]
    changes = None not in rates and len(set(rates)) > 1
    figure, left, right, *third = _panels(plt, accuracy=accuracy, panels=3 if changes else 2)
    marker = "." if len(epochs) == 1 else None
    validation = {"color": ORANGE, "ls": "--", "marker": marker}
    left.plot(numbers, [epoch.train_loss for epoch in epochs], color=BLUE, marker=marker, label=training)
    left.plot(numbers, [epoch.validation_loss for epoch in epochs], **validation, label="validation")
    left.set_title("Loss")
    values = _metric(epochs, accuracy=accuracy)
    right.plot(numbers, values, **validation)
    if epochs[0].seeds is not None:
        _draw_bands(left, right, epochs, accuracy=accuracy)
    point: dict[str, Any] = {"color": GREEN, "ls": "", "marker": "o"}
    left.plot([kept.number], [kept.validation_loss], **point, label=f"parameters kept, epoch {kept.number}")
    right.plot([kept.number], [values[kept.number - 1]], **point)
    right.set_title("Accuracy" if accuracy else "Root mean squared error")
    _number_axes([left, right, *third], [epochs])
    for axes in third:
        axes.plot(numbers, rates, color="black", marker=marker)
        axes.set(title="Learning rate", ylabel="of the epoch's last step", ylim=(0, None))
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    save(plt, figure, path)


def _draw_bands(left, right, epochs, *, accuracy):
    """From the lowest to the highest of several seeds, around their means."""
    label = f"lowest to highest of {len(epochs[0].seeds['train_loss'])} seeds"
    _draw_band(left, epochs, "train_loss", BLUE)
    _draw_band(left, epochs, "validation_loss", ORANGE, label=label)
    _draw_band(right, epochs, "validation_metric", ORANGE, factor=100 if accuracy else 1)


def _draw_band(axes, epochs, name, colour, *, factor=1, label=None):
    numbers, each = [epoch.number for epoch in epochs], factor * np.array([epoch.seeds[name] for epoch in epochs])
    look = {"color": colour, "alpha": 0.25, "label": label}
    # Of one epoch a band is a bar.
    if len(epochs) == 1:
        axes.vlines(numbers, each.min(axis=1), each.max(axis=1), lw=6, **look)
    else:
        axes.fill_between(numbers, each.min(axis=1), each.max(axis=1), lw=0, **look)


def draw_comparison(path: Path, runs: dict[str, list[Epoch]], *, accuracy: bool) -> None:
    """Losses, and accuracy or RMSE, of several runs against the epoch, a colour for each run.

    Args:
      path: of the figure; its ending says in which format.
      runs: by name, each with one epoch or more.
      accuracy: whether the metric is the accuracy, of classes; else it is the RMSE.
    """
    plt = pyplot()
    figure, left, right = _panels(plt, accuracy=accuracy)
    validation = []
    for k, epochs in enumerate(runs.values()):
        numbers = [epoch.number for epoch in epochs]
        best = min(range(len(epochs)), key=lambda k: epochs[k].validation_loss)
        style = LINE_STYLES[k // len(LINE_COLOURS) % len(LINE_STYLES)]
        look = {"color": LINE_COLOURS[k % len(LINE_COLOURS)], "ls": style}
        # A line of one point shows as its marker only.
        faint = {"lw": 0.8, "alpha": 0.5, "marker": "." if len(epochs) == 1 else None}
        solid = {"marker": MARKERS[k % len(MARKERS)], "ms": 6, "markevery": [best]}
        left.plot(numbers, [epoch.train_loss for epoch in epochs], **look, **faint)
        validation += left.plot(numbers, [epoch.validation_loss for epoch in epochs], **look, **solid)
        right.plot(numbers, _metric(epochs, accuracy=accuracy), **look, **solid)
        if epochs[0].seeds is not None:
            _draw_band(left, epochs, "validation_loss", look["color"])
            _draw_band(right, epochs, "validation_metric", look["color"], factor=100 if accuracy else 1)
    left.set_title("Loss: validation, and training (thin)")
    right.set_title("Validation accuracy" if accuracy else "Validation RMSE")
    _number_axes([left, right], list(runs.values()))
    bands = any(epochs[0].seeds is not None for epochs in runs.values())
    title = "marked: where the validation loss is lowest" + ("; bands: lowest to highest of a run's seeds" * bands)
    _name_below(figure, validation, short_names(tuple(runs), MOST_LETTERS_OF_A_RUN), title)
    save(plt, figure, path)


def draw_diagnostics(path: Path, epochs: list[Epoch]) -> None:
    """What `--diagnostics` measured of each layer, against the epoch."""
    plt = pyplot()
    measured = {epoch.number: epoch.diagnostics["layers"] for epoch in epochs if epoch.diagnostics is not None}
    figure, grid = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    for axes, (name, (title, label)) in zip(grid.flat, PANELS.items(), strict=True):
        for number in range(len(next(iter(measured.values())))):
            values = [layers[number].get(name) for layers in measured.values()]
            # A last layer has no activation; a layer of zeros has no ratio to its weights.
            known = np.array([np.nan if value is None else value for value in values]) * (100 if "%" in label else 1)
            axes.plot(list(measured), known, **_look(number, len(measured)), label=f"layer {number + 1}")
        axes.set(title=title, xlabel="epoch", ylabel=label)
        if "%" in label:
            axes.set_ylim(-3, 103)
        elif any((line.get_ydata() > 0).any() for line in axes.lines):
            log_axis(axes.yaxis)
        if len(measured) == 1:
            axes.set_xticks(list(measured))
        else:
            axes.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(8 if len(labels) < 10 else 6, len(labels)), frameon=False
    )
    save(plt, figure, path)


def _look(number, points):
    """Of a layer's line: layers next to each other differ in colour, in dashes and in marker, so in grey too."""
    of = {"color": LINE_COLOURS, "ls": LINE_STYLES, "marker": MARKERS}
    spread = max(1, points // MOST_MARKERS)
    # Markers of lines that lie on each other do not.
    every = (number % spread, spread)
    return {name: kinds[number % len(kinds)] for name, kinds in of.items()} | {"ms": 4, "markevery": every}


def _name_below(figure, lines, names, title):
    """A legend of as many columns as fit below the panels, in a figure that grows by it."""
    for columns in (4, 3, 2, 1):
        legend = figure.legend(lines, names, loc="outside lower center", title=title, ncols=columns, frameon=False)
        with letters_as_boxes():
            extent = legend.get_window_extent()
        if extent.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + extent.height / figure.dpi)


def _panels(plt, *, accuracy, panels=2):
    """A figure with a panel for losses, one for the metric, and others."""
    figure, (left, right, *others) = plt.subplots(1, panels, figsize=(4.5 * panels, 3.9), layout="constrained")
    left.set(ylabel="cross-entropy (nats per example)" if accuracy else "half squared error (scaled targets)")
    right.set(ylabel="accuracy (%)" if accuracy else "RMSE (units of the target)")
    return figure, left, right, *others


def _number_axes(panels, runs):
    """Axes that suit the runs' epochs, and the losses that are drawn in the first of the panels."""
    if all(min(epoch.train_loss, epoch.validation_loss) > 0 for epochs in runs for epoch in epochs):
        log_axis(panels[0].yaxis)
    lengths = list(map(len, runs))
    for axes in panels:
        axes.set_xlabel("epoch")
        if max(lengths) == 1:
            axes.set_xticks([1])
        elif max(lengths) >= UNLIKE_LENGTHS * min(lengths):
            log_axis(axes.xaxis)
        else:
            axes.xaxis.get_major_locator().set_params(integer=True)


def _metric(epochs, *, accuracy):
    """As it is drawn: accuracy in percent."""
    return [epoch.validation_metric * (100 if accuracy else 1) for epoch in epochs]
