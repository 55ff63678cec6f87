"""PyTorch, eager and compiled."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.contest import networks
from benchmarks.contest.problems import SIGMOID, SOFTMAX, Problem
from benchmarks.contest.recipe import BETAS, CLIP, DECAY

LOSSES: dict[str, Callable[..., Any]] = {
    SIGMOID: functional.binary_cross_entropy_with_logits,
    SOFTMAX: lambda z, y: functional.cross_entropy(z.flatten(0, -2), y.flatten()),
}


def eager(problem: Problem) -> Callable[[], list[Any]]:
    """Operation by operation."""
    return _loop(problem, lambda mean_loss: mean_loss)


def compiled(problem: Problem) -> Callable[[], list[Any]]:
    """`torch.compile` of the model with its loss, and so of the backward pass.

    The optimizer's step is left out: with it, as the documentation proposes too, a step of 3-4-1 takes a fifth longer.
    """
    return _loop(problem, torch.compile)


def filled(model: nn.Module, arrays: Sequence[np.ndarray]) -> nn.Module:
    """The model with these parameters, in the order of its own."""
    with torch.no_grad():
        for parameter, array in zip(model.parameters(), arrays, strict=True):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))
    return model


def _loop(problem, transform):
    model, x = networks.of(problem.net).by_torch(problem)
    loss, update = LOSSES[problem.net.loss], _update(problem.net, list(model.parameters()))
    mean_loss = transform(lambda x, y: loss(model(x), y))

    def step(x, y):
        value = mean_loss(x, y)
        value.backward()
        update()
        return value.detach()

    batches = problem._replace(x=x).batches(_tensor)
    return lambda: [step(x, y) for x, y in batches]


def _update(net, parameters):
    """What a step does with the gradients, which are none afterwards."""
    if net.optimizer == "sgd":
        optimizer: Any = torch.optim.SGD(parameters, lr=net.learning_rate)
    else:
        weights = [p for p in parameters if p.ndim > 1]
        others = {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0}
        groups = [{"params": weights, "weight_decay": DECAY}, others]
        optimizer = torch.optim.AdamW(groups, lr=net.learning_rate, betas=BETAS, fused=True)

    def update():
        if net.optimizer == "adamw":
            nn.utils.clip_grad_norm_(parameters, CLIP, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def _tensor(values):
    # Whole numbers, labels and ids, are to be int64.
    return torch.tensor(values, dtype=None if values.dtype == "f4" else torch.int64)
