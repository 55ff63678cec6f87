"""A page that plays one example through a network and back: the files in `player`, with the numbers as JSON."""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnet.experiment.training.one_example import Passed, Way

PLAYER = Path(__file__).parent / "player"
# Of an array, numbers that are written out; cells of a strip, of a map's sides and channels that are drawn.
VALUES, STRIP, ROWS, COLUMNS, CHANNELS = 6, 96, 32, 64, 6
LIKELIEST = 5


class Told(NamedTuple):
    """What a page says of the example beside its signals.

    Attributes:
      title, about: of the run.
      example: its number.
      loss: the loss's name.
      target, predicted: as texts; empty where there is no one target, as of a text.
      probabilities: of classes or labels by name; empty for others.
      tokens: the input of a text; None for other data.
      image: (height, width) of an input that is a flat image; None for others.
    """

    title: str
    about: str
    example: int
    loss: str
    target: str = ""
    predicted: str = ""
    probabilities: Sequence[tuple[str, float]] = ()
    tokens: Sequence[str] | None = None
    image: tuple[int, int] | None = None


def page(way: Way, told: Told) -> str:
    """The page, in one file that asks nobody for more."""
    # What would end the script that the JSON is in may be in a class's name.
    signals = json.dumps(signals_of(way, told), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "{title}": html.escape(told.title),
        "{about}": html.escape(told.about),
        "{style}": (PLAYER / "player.css").read_text(encoding="utf-8"),
        "{script}": (PLAYER / "player.js").read_text(encoding="utf-8"),
        "{signals}": signals,
    }
    text = (PLAYER / "player.html").read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(name, part)
    return text


def signals_of(way: Way, told: Told) -> dict[str, Any]:
    """What the page shows, for JSON."""
    # Of rows of probabilities the largest.
    likely = sorted(told.probabilities, key=lambda of: -of[1])[:LIKELIEST]
    loss = {"name": told.loss, "value": way.loss, "target": told.target, "predicted": told.predicted}
    return {
        "example": told.example,
        "input": {
            "tokens": told.tokens,
            "x": None if told.tokens is not None else _signal(_as_image(way.x, told.image)),
            "dx": None if way.dx is None else _signal(_as_image(way.dx, told.image)),
        },
        "layers": [_layer(passed) for passed in way.layers],
        "loss": loss | {"probabilities": [{"name": name, "value": value} for name, value in likely]},
    }


def _layer(passed: Passed) -> dict[str, Any]:
    return {
        "name": passed.name.replace("_", " "),
        "round": ", ".join(f"{name}, round {number}" for name, number in passed.rounds),
        "y": [_signal(array) for array in passed.y],
        "dy": [_signal(array) for array in passed.dy if array is not None],
        "parameters": [
            {"name": of.name, "shape": of.value.shape, "norm": _norm(of.value), "gradient": _norm(of.gradient)}
            for of in passed.parameters
        ],
    }


def _signal(array: np.ndarray) -> dict[str, Any]:
    return {
        "shape": array.shape,
        "size": array.size,
        "norm": _norm(array),
        "least": float(array.min()),
        "most": float(array.max()),
        "values": array.ravel()[:VALUES].tolist(),
        "maps": _maps(array),
    }


def _maps(array):
    """A strip of a vector, a map of a matrix, and of more axes one for each of the first channels."""
    if array.ndim < 2:
        return [_map("", array.reshape(1, -1), 1, STRIP)]
    if array.ndim == 2:
        return [_map("", array, ROWS, COLUMNS)]
    # Of a volume the axes before the last ones below one another.
    channels = array.reshape(-1, *array.shape[-2:])
    number = min(CHANNELS, array.shape[-1])
    single = array.shape[-1] == 1
    return [_map("" if single else f"channel {k}", channels[..., k], ROWS, COLUMNS) for k in range(number)]


def _map(title, matrix, rows, columns):
    """Rows and columns, evenly spaced where they are more; for the eye, so four digits are enough."""
    at = [
        np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))
        for n, most in zip(matrix.shape, (rows, columns), strict=True)
    ]
    numbers = [[float(f"{value:.4g}") for value in row] for row in matrix[np.ix_(*at)].tolist()]
    return {"title": title, "rows": at[0].tolist(), "columns": at[1].tolist(), "numbers": numbers}


def _as_image(array, image):
    return array if image is None else array.reshape(image)


def _norm(array):
    return float(np.linalg.norm(array.ravel()))
