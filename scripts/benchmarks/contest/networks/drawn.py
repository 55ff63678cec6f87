"""What networks of several kinds are drawn with, in NumPy."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def normal(rng: Any, shape: Sequence[int], deviation: float) -> np.ndarray:
    """Normal numbers in float32."""
    return (rng.standard_normal(shape) * deviation).astype(np.float32)


def he(rng: Any, shape: Sequence[int]) -> np.ndarray:
    """He's weights (o, ..., i)."""
    return normal(rng, shape, math.sqrt(2 / math.prod(shape[1:])))


def lecun(rng: Any, shape: Sequence[int], divisor: float = 1.0) -> np.ndarray:
    """LeCun's weights (o, i), divided by a number."""
    return normal(rng, shape, 1 / math.sqrt(shape[1]) / divisor)


def zeros(size: int) -> np.ndarray:
    """A bias."""
    return np.zeros(size, np.float32)


def ones(size: int) -> np.ndarray:
    """A gain."""
    return np.ones(size, np.float32)


def inputs(rng: Any, shape: Sequence[int]) -> np.ndarray:
    """Normal numbers of deviation 1/2.

    With a deviation of 1 the largest network's loss would double in the first steps, and its rounding errors with it.
    """
    return rng.standard_normal(shape, np.float32) / 2


def labels(rng: Any, x: np.ndarray, outputs: int) -> np.ndarray:
    """Classes (...,) of x (..., i): the largest score of a linear map."""
    scores = x @ rng.standard_normal((x.shape[-1], outputs), np.float32)
    return scores.argmax(axis=-1).astype(np.int32)


def channels_first(x: np.ndarray) -> np.ndarray:
    """Batches of images (batches, m, height, width, c) as (batches, m, c, height, width)."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 2))


def kernel_channels_first(W: np.ndarray) -> np.ndarray:
    """A convolution's weights (o, height, width, i) as (o, i, height, width)."""
    return np.ascontiguousarray(np.moveaxis(W, -1, 1))


def arrays(layers: Iterable[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """All of them, layer by layer."""
    return [array for layer in layers for array in layer]


def stacked(blocks: Sequence[Sequence[Sequence[np.ndarray]]]) -> list[np.ndarray]:
    """The arrays of blocks that are alike, each of all blocks."""
    return [np.stack(alike) for alike in zip(*map(arrays, blocks), strict=True)]
