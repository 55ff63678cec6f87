"""The same networks by PyTorch, compiled, with its own layers and starts; and with its own kernels of attention."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.accelerated.problems import Images, Tokens


class Block(nn.Module):
    """Attention, then two dense layers, each behind a norm and beside a skip connection."""

    def __init__(self, problem: Tokens) -> None:
        super().__init__()
        d = problem.width
        self.heads, self.norms = problem.heads, nn.ModuleList(nn.LayerNorm(d) for _ in range(2))
        self.qkv, self.last = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.wide, self.narrow = nn.Linear(d, 4 * d, bias=False), nn.Linear(4 * d, d, bias=False)

    def forward(self, x: Any) -> Any:
        """What the block makes of x (m, t, d)."""
        of_each = self.qkv(self.norms[0](x)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in of_each)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.last(y.transpose(1, 2).flatten(2))
        return x + self.narrow(functional.gelu(self.wide(self.norms[1](x)), approximate="tanh"))


class Transformer(nn.Module):
    """A decoder."""

    def __init__(self, problem: Tokens) -> None:
        super().__init__()
        self.table = nn.Embedding(problem.vocabulary, problem.width)
        self.positions = nn.Embedding(problem.length, problem.width)
        self.blocks = nn.ModuleList(Block(problem) for _ in range(problem.depth))
        self.norm, self.head = nn.LayerNorm(problem.width), nn.Linear(problem.width, problem.vocabulary, bias=False)

    def forward(self, ids: Any) -> Any:
        """The outputs (m, t, vocabulary)."""
        x = self.table(ids) + self.positions.weight
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def _cnn(problem):
    layers: list[nn.Module] = []
    for i, o in pairwise((3, *problem.channels)):
        layers += [nn.Conv2d(i, o, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2)]
    places = (problem.side // 2 ** len(problem.channels)) ** 2
    dense = (
        nn.Linear(places * problem.channels[-1], problem.hidden),
        nn.ReLU(),
        nn.Linear(problem.hidden, problem.classes),
    )
    return nn.Sequential(*layers, nn.Flatten(), *dense)


def network(problem: Images | Tokens) -> nn.Module:
    """The network, channels first where it has any."""
    return _cnn(problem) if isinstance(problem, Images) else Transformer(problem)


def gradient(
    problem: Images | Tokens, x: Any, y: Any, device: str = "cuda", transform: Callable[..., Any] = torch.compile
) -> Callable[[], Any]:
    """() -> the mean loss, with the gradient in the parameters' `grad`, not waited for.

    Args:
      problem: what is computed.
      x, y: of a batch, as JAX has them.
      device: where it is computed.
      transform: of the function from a batch to its loss.
    """
    net = network(problem).to(device, memory_format=torch.channels_last)
    inputs = torch.tensor(np.asarray(x), device=device)
    inputs = inputs.permute(0, 3, 1, 2) if isinstance(problem, Images) else inputs.long()
    labels = torch.tensor(np.asarray(y), device=device).long()

    def mean_loss(inputs, labels):
        with torch.autocast(device, torch.bfloat16):
            z = net(inputs)
        total = functional.cross_entropy(z.float().flatten(0, -2), labels.flatten(), reduction="sum")
        return total / len(labels)

    of_batch = transform(mean_loss)

    def once():
        net.zero_grad(set_to_none=True)
        value = of_batch(inputs, labels)
        value.backward()
        return value

    return once
