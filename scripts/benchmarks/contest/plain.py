"""The lesson's own forward, backward and update, written plainly in NumPy: the reference, and a contestant."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.contest.problems import SIGMOID, SOFTMAX, Net, Problem

Params = list[tuple[np.ndarray, np.ndarray]]


def step(params: Params, x: np.ndarray, y: np.ndarray, net: Net) -> Any:
    """Forward, backward and, in place, W := W - eta dW, b := b - eta db; returns the mean loss before that."""
    activate, slope = ACTIVATIONS[net.activation]
    a = [x]
    for W, b in params[:-1]:
        a.append(activate(a[-1] @ W.T + b))
    W, b = params[-1]
    loss, dz = LOSSES[net.loss](a[-1] @ W.T + b, y)
    dz /= len(x)
    for layer in reversed(range(len(params))):
        W, b = params[layer]
        dW, db = dz.T @ a[layer], dz.sum(axis=0)
        if layer > 0:
            dz = dz @ W * slope(a[layer])
        W -= net.learning_rate * dW
        b -= net.learning_rate * db
    return loss


def losses(problem: Problem, steps: int) -> np.ndarray:
    """The first steps' losses in float64, from the float32 weights and data that all contestants are given."""
    params = [(W.astype(float), b.astype(float)) for W, b in problem.params]
    batches = problem.batches(lambda values: values if values.dtype == np.int32 else values.astype(float))
    return np.array([step(params, x, y, problem.net) for x, y in batches[:steps]])


def prepare(problem: Problem) -> Callable[[], list[Any]]:
    """The same in float32, as a contestant."""
    params = [(W.copy(), b.copy()) for W, b in problem.params]
    batches = problem.batches(np.asarray)
    return lambda: [step(params, x, y, problem.net) for x, y in batches]


def _sigmoid_cross_entropy(z, y):
    loss = (np.logaddexp(0, z) - y * z).mean()
    return loss, 1 / (1 + np.exp(-z)) - y


def _softmax_cross_entropy(z, y):
    labelled = np.arange(len(y)), y
    shifted = z - z.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    dz = e / total
    dz[labelled] -= 1
    return (np.log(total[:, 0]) - shifted[labelled]).mean(), dz


# Each with its derivative, from what it returned.
ACTIVATIONS: dict[str, tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]] = {
    "tanh": (np.tanh, lambda a: 1 - a**2),
    "relu": (lambda z: np.maximum(z, 0), lambda a: a > 0),
}
LOSSES = {SIGMOID: _sigmoid_cross_entropy, SOFTMAX: _softmax_cross_entropy}
