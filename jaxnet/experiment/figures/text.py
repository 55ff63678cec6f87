"""Figures of a run on text: loss in bits, gradients by position and by example, attention maps, noise scale."""

import math
from pathlib import Path

import numpy as np

from jaxnet.experiment.figures.canvas import BLUE, GREEN, ORANGE, log_axis, pyplot, save
from jaxnet.experiment.training.position import Epoch
from jaxnet.experiment.training.text_readings import Readings

# Of attention maps, blocks and heads that are shown at most.
MOST_BLOCKS, MOST_HEADS = 6, 8
NATS_A_BIT = math.log(2)


def draw_loss(path: Path, epochs: list[Epoch], kept: Epoch, unit: str, training: str = "training") -> None:
    """Loss in bits for each token, and how many of them were foreseen, against the epoch."""
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.9), layout="constrained")
    numbers = [epoch.number for epoch in epochs]
    marker = "." if len(epochs) == 1 else None
    dashed = {"color": ORANGE, "ls": "--", "marker": marker}
    train, validation = (
        [loss / NATS_A_BIT for loss in losses]
        for losses in zip(*((epoch.train_loss, epoch.validation_loss) for epoch in epochs), strict=True)
    )
    left.plot(numbers, train, color=BLUE, marker=marker, label=training)
    left.plot(numbers, validation, **dashed, label="validation")
    accuracy = [100 * epoch.validation_metric for epoch in epochs]
    right.plot(numbers, accuracy, **dashed)
    at, label = kept.number - 1, f"parameters kept, epoch {kept.number}"
    left.plot([kept.number], [validation[at]], "o", color=GREEN, label=label)
    right.plot([kept.number], [accuracy[at]], "o", color=GREEN)
    left.set(title="Loss", ylabel=f"bits for each {unit}")
    right.set(title=f"The next {unit}", ylabel="foreseen in the validation part (%)")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    save(plt, figure, path)


def draw_gradients(path: Path, readings: Readings, unit: str) -> None:
    """Loss and gradient norm by position, and gradient norm by example, of a few windows."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    all_places = np.arange(readings.losses.shape[1])
    panels = (
        (all_places, readings.losses / NATS_A_BIT, "Loss by position", f"bits for the {unit}"),
        (readings.places, readings.by_position, "Gradient by position", "norm of the position's own"),
    )
    for panel, (places, values, title, label) in zip(axes, panels, strict=False):
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
        panel.fill_between(places + 1, low, high, color=BLUE, alpha=0.25, lw=0, label="half of the windows")
        panel.plot(places + 1, middle, color=BLUE, marker="." if len(places) == 1 else None, label="median")
        panel.set(title=title, xlabel=f"{unit}s seen before", ylabel=label)
        panel.set_ylim(bottom=0)
        panel.legend(frameon=False, fontsize=8)
    axes[2].hist(readings.by_example, bins=min(20, len(readings.by_example)), color=BLUE, edgecolor="white")
    axes[2].set(title="Gradient by example", xlabel="norm of the window's mean", ylabel="windows")
    axes[2].yaxis.get_major_locator().set_params(integer=True)
    save(plt, figure, path)


def draw_attention(path: Path, maps: list[np.ndarray], letters: list[str]) -> None:
    """Where each token of a prompt looks, block by block and head by head.

    Args:
      path: of the figure.
      maps: (heads, t, t) of each block.
      letters: the prompt's tokens (t,), as they are to be shown.
    """
    plt = pyplot()
    maps = [one[:MOST_HEADS] for one in maps[:MOST_BLOCKS]]
    rows, columns = len(maps), max(map(len, maps))
    figure, grid = plt.subplots(
        rows, columns, figsize=(2.3 * columns + 1.2, 2.3 * rows + 0.6), layout="constrained", squeeze=False
    )
    image = None
    for row, of_block in enumerate(maps):
        for column, p in enumerate(of_block):
            axes = grid[row, column]
            image = axes.imshow(p, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(f"block {row + 1}, head {column + 1}", fontsize=8)
            places = range(len(letters))
            axes.set_xticks(places, letters if row == rows - 1 else [""] * len(letters), fontsize=6)
            axes.set_yticks(places, letters if column == 0 else [""] * len(letters), fontsize=6)
            axes.tick_params(length=0, pad=1)
    figure.supxlabel("token that is looked at", fontsize=9)
    figure.supylabel("token that looks", fontsize=9)
    figure.colorbar(image, ax=grid, shrink=0.6, label="share of attention")
    save(plt, figure, path)


def draw_noise(path: Path, epochs: list[Epoch]) -> None:
    """The gradients' noise scale after each epoch that has been looked at."""
    told = {e.number: e.diagnostics["noise_scale"] for e in epochs if e.diagnostics and "noise_scale" in e.diagnostics}
    known = {number: value for number, value in told.items() if value is not None and value > 0}
    if not known:
        return
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
    axes.plot(list(known), list(known.values()), color=BLUE, marker="o", ms=3)
    axes.set(title="Noise of the gradients", xlabel="epoch", ylabel="noise scale (windows)")
    log_axis(axes.yaxis)
    axes.xaxis.get_major_locator().set_params(integer=True)
    save(plt, figure, path)
