"""What a trained model is worth on examples that it has not seen."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.experiment.data.problem import Problem, loss_of
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.training import decisions
from jaxnet.experiment.training.blocks import Block
from jaxnet.layer import Layer


def make_predict_and_judge(
    net: Layer, problem: Problem, blocks: Callable[[], Iterable[Block]], layout: Layout
) -> Callable[[Any], tuple[np.ndarray, float]]:
    """params -> the predictions for all examples of the blocks, as `Problem.predict` makes them, and the mean loss."""
    loss = loss_of(problem)

    @partial(jax.jit, out_shardings=layout.places())
    def outputs_and_losses(params, x, y, weights):
        z = net.apply(params, x)
        return z, weights * loss.forward(z, y)

    def predict_and_judge(params):
        outputs, losses = [], []
        for x, y, weights, _, rows in blocks():
            z, values = jax.device_get(outputs_and_losses(params, x, y, weights))
            outputs.append(problem.predict(jnp.asarray(z[:rows])))
            losses.append(values[:rows])
        return np.concatenate(outputs), float(np.concatenate(losses).mean())

    return predict_and_judge


def scores(problem: Problem, predicted: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> dict[str, Any]:
    """What predictions are worth, as numbers, and in 'classes' or 'targets' those of each by itself.

    Of classes and labels: see `decisions`. Of values: RMSE and R2.

    Args:
      problem: what was learnt.
      predicted: probabilities (m, classes) or (m, targets), or values (m, targets).
      y: numbers of classes (m,), or values or labels (m, targets).
      weights: (m,), what each example counts; None where all count alike.
    """
    if weights is not None and not weights.any():
        weights = None
    if problem.classes:
        return decisions.of_classes(predicted, y, weights, problem.classes)
    if problem.labels:
        return decisions.of_labels(predicted, y, weights, problem.targets)
    squares = np.average((predicted - y) ** 2, axis=0, weights=weights)
    overall = {"rmse": float(np.sqrt(squares.mean()))}
    # A single example has no variance to explain.
    r2 = _r2(predicted, y, weights) if len(y) > 1 else None
    if r2 is not None:
        overall["r2"] = float(r2.mean())
    if len(problem.targets) == 1:
        return overall
    each = {name: {"rmse": float(value)} for name, value in zip(problem.targets, np.sqrt(squares), strict=True)}
    for name, value in zip(problem.targets, [] if r2 is None else r2, strict=r2 is not None):
        each[name]["r2"] = float(value)
    return overall | {"targets": each}


def _r2(predicted, y, weights):
    """1 - residual over total sum of squares, for each target; of one that does not vary 0, or 1 where it is met."""
    counts = 1 if weights is None else weights[:, None]
    residual = (counts * (y - predicted) ** 2).sum(axis=0)
    total = (counts * (y - np.average(y, axis=0, weights=weights)) ** 2).sum(axis=0)
    return 1 - np.divide(residual, total, out=(residual > 0).astype(float), where=total > 0)
