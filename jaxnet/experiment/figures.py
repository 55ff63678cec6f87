"""The pictures of a run: how the loss fell, and what the model makes of the test part."""

import contextlib
import os
import warnings
from pathlib import Path

import numpy as np

from jaxnet.experiment.loop import Epoch
from jaxnet.experiment.model import Model
from jaxnet.experiment.problem import Problem

# Okabe and Ito's colours, told apart by colour-blind readers; they differ in lightness, so in grey too.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#666666"
CLASS_COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
# One fewer than the colours, so that no two of the first 56 classes look the same.
MARKERS = ["o", "^", "s", "D", "v", "P", "X"]
# Thin lines in yellow are lost on white.
RUN_COLOURS = [GREY if colour == "#F0E442" else colour for colour in CLASS_COLOURS]
LINE_STYLES = ["-", "--", ":", "-."]
MOST_LETTERS_OF_A_RUN = 60
MOST_CLASSES_NAMED = 25
MOST_TARGETS_DRAWN = 6


def get_ready() -> None:
    """Loads Matplotlib, for a thread that does so ahead of the drawing, which tells what goes wrong."""
    with contextlib.suppress(Exception):
        _pyplot()


def _pyplot():
    os.environ["MPLBACKEND"] = "agg"
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "savefig.dpi": 150,
        }
    )
    return plt


def draw_curves(path: Path, epochs: list[Epoch], problem: Problem, kept: Epoch) -> None:
    """Loss, and accuracy or RMSE, against the epoch."""
    plt = _pyplot()
    numbers = [epoch.number for epoch in epochs]
    accuracy = bool(problem.classes)
    figure, left, right = _panels(plt, [epochs], accuracy=accuracy)
    marker = "." if len(epochs) == 1 else None
    validation = {"color": ORANGE, "ls": "--", "marker": marker}
    left.plot(numbers, [epoch.train_loss for epoch in epochs], color=BLUE, marker=marker, label="training")
    left.plot(numbers, [epoch.validation_loss for epoch in epochs], **validation, label="validation")
    left.set_title("Loss")
    values = _metric(epochs, accuracy=accuracy)
    right.plot(numbers, values, **validation)
    right.plot(
        [kept.number], [values[kept.number - 1]], "o", color=GREEN, label=f"parameters kept, epoch {kept.number}"
    )
    right.set_title("Accuracy" if accuracy else "Root mean squared error")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    _save(plt, figure, path)


def draw_comparison(path: Path, runs: dict[str, list[Epoch]], *, accuracy: bool) -> None:
    """Losses, and accuracy or RMSE, of several runs against the epoch, a colour for each run.

    Args:
      path: of the figure; its ending says in which format.
      runs: by name, each with one epoch or more.
      accuracy: whether the metric is the accuracy, of classes; else it is the RMSE.
    """
    plt = _pyplot()
    figure, left, right = _panels(plt, list(runs.values()), accuracy=accuracy)
    validation = []
    for k, epochs in enumerate(runs.values()):
        numbers = [epoch.number for epoch in epochs]
        best = min(range(len(epochs)), key=lambda k: epochs[k].validation_loss)
        look = {"color": RUN_COLOURS[k % len(RUN_COLOURS)], "ls": LINE_STYLES[k // len(RUN_COLOURS) % len(LINE_STYLES)]}
        # A line of one point shows as its marker only.
        faint = {"lw": 0.8, "alpha": 0.5, "marker": "." if len(epochs) == 1 else None}
        solid = {"marker": "o", "ms": 5, "markevery": [best]}
        left.plot(numbers, [epoch.train_loss for epoch in epochs], **look, **faint)
        validation += left.plot(numbers, [epoch.validation_loss for epoch in epochs], **look, **solid)
        right.plot(numbers, _metric(epochs, accuracy=accuracy), **look, **solid)
    left.set_title("Loss: validation, and training (thin)")
    right.set_title("Validation accuracy" if accuracy else "Validation RMSE")
    _name_below(figure, validation, _short_names(tuple(runs), MOST_LETTERS_OF_A_RUN))
    _save(plt, figure, path)


def _name_below(figure, lines, names):
    """A legend of as many columns as fit below the panels, in a figure that grows by it."""
    title = "● where the validation loss is lowest"
    for columns in (4, 3, 2, 1):
        legend = figure.legend(lines, names, loc="outside lower center", title=title, ncols=columns, frameon=False)
        with _letters_as_boxes():
            extent = legend.get_window_extent()
        if extent.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + extent.height / figure.dpi)


def _panels(plt, runs, *, accuracy):
    """A figure with a panel for losses and one for the metric, and axes that suit the runs' epochs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.9), layout="constrained")
    left.set(ylabel="cross-entropy (nats per example)" if accuracy else "half squared error (scaled targets)")
    right.set(ylabel="accuracy (%)" if accuracy else "RMSE (units of the target)")
    if all(min(epoch.train_loss, epoch.validation_loss) > 0 for epochs in runs for epoch in epochs):
        left.set_yscale("log")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        if max(map(len, runs)) == 1:
            axes.set_xticks([1])
        else:
            axes.xaxis.get_major_locator().set_params(integer=True)
    return figure, left, right


def _metric(epochs, *, accuracy):
    """As it is drawn: accuracy in percent."""
    return [epoch.validation_metric * (100 if accuracy else 1) for epoch in epochs]


def draw_diagnostics(path: Path, epochs: list[Epoch]) -> None:
    """What `--diagnostics` measured of each layer, against the epoch."""
    plt = _pyplot()
    measured = {epoch.number: epoch.diagnostics["layers"] for epoch in epochs if epoch.diagnostics is not None}
    panels = {
        "gradient_norm": ("Gradient", "norm"),
        "update_to_weight": ("Update", "norm, relative to the weights'"),
        "dead": ("Dead units", "% of the layer's"),
        "saturated": ("Flat slopes", "% of units and examples"),
    }
    figure, grid = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    for axes, (name, (title, label)) in zip(grid.flat, panels.items(), strict=True):
        share = name in ("dead", "saturated")
        for number in range(len(next(iter(measured.values())))):
            values = [layers[number].get(name) for layers in measured.values()]
            if any(value is not None for value in values):
                scaled = [np.nan if value is None else value * (100 if share else 1) for value in values]
                colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
                marker = "." if len(measured) == 1 else None
                axes.plot(list(measured), scaled, color=colour, marker=marker, label=f"layer {number + 1}")
        if share:
            axes.set_ylim(-3, 103)
        elif any(np.nanmax(line.get_ydata()) > 0 for line in axes.lines):
            axes.set_yscale("log")
        axes.set(title=title, xlabel="epoch", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(8, len(labels)), frameon=False)
    _save(plt, figure, path)


def draw_confusion(path: Path, predicted: np.ndarray, y: np.ndarray, classes: tuple[str, ...]) -> None:
    """How many test examples of each class (row) were given to each class (column)."""
    plt = _pyplot()
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (y, predicted), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(1.8 + 0.45 * len(classes), 3.6, 12))
    figure, axes = plt.subplots(figsize=(side + 1, side), layout="constrained")
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, label="share of the true class (%)", shrink=0.8)
    axes.set(xlabel="predicted class", ylabel="true class", title=f"Test part, {len(y)} examples")
    axes.spines[:].set_visible(False)
    # With many classes every second, third, ... is named.
    named = range(0, len(classes), -(-len(classes) // MOST_CLASSES_NAMED))
    names = [_short_names(classes)[k] for k in named]
    slanted = max(map(len, names)) > 3
    axes.set_xticks(named, names, rotation=45 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(named, names)
    if len(classes) <= MOST_CLASSES_NAMED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    _save(plt, figure, path)


def draw_predictions(path: Path, predicted: np.ndarray, y: np.ndarray, targets: tuple[str, ...]) -> None:
    """Predicted against true values of the test part, for each target."""
    plt = _pyplot()
    shown = min(len(targets), MOST_TARGETS_DRAWN)
    figure, axes = plt.subplots(1, shown, figsize=(3.8 * shown + 0.4, 4.2), layout="constrained", squeeze=False)
    for k, panel in enumerate(axes[0]):
        low, high = min(y[:, k].min(), predicted[:, k].min()), max(y[:, k].max(), predicted[:, k].max())
        margin = 0.05 * (high - low) or 1.0
        ends = [low - margin, high + margin]
        panel.plot(ends, ends, color=GREY, lw=1, label="predicted = true")
        panel.plot(y[:, k], predicted[:, k], "o", color=BLUE, ms=4, alpha=0.6, label="test example")
        name = _short(targets[k], 30)
        panel.set(xlim=ends, ylim=ends, aspect="equal", xlabel=f"true {name}", ylabel=f"predicted {name}")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    if shown < len(targets):
        figure.suptitle(f"The first {shown} of {len(targets)} targets")
    _save(plt, figure, path)


def draw_boundary(path: Path, model: Model, x: np.ndarray, y: np.ndarray) -> None:
    """The classes that the model gives to the plane, and the test examples (standardised features) on it."""
    plt = _pyplot()
    classes = model.problem.classes
    low, high = x.min(axis=0), x.max(axis=0)
    margin = np.where(high > low, 0.1 * (high - low), 1.0)
    first, second = (np.linspace(a, b, 300) for a, b in zip(low - margin, high + margin, strict=True))
    grid = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    regions = model.predict(grid).argmax(axis=1).reshape(len(second), len(first))
    first, second = _raw(model, first, 0), _raw(model, second, 1)
    colours = [CLASS_COLOURS[k % len(CLASS_COLOURS)] for k in range(len(classes))]
    columns = -(-len(classes) // 13) if len(classes) <= MOST_CLASSES_NAMED else 0
    figure, axes = plt.subplots(figsize=(4.8 + 2.2 * columns, 4.6), layout="constrained")
    levels = np.arange(len(classes) + 1) - 0.5
    axes.contourf(first, second, regions, levels=levels, colors=colours, alpha=0.25)
    axes.contour(first, second, regions, levels=levels[1:-1], colors="black", linewidths=1)
    points = []
    for k in range(len(classes)):
        of_class = _raw(model, x[y == k, 0], 0), _raw(model, x[y == k, 1], 1)
        marker = MARKERS[k % len(MARKERS)]
        points += axes.plot(*of_class, marker, color=colours[k], ms=5, mec="white", mew=0.5)
    axes.set(xlabel=_short(model.features[0], 40), ylabel=_short(model.features[1], 40))
    axes.set_title("Decision boundary, test examples")
    if columns:
        names, title = _short_names(classes), _short(model.problem.targets[0])
        figure.legend(points, names, loc="outside right upper", title=title, frameon=False, ncols=columns)
    _save(plt, figure, path)


def _raw(model, values, feature):
    """Standardised values of a feature in its own units; a constant one's around its value."""
    mean, factor = (part[feature] for part in model.standardisation)
    return values / factor + mean if factor > 0 else values + mean


def _short(name, most=18):
    """A name that fits, with both its ends, as text: a $ in it begins no formula."""
    fits = name if len(name) <= most else f"{name[: most - 8]}…{name[-7:]}"
    return fits.replace("$", r"\$")


def _short_names(names, most=18):
    """Names that fit, numbered where some would look the same."""
    fitting = [_short(name, most) for name in names]
    return fitting if len(set(fitting)) == len(names) else [f"{k}. {name}" for k, name in enumerate(fitting, 1)]


def _save(plt, figure, path):
    with _letters_as_boxes():
        figure.savefig(path)
    plt.close(figure)


@contextlib.contextmanager
def _letters_as_boxes():
    """Letters that no installed font has are drawn as boxes, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
