"""Rows drawn for a part, with each class's share as in all rows: those that scikit-learn's train_test_split draws.

Its own would do; but it is in a package that takes longer to import than a small network to train.
"""

import numpy as np


def draw(rows: np.ndarray, count: int, labels: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that are left, and the `count` that are drawn, both shuffled.

    Args:
      rows: (m,), of a table.
      count: how many are drawn, fewer than there are.
      labels: (m,), the class of each; of each class two rows at least. None where there are no classes.
      seed: of the draw.

    Source: scikit-learn, `ShuffleSplit` and `StratifiedShuffleSplit`, whose draws these are.
    """
    rng = np.random.RandomState(seed)
    if labels is None:
        order = rng.permutation(len(rows))
        return rows[order[count:]], rows[order[:count]]
    classes, of_row, held = np.unique(labels, return_inverse=True, return_counts=True)
    of_left = _most_likely(held, len(rows) - count, rng)
    of_drawn = _most_likely(held - of_left, count, rng)
    places = np.split(np.argsort(of_row, kind="stable"), np.cumsum(held)[:-1])
    left, drawn = [], []
    for k in range(len(classes)):
        order = places[k][rng.permutation(held[k])]
        left.append(order[: of_left[k]])
        drawn.append(order[of_left[k] : of_left[k] + of_drawn[k]])
    first = rng.permutation(np.concatenate(left))
    return rows[first], rows[rng.permutation(np.concatenate(drawn))]


def _most_likely(held, count, rng):
    """How many of each class `count` rows have: their shares rounded down, and one more where most was lost by that.

    Which of those that lost as much get one is drawn.
    """
    shares = held / held.sum() * count
    numbers = np.floor(shares)
    lacking = int(count - numbers.sum())
    lost = shares - numbers
    for value in np.unique(lost)[::-1]:
        if lacking == 0:
            break
        (alike,) = np.where(lost == value)
        more = min(len(alike), lacking)
        numbers[rng.choice(alike, size=more, replace=False)] += 1
        lacking -= more
    return numbers.astype(int)
