"""The pictures of a run: how the loss fell, and what the model makes of the test part."""

from pathlib import Path

import numpy as np

from jaxnet.experiment.loop import Epoch
from jaxnet.experiment.model import Model
from jaxnet.experiment.problem import Problem

# Okabe and Ito's colours, told apart by colour-blind readers; they differ in lightness, so in grey too.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#666666"
CLASS_COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
MARKERS = ["o", "^", "s", "D", "v", "P", "X", "*"]
MOST_CLASSES_WRITTEN = 25


def _pyplot():
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 150})
    return plt


def draw_curves(path: Path, epochs: list[Epoch], problem: Problem, kept: Epoch) -> None:
    """Loss, and accuracy or RMSE, against the epoch."""
    plt = _pyplot()
    numbers = [epoch.number for epoch in epochs]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.9), layout="constrained")
    marker = "." if len(epochs) == 1 else None
    validation = {"color": ORANGE, "ls": "--", "marker": marker}
    left.plot(numbers, [epoch.train_loss for epoch in epochs], color=BLUE, marker=marker, label="training")
    left.plot(numbers, [epoch.validation_loss for epoch in epochs], **validation, label="validation")
    if all(min(epoch.train_loss, epoch.validation_loss) > 0 for epoch in epochs):
        left.set_yscale("log")
    what = "cross-entropy (nats per example)" if problem.classes else "half squared error (scaled targets)"
    left.set(xlabel="epoch", ylabel=what, title="Loss")

    accuracy = bool(problem.classes)
    values = [epoch.validation_metric * (100 if accuracy else 1) for epoch in epochs]
    right.plot(numbers, values, **validation)
    right.plot(
        [kept.number], [values[kept.number - 1]], "o", color=GREEN, label=f"parameters kept, epoch {kept.number}"
    )
    label = "accuracy (%)" if accuracy else "RMSE (units of the target)"
    right.set(xlabel="epoch", ylabel=label, title="Accuracy" if accuracy else "Root mean squared error")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
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
    if len(classes) <= MOST_CLASSES_WRITTEN:
        names = [name if len(name) <= 14 else name[:13] + "…" for name in classes]
        longest = max(map(len, names))
        upright = longest > 3
        axes.set_xticks(range(len(classes)), names, rotation=45 if upright else 0, ha="right" if upright else "center")
        axes.set_yticks(range(len(classes)), names)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    _save(plt, figure, path)


def draw_predictions(path: Path, predicted: np.ndarray, y: np.ndarray, targets: tuple[str, ...]) -> None:
    """Predicted against true values of the test part, for each target."""
    plt = _pyplot()
    shown = min(len(targets), 6)
    figure, axes = plt.subplots(1, shown, figsize=(3.8 * shown + 0.4, 3.9), layout="constrained", squeeze=False)
    for k, panel in enumerate(axes[0]):
        low, high = min(y[:, k].min(), predicted[:, k].min()), max(y[:, k].max(), predicted[:, k].max())
        margin = 0.05 * (high - low) or 1.0
        ends = [low - margin, high + margin]
        panel.plot(ends, ends, color=GREY, lw=1, label="predicted = true")
        panel.plot(y[:, k], predicted[:, k], "o", color=BLUE, ms=4, alpha=0.6, label="test example")
        panel.set(xlim=ends, ylim=ends, aspect="equal", xlabel=f"true {targets[k]}", ylabel=f"predicted {targets[k]}")
        if k == 0:
            panel.legend(frameon=False, loc="upper left", fontsize=8)
    _save(plt, figure, path)


def draw_boundary(path: Path, model: Model, x: np.ndarray, y: np.ndarray) -> None:
    """The classes that the model gives to the plane, and the test examples (raw features) on it."""
    plt = _pyplot()
    classes = model.problem.classes
    low, high = x.min(axis=0), x.max(axis=0)
    margin = 0.1 * np.maximum(high - low, 1e-9)
    first, second = (np.linspace(a, b, 300) for a, b in zip(low - margin, high + margin, strict=True))
    grid = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    regions = model.predict(grid).argmax(axis=1).reshape(len(second), len(first))
    colours = [CLASS_COLOURS[k % len(CLASS_COLOURS)] for k in range(len(classes))]
    figure, axes = plt.subplots(figsize=(5.4, 4.6), layout="constrained")
    levels = np.arange(len(classes) + 1) - 0.5
    axes.contourf(first, second, regions, levels=levels, colors=colours, alpha=0.25)
    axes.contour(first, second, regions, levels=levels[1:-1], colors="black", linewidths=1)
    for k, name in enumerate(classes):
        of_class = x[y == k]
        marker = MARKERS[k % len(MARKERS)]
        axes.plot(*of_class.T, marker, color=colours[k], ms=5, mec="white", mew=0.5, label=name)
    axes.set(xlabel=model.features[0], ylabel=model.features[1], title="Decision boundary and test examples")
    figure.legend(loc="outside right upper", title=model.problem.targets[0], frameon=False)
    _save(plt, figure, path)


def _save(plt, figure, path):
    figure.savefig(path)
    plt.close(figure)
