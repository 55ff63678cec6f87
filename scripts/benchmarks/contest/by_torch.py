"""PyTorch, eager and compiled."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.contest.problems import SIGMOID, SOFTMAX, Problem

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}
LOSSES = {SIGMOID: functional.binary_cross_entropy_with_logits, SOFTMAX: functional.cross_entropy}


def eager(problem: Problem) -> Callable[[], list[Any]]:
    """Operation by operation."""
    return _loop(problem, lambda mean_loss: mean_loss)


def compiled(problem: Problem) -> Callable[[], list[Any]]:
    """`torch.compile` of the model with its loss, and so of the backward pass.

    The optimizer's step is left out: with it, as the documentation proposes too, a step of 3-4-1 takes a fifth longer.
    """
    return _loop(problem, torch.compile)


def _loop(problem, transform):
    model, loss = _model(problem), LOSSES[problem.net.loss]
    optimizer = torch.optim.SGD(model.parameters(), lr=problem.net.learning_rate)
    mean_loss = transform(lambda x, y: loss(model(x), y))

    def step(x, y):
        optimizer.zero_grad(set_to_none=True)
        value = mean_loss(x, y)
        value.backward()
        optimizer.step()
        return value.detach()

    # Labels are to be int64.
    batches = problem.batches(lambda values: torch.tensor(values, dtype=None if values.dtype == "f4" else torch.int64))
    return lambda: [step(x, y) for x, y in batches]


def _model(problem):
    net = problem.net
    layers: list[nn.Module] = []
    for (i, o), (W, b) in zip(pairwise(net.sizes), problem.params, strict=True):
        linear = nn.Linear(i, o)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(W))
            linear.bias.copy_(torch.from_numpy(b))
        layers += [linear, ACTIVATIONS[net.activation]()]
    return nn.Sequential(*layers[:-1])
