"""The networks in PyTorch, of layers that Opacus knows, with our parameters."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import torch
from opacus.layers import DPGRU
from torch import nn

from benchmarks.by_opacus import Flat, Transformer
from benchmarks.clipping.networks import Kind, Net, examples, parameters


def torch_net(net: Net, *, fused: bool = False) -> nn.Module:
    """The network; fused has PyTorch's own recurrence in place of Opacus's."""
    made = BUILDERS[net.kind](fused, **net.sizes)
    with torch.no_grad():
        for mine, given in zip(made.parameters(), jax.tree.leaves(parameters(net)), strict=True):
            mine.copy_(torch.tensor(theirs(np.asarray(given))))
    return made


def theirs(leaf: np.ndarray) -> np.ndarray:
    """Weights of convolutions with inputs before the window."""
    return np.moveaxis(leaf, -1, 1) if leaf.ndim == 4 else leaf


def ours(leaf: np.ndarray) -> np.ndarray:
    """The way back."""
    return np.moveaxis(leaf, 1, -1) if leaf.ndim == 4 else leaf


def tensors(net: Net, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The examples, in the order of their axes in memory, as Opacus takes them to be: of images the channels first."""
    x, y = examples(net, number)
    x = np.moveaxis(x, -1, 1) if x.ndim == 4 else x
    return torch.tensor(x.copy()), torch.tensor(y.copy()).long()


def _dense(fused, layers):
    return nn.Sequential(*_layers(*layers))


def _cnn(fused, shape, channels, hidden, classes):
    height, width, inputs = shape
    layers: list[nn.Module] = []
    for before, after in zip((inputs, *channels), channels, strict=False):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    places = (height // 2 ** len(channels)) * (width // 2 ** len(channels))
    return nn.Sequential(*layers, Flat(), *_layers(places * channels[-1], *hidden, classes))


def _layers(*sizes):
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return layers[:-1]


def _resnet(fused, shape, channels, depth, groups, classes):
    layers: list[nn.Module] = []
    for before, width in zip((shape[-1], *channels), channels, strict=False):
        layers += [*_activated(groups, before), _Halving(before, width)] if layers else [_conv(before, width)]
        layers += [_Block(groups, width) for _ in range(depth)]
    return nn.Sequential(*layers, *_activated(groups, channels[-1]), _Mean(), nn.Linear(channels[-1], classes))


def _conv(before, width, **options):
    return nn.Conv2d(before, width, 3, **{"padding": 1, "bias": False, **options})


def _activated(groups, width):
    return nn.GroupNorm(groups, width), nn.ReLU()


class _Block(nn.Module):
    def __init__(self, groups, width):
        super().__init__()
        both = ((*_activated(groups, width), _conv(width, width)) for _ in range(2))
        self.change = nn.Sequential(*(layer for one in both for layer in one))

    def forward(self, x):
        return x + self.change(x)


class _Halving(nn.Module):
    """A stride of 2, with what is missing of a window at the far end alone, as ours has it."""

    def __init__(self, before, width):
        super().__init__()
        self.conv = _conv(before, width, stride=2, padding=0)

    def forward(self, x):
        return self.conv(nn.functional.pad(x, (0, 1, 0, 1)))


class _Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def _transformer(fused, vocabulary, width, heads, depth, times):
    return Transformer(vocabulary, width, heads, depth, times)


class _GRU(nn.Module):
    def __init__(self, fused, inputs, hidden, classes, times):
        super().__init__()
        self.states = (nn.GRU if fused else DPGRU)(inputs, hidden, bias=False, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x):
        return self.head(self.states(x)[0][:, -1])


BUILDERS: dict[Kind, Callable[..., Any]] = {
    "dense": _dense,
    "cnn": _cnn,
    "resnet": _resnet,
    "transformer": _transformer,
    "gru": _GRU,
}
