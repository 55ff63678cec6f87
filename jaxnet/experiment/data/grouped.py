"""Drawing a part of the rows where some belong together: whole groups, with each class in its share."""

import numpy as np


def draw(count: int, groups: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Which rows make up a part of about `count` rows, a mask (m,).

    Groups are gone through in an order by the seed; each that brings the classes nearer to what is wanted is taken.

    Args:
      count: how many rows are wanted; the classes' shares are those of all rows.
      groups: (m,), the number of each row's group; two at least.
      labels: (m,), numbers of classes; zeros where there are none.
      seed: of the order.

    Returns:
      At least one group, and never all.
    """
    names, of_row = np.unique(groups, return_inverse=True)
    # Of each group, how many rows of each class.
    held = np.zeros((len(names), labels.max() + 1))
    np.add.at(held, (of_row, labels), 1)
    lacking = held.sum(axis=0) * count / len(groups)
    nearest = int(np.abs(lacking - held).sum(axis=1).argmin())
    chosen = np.zeros(len(names), bool)
    for group in np.random.default_rng(seed).permutation(len(names)):
        left = lacking - held[group]
        if np.abs(left).sum() < np.abs(lacking).sum() and chosen.sum() < len(names) - 1:
            chosen[group], lacking = True, left
    if not chosen.any():
        chosen[nearest] = True
    return chosen[of_row]
