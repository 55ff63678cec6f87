"""How well probabilities put examples that have a class before those that have not: ROC curves, and their areas."""

import numpy as np


def roc(has: np.ndarray, probability: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The shares of false alarms and of what is found, from (0, 0) to (1, 1), as ever less probable examples count.

    Examples of one probability count together; a point on the way straight ahead is left out.

    Args:
      has: (m,), whether each example has the class; some have, and some have not.
      probability: (m,), that it has.
      weights: (m,), what each example counts, 0 or more; None where all count alike.
    """
    counts = np.ones(len(has)) if weights is None else weights
    order = np.argsort(-probability, kind="stable")
    order = order[counts[order] > 0]
    has, probability, counts = has[order], probability[order], counts[order]
    last = np.append(np.flatnonzero(np.diff(probability)), len(order) - 1)
    alarms, found = np.cumsum(np.where(has, 0.0, counts))[last], np.cumsum(np.where(has, counts, 0.0))[last]
    corners = np.ones(len(last), bool)
    corners[1:-1] = (np.diff(alarms, 2) != 0) | (np.diff(found, 2) != 0)
    alarms, found = (np.append(0.0, of[corners]) for of in (alarms, found))
    return alarms / alarms[-1], found / found[-1]


def area(alarms: np.ndarray, found: np.ndarray) -> float:
    """Under the curve of `roc`: the chance that an example that has the class is given a larger probability of it."""
    return float(np.trapezoid(found, alarms))
