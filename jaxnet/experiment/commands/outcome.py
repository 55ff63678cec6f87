"""What a model is worth, as people read it."""

from collections.abc import Mapping
from typing import Any

from jaxnet.experiment.console import screen
from jaxnet.experiment.console.screen import say

# Of classes or labels, so many have a line; of more, these are the ones with the least F1.
MOST_LINES = 20
COLUMNS = {"precision": "precision", "recall": "recall", "f1": "F1", "auc": "AUC"}


def told(scores: Mapping[str, Any]) -> str:
    """The scores of all examples in one line.

    Args:
      scores: as `training.scores.scores` has them.
    """
    if "rmse" in scores:
        return f"RMSE {scores['rmse']:.4g}" + (f", R2 {scores['r2']:.3f}" if "r2" in scores else "")
    whole = f" (all labels of an example: {100 * scores['exact_match']:.2f}%)" if "exact_match" in scores else ""
    return f"accuracy {100 * scores['accuracy']:.2f}%{whole}"


def print_each(result: Mapping[str, Any]) -> None:
    """A table of what each class or label is worth, and of the means over them.

    Args:
      result: as result.json has it.
    """
    kind = "classes" if "classes" in result else "targets"
    each = result[kind]
    shown = sorted(each, key=lambda name: each[name]["f1"])[:MOST_LINES] if len(each) > MOST_LINES else each
    rows = [(name, *map(_cell, _scores(each[name])), f"{each[name]['examples']:.0f}") for name in shown]
    rows.append(("mean", *(_cell(result[f"test_{name}"]) for name in COLUMNS), ""))
    print(screen.table(("class" if kind == "classes" else "label", *COLUMNS.values(), "examples"), rows))
    if len(shown) < len(each):
        say(f"note       of {len(each)} {kind}, the {MOST_LINES} with the least F1; all are in result.json")
    say(f"log loss   {result['test_log_loss']:.4f} nats")


def _scores(of_one):
    return [of_one[name] for name in COLUMNS]


def _cell(value):
    return "-" if value is None else f"{value:.3f}"
