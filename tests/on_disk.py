"""Data that runs read from disk."""

from pathlib import Path

import numpy as np


def three_classes(folder: Path, dtype: str = "float64") -> Path:
    """A folder with x.npy, 150 examples of 4 features, and y.npy, which of the first three is the largest."""
    folder.mkdir()
    x = np.random.default_rng(0).normal(size=(150, 4)).astype(dtype)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", x[:, :3].argmax(axis=1))
    return folder
