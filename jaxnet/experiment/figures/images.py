"""Figures of a run on images: first filters, feature maps, saliency, and the examples with the largest gradients."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.experiment.figures.canvas import pyplot, save, short

# What is shown at most.
MOST_FILTERS, MOST_LAYERS, MOST_MAPS = 64, 6, 12
COLUMNS = 8
LONGEST_NAME, LONGEST_IN_A_ROW = 16, 12


def draw_filters(path: Path, W: np.ndarray) -> None:
    """The weights (o, height, width, channels) of the first convolution, each filter by itself.

    Those of three channels are drawn in their colours, others channel by channel beside one another, in grey.
    """
    plt = pyplot()
    shown = W[:MOST_FILTERS]
    most = float(np.abs(shown).max()) or 1.0
    colours = W.shape[-1] == 3
    tiles = shown / (2 * most) + 0.5 if colours else [_beside(one, most) for one in shown]
    title = f"First convolution: {len(shown)} of {len(W)} filters" if len(shown) < len(W) else "First convolution"
    height, width = tiles[0].shape[:2]
    figure, grid = _grid(plt, len(shown), COLUMNS, 1.0 * max(1.0, width / height), 1.3, beside=1.4)
    figure.get_layout_engine().set(wspace=0.02 if W.shape[-1] in (1, 3) else 0.15)
    for number, (axes, tile) in enumerate(zip(grid, tiles, strict=False), start=1):
        image = axes.imshow(tile, interpolation="nearest", **({} if colours else _grey(-most, most)))
        axes.set_title(str(number), fontsize=7, pad=2)
    if colours:
        title += f"\neach channel from {-most:.2g} (dark) by 0 (half) to {most:.2g} (bright)"
    else:
        figure.colorbar(image, ax=list(grid), label="weight", shrink=0.7)
    figure.suptitle(title, fontsize=10)
    save(plt, figure, path)


def draw_feature_maps(path: Path, image: np.ndarray, maps: Sequence[np.ndarray], name: str) -> None:
    """What the activations let through of an image, some channels of each.

    Args:
      path: of the figure.
      image: (height, width, channels).
      maps: (height, width, channels) of each activation, in order.
      name: the image's class.
    """
    plt = pyplot()
    chosen = np.unique(np.linspace(0, len(maps) - 1, min(len(maps), MOST_LAYERS)).round().astype(int))
    columns = max(min(maps[k].shape[-1], MOST_MAPS) for k in chosen)
    figure, grid = plt.subplots(
        len(chosen), columns + 1, figsize=(0.95 * columns + 2.2, 1.15 * len(chosen) + 0.9), layout="constrained"
    )
    grid = np.reshape(grid, (len(chosen), columns + 1))
    for axes in grid.flat:
        axes.axis("off")
    _show(grid[0, 0], image, image.min(), image.max())
    grid[0, 0].set_title(f"is {short(name, LONGEST_IN_A_ROW)}", fontsize=7)
    for row, k in enumerate(chosen):
        of_layer = maps[k]
        most = float(np.abs(of_layer).max()) or 1.0
        for channel, axes in enumerate(grid[row, 1 : 1 + min(of_layer.shape[-1], MOST_MAPS)]):
            drawn = axes.imshow(of_layer[..., channel], interpolation="nearest", **_grey(min(0, of_layer.min()), most))
            axes.set_title(str(channel + 1), fontsize=7, pad=2)
        size = " x ".join(map(str, of_layer.shape[:2]))
        told = f"activation {k + 1}\n{size}\n{of_layer.shape[-1]} channels"
        figure.colorbar(drawn, ax=grid[row].tolist(), aspect=10, shrink=0.9).set_label(told, fontsize=7)
    figure.suptitle("Feature maps of one test image: channels of each activation", fontsize=10)
    save(plt, figure, path)


def draw_saliency(path: Path, images: np.ndarray, saliency: np.ndarray, names: Sequence[str]) -> None:
    """Where the signal goes: of some images, how much the loss changes with each pixel.

    Args:
      path: of the figure.
      images: (m, height, width, channels).
      saliency: (m, height, width), |dx| of each image's loss.
      names: the images' classes.
    """
    plt = pyplot()
    many = len(images)
    figure, grid = plt.subplots(2, many, figsize=(max(1.25 * many + 1.4, 6), 3.4), layout="constrained", squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for k, (image, of_image) in enumerate(zip(images, saliency, strict=True)):
        _show(grid[0, k], image, images.min(), images.max())
        grid[0, k].set_title(f"is {short(names[k], LONGEST_IN_A_ROW)}", fontsize=7)
        drawn = grid[1, k].imshow(of_image / (of_image.max() or 1.0), interpolation="nearest", **_grey(0, 1))
    figure.colorbar(drawn, ax=grid[1].tolist(), label="|dx|, share of\nthe image's most", aspect=10)
    figure.suptitle("Where the signal goes: |dx|, how much the loss changes with a pixel", fontsize=10)
    save(plt, figure, path)


def draw_largest(path: Path, images: np.ndarray, norms: np.ndarray, true: Sequence[str], said: Sequence[str]) -> None:
    """The examples whose loss has the longest gradients, with their class and what the network says.

    Args:
      path: of the figure.
      images: (m, height, width, channels), the longest gradient first.
      norms: (m,), of the gradients.
      true, said: classes, and those that are predicted.
    """
    plt = pyplot()
    figure, grid = _grid(plt, len(images), 6, 1.5, 2.1)
    for k, axes in enumerate(grid[: len(images)]):
        _show(axes, images[k], images.min(), images.max())
        of_one, as_one = (short(names[k], LONGEST_NAME) for names in (true, said))
        axes.set_title(f"is {of_one}\nsaid {as_one}\nnorm {norms[k]:.3g}", fontsize=8)
    figure.suptitle("Test images with the largest gradients", fontsize=10)
    save(plt, figure, path)


def _grid(plt, many, columns, width, height, beside=0.4):
    """A figure with room for so many panels without axes, and these in a row."""
    columns = min(columns, many)
    rows = -(-many // columns)
    size = (max(width * columns + beside, 4.0), height * rows + 0.6)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    return figure, list(grid.flat)


def _show(axes, image, low, high):
    """An image whose values go from low to high: three channels as colours, others by their mean in grey."""
    unit = (image - low) / ((high - low) or 1.0)
    if unit.shape[-1] == 3:
        axes.imshow(unit, interpolation="nearest")
    else:
        axes.imshow(unit.mean(axis=-1), interpolation="nearest", **_grey(0, 1))


def _grey(low, high) -> dict[str, Any]:
    return {"cmap": "gray", "vmin": low, "vmax": high}


def _beside(W, most):
    """Channels (height, width, c) beside one another, with a line between them."""
    line = np.full((W.shape[0], 1), most)
    parts = [part for k in range(W.shape[-1]) for part in (line, W[..., k])][1:]
    return np.concatenate(parts, axis=1)
