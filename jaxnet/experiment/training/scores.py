"""What a trained model is worth on examples that it has not seen."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.experiment.data.problem import Problem, loss_of
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.training.blocks import Block
from jaxnet.layer import Layer


def predict_and_judge(
    net: Layer, params: Any, problem: Problem, blocks: Callable[[], Iterable[Block]], layout: Layout
) -> tuple[np.ndarray, float]:
    """The predictions for all examples of the blocks, as `Problem.predict` makes them, and the mean loss."""
    loss = loss_of(problem)

    @partial(jax.jit, out_shardings=layout.places())
    def outputs_and_losses(params, x, y):
        z = net.apply(params, x)
        return z, loss.forward(z, y)

    outputs, losses = [], []
    for x, y, _, rows in blocks():
        z, values = jax.device_get(outputs_and_losses(params, x, y))
        outputs.append(problem.predict(jnp.asarray(z[:rows])))
        losses.append(values[:rows])
    return np.concatenate(outputs), float(np.concatenate(losses).mean())


def scores(problem: Problem, predicted: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Accuracy for classes; RMSE and R2 for numbers, over all targets and for each where there are several.

    Args:
      problem: what was learnt.
      predicted: probabilities (m, classes), or values (m, targets).
      y: numbers of classes (m,), or values (m, targets).
    """
    if problem.classes:
        return {"accuracy": float((predicted.argmax(axis=1) == y).mean())}
    rmse = np.sqrt(((predicted - y) ** 2).mean(axis=0))
    overall = {"rmse": float(np.sqrt(((predicted - y) ** 2).mean()))}
    # A single example has no variance to explain.
    r2 = _r2(predicted, y) if len(y) > 1 else None
    if r2 is not None:
        overall["r2"] = float(r2.mean())
    if len(problem.targets) == 1:
        return overall
    each = {name: {"rmse": float(value)} for name, value in zip(problem.targets, rmse, strict=True)}
    for name, value in zip(problem.targets, [] if r2 is None else r2, strict=r2 is not None):
        each[name]["r2"] = float(value)
    return overall | {"targets": each}


def _r2(predicted, y):
    """1 - residual over total sum of squares, for each target; see scikit-learn's for targets that do not vary."""
    from sklearn.metrics import r2_score

    return np.asarray(r2_score(y, predicted, multioutput="raw_values"))
