"""What all contestants train: the networks, and the same initial weights and data for all, made with NumPy alone."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

SEED = 0
SIGMOID, SOFTMAX = "sigmoid_binary_cross_entropy", "softmax_cross_entropy_with_integer_labels"


class Net(NamedTuple):
    """A network and how it is trained: by plain stochastic gradient descent in float32.

    Attributes:
      sizes: inputs, neurons of each hidden layer, outputs.
      batch: examples in a step.
      steps: in a pass, which is what a contestant runs at a time.
      batches: distinct ones in a pass; 1 where every step sees all the data.
      activation: of the hidden layers, 'tanh' or 'relu'.
      loss: `SIGMOID` or `SOFTMAX`.
      learning_rate: of every step.
    """

    sizes: tuple[int, ...]
    batch: int
    steps: int
    batches: int
    activation: str = "relu"
    loss: str = SOFTMAX
    learning_rate: float = 0.05


class Problem(NamedTuple):
    """A network's initial parameters and its data, in float32.

    Attributes:
      net: what is trained.
      params: W (o, i) and b (o,) of each layer.
      x: (batches, m, i).
      y: 0 or 1 as (batches, m, 1) for `SIGMOID`, labels (batches, m) for `SOFTMAX`.
    """

    net: Net
    params: tuple[tuple[np.ndarray, np.ndarray], ...]
    x: np.ndarray
    y: np.ndarray

    def batches(self, convert: Callable[[np.ndarray], Any]) -> list[tuple[Any, Any]]:
        """What each step of a pass sees, as arrays of another package, converted beforehand."""
        distinct = [(convert(x), convert(y)) for x, y in zip(self.x, self.y, strict=True)]
        return distinct * (self.net.steps // self.net.batches)


NetName = Literal["3-4-1", "30-16-2", "64-64-10", "784-512-512-10", "784-1024-1024-1024-10"]
# Passes of some 10 to 100 ms.
NETS: dict[NetName, Net] = {
    "3-4-1": Net((3, 4, 1), batch=200, steps=1000, batches=1, activation="tanh", loss=SIGMOID),
    "30-16-2": Net((30, 16, 2), batch=32, steps=500, batches=500),
    "64-64-10": Net((64, 64, 10), batch=64, steps=300, batches=300),
    "784-512-512-10": Net((784, 512, 512, 10), batch=128, steps=24, batches=24),
    "784-1024-1024-1024-10": Net((784, 1024, 1024, 1024, 10), batch=512, steps=4, batches=4),
}


def make(net: Net) -> Problem:
    """Always the same: He's weights, normal inputs of deviation 1/2, and labels by a linear map of the inputs.

    With a deviation of 1 the largest network's loss would double in the first steps, and its rounding errors with it.
    """
    rng = np.random.default_rng(SEED)
    params = tuple(
        ((rng.standard_normal((o, i)) * np.sqrt(2 / i)).astype(np.float32), np.zeros(o, np.float32))
        for i, o in pairwise(net.sizes)
    )
    x = rng.standard_normal((net.batches, net.batch, net.sizes[0]), np.float32) / 2
    scores = x @ rng.standard_normal((net.sizes[0], net.sizes[-1]), np.float32)
    y = (scores > 0).astype(np.float32) if net.loss == SIGMOID else scores.argmax(axis=-1).astype(np.int32)
    return Problem(net, params, x, y)


def logistic(problem: Problem) -> Problem:
    """Two classes by a single output, the first, and a sigmoid; any other problem as it is."""
    net = problem.net
    if net.loss != SOFTMAX or net.sizes[-1] != 2:
        return problem
    *hidden, (W, b) = problem.params
    net = net._replace(sizes=(*net.sizes[:-1], 1), loss=SIGMOID)
    return Problem(net, (*hidden, (W[:1], b[:1])), problem.x, problem.y[..., None].astype(np.float32))


def operations(net: Net) -> int:
    """Of the matrix products in a step: 2 m i o each of z = a W^T, dW = dz^T a and da = dz W, the last not for x."""
    products = [2 * net.batch * i * o for i, o in pairwise(net.sizes)]
    return 3 * sum(products) - products[0]
