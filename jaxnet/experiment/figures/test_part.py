"""The pictures of a run: what the model makes of the test part."""

from pathlib import Path

import numpy as np

from jaxnet.experiment.figures.canvas import BLUE, CLASS_COLOURS, GREY, MARKERS, pyplot, save, short, short_names
from jaxnet.experiment.storage.model import Model

MOST_CLASSES_NAMED = 25
MOST_TARGETS_DRAWN = 6
# By how much a class's probability is ahead of the next one's, and how dark its region is there.
LEADS = (0, 0.25, 0.5, 0.75, 1)
SHADES = (0.1, 0.2, 0.3, 0.4)


def draw_confusion(path: Path, predicted: np.ndarray, y: np.ndarray, classes: tuple[str, ...]) -> None:
    """How many test examples of each class (row) were given to each class (column)."""
    plt = pyplot()
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
    names = [short_names(classes)[k] for k in named]
    slanted = max(map(len, names)) > 3
    axes.set_xticks(named, names, rotation=45 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(named, names)
    if len(classes) <= MOST_CLASSES_NAMED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    save(plt, figure, path)


def draw_predictions(path: Path, predicted: np.ndarray, y: np.ndarray, targets: tuple[str, ...]) -> None:
    """Predicted against true values of the test part, for each target."""
    plt = pyplot()
    shown = min(len(targets), MOST_TARGETS_DRAWN)
    figure, axes = plt.subplots(1, shown, figsize=(3.8 * shown + 0.4, 4.2), layout="constrained", squeeze=False)
    for k, panel in enumerate(axes[0]):
        low, high = min(y[:, k].min(), predicted[:, k].min()), max(y[:, k].max(), predicted[:, k].max())
        margin = 0.05 * (high - low) or 1.0
        ends = [low - margin, high + margin]
        panel.plot(ends, ends, color=GREY, lw=1, label="predicted = true")
        panel.plot(y[:, k], predicted[:, k], "o", color=BLUE, ms=4, alpha=0.6, label="test example")
        name = short(targets[k], 30)
        panel.set(xlim=ends, ylim=ends, aspect="equal", xlabel=f"true {name}", ylabel=f"predicted {name}")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    if shown < len(targets):
        figure.suptitle(f"The first {shown} of {len(targets)} targets")
    save(plt, figure, path)


def draw_boundary(path: Path, model: Model, x: np.ndarray, y: np.ndarray) -> None:
    """The classes that the model gives to the plane, and the test examples (scaled features) on it."""
    plt = pyplot()
    classes = model.problem.classes
    low, high = x.min(axis=0), x.max(axis=0)
    margin = np.where(high > low, 0.1 * (high - low), 1.0)
    first, second = (np.linspace(a, b, 300) for a, b in zip(low - margin, high + margin, strict=True))
    grid = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    probabilities = model.predict(grid).reshape(len(second), len(first), len(classes))
    first, second = _raw(model, first, 0), _raw(model, second, 1)
    colours = [CLASS_COLOURS[k % len(CLASS_COLOURS)] for k in range(len(classes))]
    columns = -(-len(classes) // 13) if len(classes) <= MOST_CLASSES_NAMED else 0
    figure, axes = plt.subplots(figsize=(4.8 + 2.2 * columns, 4.6), layout="constrained")
    for k, colour in enumerate(colours):
        others = np.delete(probabilities, k, axis=-1).max(axis=-1)
        lead = probabilities[..., k] - others
        # Contours are interpolated between the grid's points, where regions would be steps.
        axes.contourf(first, second, lead, levels=LEADS, colors=[(colour, shade) for shade in SHADES])
        axes.contour(first, second, lead, levels=[0], colors="black", linewidths=1)
    points = []
    for k in range(len(classes)):
        of_class = _raw(model, x[y == k, 0], 0), _raw(model, x[y == k, 1], 1)
        marker = MARKERS[k % len(MARKERS)]
        points += axes.plot(*of_class, marker, color=colours[k], ms=5, mec="white", mew=0.5)
    axes.set(xlabel=short(model.features[0], 40), ylabel=short(model.features[1], 40))
    axes.set_title("Decision boundary, test examples")
    greys = plt.matplotlib.colors.ListedColormap([("black", shade) for shade in SHADES])
    scale = plt.matplotlib.cm.ScalarMappable(plt.matplotlib.colors.BoundaryNorm(LEADS, len(SHADES)), greys)
    figure.colorbar(scale, ax=axes, label="probability, less the next class's", shrink=0.8)
    if columns:
        names, title = short_names(classes), short(model.problem.targets[0])
        figure.legend(points, names, loc="outside right upper", title=title, frameon=False, ncols=columns)
    save(plt, figure, path)


def _raw(model, values, feature):
    """Scaled values of a feature in its own units; a constant one's around its value."""
    shift, factor = model.scaling.shift[feature], model.scaling.factor[feature]
    return values / factor + shift if factor > 0 else values + shift
