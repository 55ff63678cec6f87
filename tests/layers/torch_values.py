"""PyTorch's own layers: writes torch_values.npz, which the tests of norms and pools read; needs torch 2.13.

`python tests/layers/torch_values.py`, from anywhere. PyTorch has channels first, the file channels last.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

FILE = Path(__file__).with_suffix(".npz")
EXAMPLES, CHANNELS = 3, 6
torch.set_default_dtype(torch.float64)


def channels_last(array):
    return np.moveaxis(array.detach().numpy(), 1, -1)


def values(layer, x):
    """Weights, input, output, a random cotangent, and the gradients by it."""
    generator = torch.Generator().manual_seed(1)
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    x.requires_grad_()
    y = layer(x)
    dy = torch.randn(y.shape, generator=generator)
    y.backward(dy)
    weights = {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}
    gradients = {f"d{name}": parameter.grad.numpy() for name, parameter in layer.named_parameters()}
    signals = {"x": x, "y": y, "dy": dy, "dx": x.grad}
    return weights | gradients | {name: channels_last(signal) for name, signal in signals.items()}


def image(*positions):
    generator = torch.Generator().manual_seed(0)
    return torch.randn((EXAMPLES, CHANNELS, *positions), generator=generator)


LAYERS = {
    "layer_norm": (nn.LayerNorm(CHANNELS), image()),
    "rms_norm": (nn.RMSNorm(CHANNELS, eps=1e-5), image()),
    "group_norm": (nn.GroupNorm(3, CHANNELS), image(4, 5)),
    "instance_norm": (nn.InstanceNorm2d(CHANNELS, affine=True), image(4, 5)),
    "max_pool, windows that tile": (nn.MaxPool2d((2, 3)), image(7, 6)),
    "max_pool, windows that overlap": (nn.MaxPool2d((3, 2), stride=(2, 1), padding=(1, 0)), image(7, 6)),
    "max_pool, one axis": (nn.MaxPool1d(3, stride=2), image(8)),
    "max_pool, three axes": (nn.MaxPool3d(2), image(4, 3, 2)),
    "avg_pool, windows that tile": (nn.AvgPool2d((2, 3)), image(7, 6)),
    "avg_pool, windows that overlap": (
        nn.AvgPool2d((3, 2), stride=(2, 1), padding=(1, 0), count_include_pad=False),
        image(7, 6),
    ),
    "avg_pool, one axis": (nn.AvgPool1d(3, stride=2), image(8)),
    "global_mean": (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), image(4, 5)),
    "global_max": (nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()), image(4, 5)),
}

if __name__ == "__main__":
    arrays = {}
    for name, (layer, x) in LAYERS.items():
        arrays |= {f"{name}/{part}": array for part, array in values(layer, x).items()}
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE.name}: {len(arrays)} arrays, {FILE.stat().st_size} bytes")
