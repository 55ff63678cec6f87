"""What several seeds say of a score: its mean, and a 95% interval of that."""

from typing import Any

import numpy as np

CONFIDENCE = 0.95


def half_width(values: Any) -> float:
    """From the mean to the ends of its 95% interval: t s / sqrt(n), by Student's t with n - 1 degrees of freedom."""
    # It is `scipy.stats.t.ppf`, whose package takes long to import.
    from scipy.special import stdtrit

    return float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * np.std(values, ddof=1) / len(values) ** 0.5)


def interval(values: Any) -> list[float]:
    """The 95% interval of the mean of two values or more."""
    middle, half = float(np.mean(values)), half_width(values)
    return [middle - half, middle + half]


def beside(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """The scores of each seed as lists, by name, also within one another."""
    return {
        name: beside([of_one[name] for of_one in scores]) if isinstance(first, dict) else [one[name] for one in scores]
        for name, first in scores[0].items()
    }


def through(change: Any, lists: dict[str, Any]) -> dict[str, Any]:
    """What a function makes of each of the lists; None where a score is, as that of a class without examples."""

    def of(one):
        if isinstance(one, dict):
            return through(change, one)
        return None if None in one else change(one)

    return {name: of(one) for name, one in lists.items()}
