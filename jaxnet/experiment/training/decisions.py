"""What probabilities of classes or labels are worth: of the decisions that they lead to, and as they are.

Of a class or label, with the examples that are decided to have it and those that do: precision is the share of the
former that are right, recall the share of the latter that are found, F1 = 2 / (1/precision + 1/recall), all 0 where
there are none; AUC is the chance that an example that has it is given a larger probability of it than one that has not,
None where there are no such two. Overall they are means over the classes, each counted alike ('macro'); AUC is over
those that have one. The log loss is the mean of -log of the probability of what is true, in nats.
"""

from typing import Any

import numpy as np

from jaxnet.experiment.data.problem import LIKELY
from jaxnet.experiment.training import ranking

Weights = np.ndarray | None


def of_classes(predicted: np.ndarray, y: np.ndarray, weights: Weights, classes: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy, log loss, and precision, recall, F1 and AUC over the classes, and of each.

    Args:
      predicted: probabilities (m, classes).
      y: (m,), numbers of classes.
      weights: (m,), what each example counts; None where all count alike.
      classes: their names.
    """
    decided = predicted.argmax(axis=1)
    accuracy = np.average(decided == y, weights=weights)
    log_loss = np.average(_surprise(predicted[np.arange(len(y)), y]), weights=weights)
    has = y[:, None] == np.arange(len(classes))
    each = _each(has, decided[:, None] == np.arange(len(classes)), predicted, weights, classes)
    return {"accuracy": float(accuracy), "log_loss": float(log_loss), **_macro(each), "classes": each}


def of_labels(predicted: np.ndarray, y: np.ndarray, weights: Weights, labels: tuple[str, ...]) -> dict[str, Any]:
    """The share of labels that are right, and of examples with all of them; the rest as for classes.

    Args:
      predicted: probabilities (m, labels).
      y: (m, labels) of 0 and 1.
      weights: (m,), what each example counts; None where all count alike.
      labels: their names.
    """
    has, decided = y >= LIKELY, predicted >= LIKELY
    right = has == decided
    whole = {"accuracy": right.mean(axis=1), "exact_match": right.all(axis=1)}
    whole["log_loss"] = _surprise(np.where(has, predicted, 1 - predicted)).mean(axis=1)
    each = _each(has, decided, predicted, weights, labels)
    averages = {name: float(np.average(values, weights=weights)) for name, values in whole.items()}
    return {**averages, **_macro(each), "targets": each}


def _each(has, decided, predicted, weights, names):
    counts = 1 if weights is None else weights[:, None]
    right, of_decided, of_has = ((counts * rows).sum(axis=0) for rows in (has & decided, decided, has))
    precision, recall, f1 = _share(right, of_decided), _share(right, of_has), _share(2 * right, of_decided + of_has)
    scores = {}
    for k, name in enumerate(names):
        scores[name] = {
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(f1[k]),
            "auc": _auc(has[:, k], predicted[:, k], weights),
            "examples": int(has[:, k].sum()),
        }
    return scores


def _share(part, whole):
    """0 where there is nothing that it would be a share of."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _auc(has, probability, weights):
    counted = has if weights is None else has[weights > 0]
    if counted.all() or not counted.any():
        return None
    return ranking.area(*ranking.roc(has, probability, weights))


def _macro(each):
    means = {}
    for name in ("precision", "recall", "f1", "auc"):
        known = [of_one[name] for of_one in each.values() if of_one[name] is not None]
        means[name] = float(np.mean(known)) if known else None
    return means


def _surprise(probability):
    return -np.log(np.maximum(probability, _eps(probability)).astype(np.float64))


def _eps(probability):
    """The least that a probability counts as: one that was rounded to 0."""
    return np.finfo(probability.dtype).eps
