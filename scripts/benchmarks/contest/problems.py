"""What all contestants train: the networks, and the same initial weights and data for all, made with NumPy alone."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks.contest import networks

SEED = 0
SIGMOID, SOFTMAX = "sigmoid_binary_cross_entropy", "softmax_cross_entropy_with_integer_labels"


class Net(NamedTuple):
    """A network and how it is trained, in float32.

    Attributes:
      sizes: of a dense network inputs, neurons of each hidden layer, outputs; of others what their file says.
      batch: examples in a step.
      steps: in a pass, which is what a contestant runs at a time.
      batches: distinct ones in a pass; 1 where every step sees all the data.
      activation: of the hidden layers of a dense network, 'tanh' or 'relu'.
      loss: `SIGMOID` or `SOFTMAX`; the mean over the batch, and over the positions where there are labels at each.
      learning_rate: of every step.
      kind: which file of `networks` says what the network is.
      optimizer: 'sgd', plain stochastic gradient descent; or 'adamw', see `optimizers`.
    """

    sizes: tuple[int, ...]
    batch: int
    steps: int
    batches: int
    activation: str = "relu"
    loss: str = SOFTMAX
    learning_rate: float = 0.05
    kind: networks.Kind = "dense"
    optimizer: Literal["sgd", "adamw"] = "sgd"


class Problem(NamedTuple):
    """A network's initial parameters and its data, in float32.

    Attributes:
      net: what is trained.
      params: those of each layer, as the network's file draws them: W (o, i) and b (o,) of a dense one.
      x: (batches, m, ...), such as (batches, m, i).
      y: 0 or 1 as (batches, m, 1) for `SIGMOID`, labels (batches, m) or (batches, m, t) for `SOFTMAX`.
    """

    net: Net
    params: tuple[tuple[np.ndarray, ...], ...]
    x: np.ndarray
    y: np.ndarray

    def batches(self, convert: Callable[[np.ndarray], Any]) -> list[tuple[Any, Any]]:
        """What each step of a pass sees, as arrays of another package, converted beforehand."""
        distinct = [(convert(x), convert(y)) for x, y in zip(self.x, self.y, strict=True)]
        return distinct * (self.net.steps // self.net.batches)


NetName = Literal[
    "3-4-1", "30-16-2", "64-64-10", "784-512-512-10", "784-1024-1024-1024-10", "cnn", "resnet", "nanogpt", "gru"
]
# Passes of some 10 to 100 ms, and of some more steps of the networks whose steps are as long.
NETS: dict[NetName, Net] = {
    "3-4-1": Net((3, 4, 1), batch=200, steps=1000, batches=1, activation="tanh", loss=SIGMOID),
    "30-16-2": Net((30, 16, 2), batch=32, steps=500, batches=500),
    "64-64-10": Net((64, 64, 10), batch=64, steps=300, batches=300),
    "784-512-512-10": Net((784, 512, 512, 10), batch=128, steps=24, batches=24),
    "784-1024-1024-1024-10": Net((784, 1024, 1024, 1024, 10), batch=512, steps=4, batches=4),
    "cnn": Net((28, 1, 32, 64, 128, 10), batch=128, steps=6, batches=6, learning_rate=0.005, kind="cnn"),
    "resnet": Net((32, 3, 16, 32, 64, 10), batch=32, steps=6, batches=6, learning_rate=0.005, kind="resnet"),
    "nanogpt": Net(
        (65, 128, 4, 4, 64), batch=12, steps=20, batches=20, learning_rate=1e-3, kind="nanogpt", optimizer="adamw"
    ),
    "gru": Net((64, 128, 10, 64), batch=32, steps=20, batches=20, learning_rate=0.5, kind="gru"),
}


def make(net: Net) -> Problem:
    """Always the same: the weights and data that the network's file draws, as normal numbers."""
    return Problem(net, *networks.of(net).draw(net, np.random.default_rng(SEED)))


def logistic(problem: Problem) -> Problem:
    """Two classes by a single output, the first, and a sigmoid; any other problem as it is."""
    net = problem.net
    if net.kind != "dense" or net.loss != SOFTMAX or net.sizes[-1] != 2:
        return problem
    *hidden, (W, b) = problem.params
    net = net._replace(sizes=(*net.sizes[:-1], 1), loss=SIGMOID)
    return Problem(net, (*hidden, (W[:1], b[:1])), problem.x, problem.y[..., None].astype(np.float32))


def operations(net: Net) -> int:
    """Of the products in a step: as many for each of dW and da as for z = a W^T, and da is not needed of x."""
    forward = networks.of(net).products(net)
    return 3 * sum(forward) - forward[0]
