"""Private training by Opacus: networks as `--model` makes them, in PyTorch, from the same parameters."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn

from jaxnet.experiment.data.split import Part, Split
from jaxnet.experiment.networks.network import Network
from jaxnet.experiment.training.budget import Budget

# Examples that are judged at a time.
BLOCK = 500


def trained(
    network: Network, params: Any, parts: Split, budget: Budget, clip: float, rate: float, seed: int
) -> tuple[float, float]:
    """The test part's mean loss and accuracy after as many steps of Opacus.

    Args:
      network, params: as jaxnet has them; the parameters are where it starts.
      parts: of the data.
      budget: whose steps, rate of draws and noise it has.
      clip: the length of an example's gradient.
      rate: Adam's.
      seed: of draws and noise.
    """
    torch.manual_seed(seed)
    net = GradSampleModule(torch_net(network, params))
    adam = torch.optim.Adam(net.parameters(), lr=rate)
    optimizer = DPOptimizer(
        adam, noise_multiplier=budget.noise_multiplier, max_grad_norm=clip, expected_batch_size=budget.batch_size
    )
    x, y = tensors(parts.train)
    for _ in range(budget.steps):
        drawn = torch.rand(len(x)) < budget.rate
        optimizer.zero_grad()
        loss_of(net(x[drawn]), y[drawn]).backward()
        optimizer.step()
    x, y = tensors(parts.test)
    with torch.no_grad():
        z = torch.cat([net(block) for block in x.split(BLOCK)])
        return float(loss_of(z, y)), float((z.argmax(-1) == y).float().mean())


def loss_of(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The mean over examples, and over the positions of each."""
    return nn.functional.cross_entropy(z.flatten(0, -2), y.flatten())


def tensors(part: Part) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, of images with the channels first, and classes."""
    x, y = part.x.read(slice(None), np.float32), part.y[:]
    # A copy, in the order of its axes: tensors keep NumPy's strides, convolutions hand on the order that these tell of,
    # and Opacus 1.6.0 reads what a convolution saw as if the channels came first in memory too (`unfold2d`). Where they
    # come last, its gradients of convolutions of several channels are wrong.
    return torch.tensor(np.moveaxis(x, -1, 1).copy() if x.ndim == 4 else x), torch.tensor(y).long()


def torch_net(network: Network, params: Any) -> nn.Module:
    """The network with these parameters."""
    options = network.options
    if network.model == "transformer":
        net: nn.Module = Transformer(network.outputs, options.width, options.heads, options.depth, network.shape[0])
    else:
        net = _of_images(network) if network.model == "cnn" else _dense(network.shape[0], options.hidden, network)
    with torch.no_grad():
        for mine, given in zip(net.parameters(), leaves_of(network.model, params), strict=True):
            mine.copy_(torch.tensor(np.array(given)))
    return net


def leaves_of(model: str, params: Any) -> Iterator[Any]:
    """The parameters in the order of PyTorch's."""
    if model == "transformer":
        ahead, (table, blocks, norm), head = params
        depth = jax.tree.leaves(blocks)[0].shape[0]
        each = (jax.tree.map(lambda leaf, k=k: leaf[k], blocks) for k in range(depth))
        params = ahead, table, tuple(each), norm, head
    for leaf in map(np.asarray, jax.tree.leaves(params)):
        yield np.moveaxis(leaf, -1, 1) if leaf.ndim == 4 else leaf


def _dense(inputs, hidden, network):
    layers: list[Any] = []
    for before, after in zip((inputs, *hidden), hidden, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear((inputs, *hidden)[-1], network.outputs))


def _of_images(network):
    height, width, channels = network.shape
    widths, layers = network.options.channels or (32, 64), []
    for before, after in zip((channels, *widths), widths, strict=False):
        window = network.options.window
        layers += [nn.Conv2d(before, after, window, padding=window // 2), nn.ReLU(), nn.MaxPool2d(2)]
    places = (height // 2 ** len(widths)) * (width // 2 ** len(widths))
    return nn.Sequential(*layers, Flat(), _dense(places * widths[-1], network.options.hidden, network))


class Flat(nn.Module):
    """The numbers of all places in a row, channels last, as jaxnet has them."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


class Transformer(nn.Module):
    def __init__(self, outputs, width, heads, depth, length):
        super().__init__()
        self.embedding, self.places = nn.Embedding(outputs, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs, bias=False)

    def forward(self, ids):
        # Of each example by itself, since its gradient is asked for; copies, which ghost clipping takes a view of.
        at = torch.arange(ids.shape[1]).repeat(len(ids), 1)
        return self.head(self.norm(self.blocks(self.embedding(ids) + self.places(at))))


class _Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        self.queries, self.keys, self.values, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.norm_of_change = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        normed = self.norm(x)
        parts = [
            of(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2) for of in (self.queries, self.keys, self.values)
        ]
        seen = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.norm_of_change(x)), approximate="tanh"))
