"""What result.json holds of the scores: of one seed as they are, of several their means, intervals, and each."""

from typing import Any

import numpy as np

from jaxnet.experiment.training.interval import beside, interval, through
from jaxnet.experiment.training.position import Epoch
from jaxnet.experiment.training.seeds import best_of


def scored(test_loss: float, measured: dict[str, Any]) -> dict[str, Any]:
    """As result.json has it: what is known of each class or target by itself comes last."""
    each = {name: measured.pop(name) for name in ("classes", "targets") if name in measured}
    return {"test_loss": test_loss} | {f"test_{name}": value for name, value in measured.items()} | each


def of_seeds(told: list[dict[str, Any]], first: int, kept: Epoch) -> dict[str, Any]:
    """The scores of several seeds.

    Args:
      told: what `scored` makes of each.
      first: the first seed; the others are the numbers after it.
      kept: the epoch whose parameters are kept.
    """
    assert kept.seeds is not None
    lists = beside(told)
    metric = "validation_accuracy" if "test_accuracy" in lists else "validation_rmse"
    of_validation = {"validation_loss": kept.seeds["validation_loss"], metric: kept.seeds["validation_metric"]}
    return through(lambda values: float(np.mean(values)), lists) | {
        "interval": through(interval, lists),
        "seeds": {"seed": [first + number for number in range(len(told))], **of_validation, **lists},
        "predicts": first + best_of(kept),
    }
