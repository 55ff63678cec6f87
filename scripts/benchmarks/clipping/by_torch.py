"""A step by PyTorch: plain, and clipped in the three ways of Opacus, without noise."""

import gc
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.clipping.networks import Problem
from benchmarks.clipping.torch_nets import ours, tensors, torch_net


class Step:
    """The gradient of a batch; everything is summed over examples, and over the positions of each."""

    net: nn.Module

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.make()

    @abstractmethod
    def make(self) -> None:
        """The network and what clips it."""

    @abstractmethod
    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Forward and backward."""

    @abstractmethod
    def grads(self) -> list[torch.Tensor]:
        """What it left behind, of all parameters."""

    @abstractmethod
    def forget(self) -> None:
        """Lets go of it."""

    def prepare(self) -> None:
        """Makes what it is run on."""
        self._given = tensors(self.problem.net, self.problem.examples)

    def run(self) -> None:
        """A step."""
        self.forget()
        self.step(*self._given)

    def gradient(self) -> list[np.ndarray]:
        """The mean that a step gives, parameter by parameter, in our order and shapes."""
        self.run()
        return [ours(grad.detach().numpy()) / self.problem.examples for grad in self.grads()]

    def bytes(self, number: int) -> int:
        """The most that PyTorch's allocator held at once, in a step of so many examples, which are among it."""
        self.forget()
        gc.collect()
        given = tensors(self.problem.net, number)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            self.step(*given)
        told: Any = seen.profiler
        changes = [event for event in told.kineto_results.events() if event.name() == "[memory]"]
        held = np.cumsum([event.nbytes() for event in sorted(changes, key=lambda event: event.start_ns())])
        self.forget()
        standing = (*given, *self.net.parameters())
        return int(held.max(initial=0)) + sum(tensor.nbytes for tensor in standing)


class Plain(Step):
    """Without clipping, with PyTorch's own recurrence."""

    def make(self) -> None:
        self.net = torch_net(self.problem.net, fused=True)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        _loss(self.net(x), y).backward()

    def grads(self) -> list[torch.Tensor]:
        return [_there(parameter.grad) for parameter in self.net.parameters()]

    def forget(self) -> None:
        self.net.zero_grad(set_to_none=True)


class Hooks(Step):
    """Each example's gradient, formed by hooks; the optimizer clips."""

    def make(self) -> None:
        self.net = GradSampleModule(torch_net(self.problem.net), loss_reduction="sum")
        self.optimizer: Any = self._optimizer(DPOptimizer)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        _loss(self.net(x), y).backward()
        self.optimizer.clip_and_accumulate()

    def grads(self) -> list[torch.Tensor]:
        return [parameter.summed_grad for parameter in self.optimizer.params]

    def forget(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def _optimizer(self, of):
        return of(
            torch.optim.SGD(self.net.parameters(), lr=0.0),
            noise_multiplier=0.0,
            max_grad_norm=self.problem.max_norm,
            expected_batch_size=None,
            loss_reduction="sum",
        )


class Fast(Hooks):
    """Norms by a first backward pass, and by a second the gradient of the losses weighted; each gradient is formed."""

    ghost = False

    def make(self) -> None:
        self.net = GradSampleModuleFastGradientClipping(
            torch_net(self.problem.net),
            loss_reduction="sum",
            max_grad_norm=self.problem.max_norm,
            use_ghost_clipping=self.ghost,
        )
        self.optimizer = self._optimizer(DPOptimizerFastGradientClipping)
        criterion = nn.CrossEntropyLoss(reduction="sum")
        self._criterion = DPLossFastGradientClipping(self.net, self.optimizer, criterion, loss_reduction="sum")

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        z = self.net(x)
        self._criterion(z.flatten(0, -2), y.flatten(), shape=z.shape).backward()

    def grads(self) -> list[torch.Tensor]:
        return [_there(parameter.grad) for parameter in self.net.parameters()]


class Ghost(Fast):
    """The same, with norms of pairs of positions, where Opacus has them: of dense layers and embeddings."""

    ghost = True


def _loss(z, y):
    return nn.functional.cross_entropy(z.flatten(0, -2), y.flatten(), reduction="sum")


def _there(grad):
    assert grad is not None
    return grad
