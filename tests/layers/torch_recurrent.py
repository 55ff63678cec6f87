"""What PyTorch's own recurrent layers give, in float64: written beside this file, where torch is.

`python tests/layers/torch_recurrent.py`
"""

import json
from pathlib import Path

import torch
from torch import nn

VALUES = Path(__file__).with_suffix(".json")
EXAMPLES, TIMES, INPUTS, HIDDEN = 3, 4, 2, 3
LAYERS = {
    "rnn": nn.RNN,
    "rnn relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
    "gru": nn.GRU,
    "lstm": nn.LSTM,
}


def numbers(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def values(make):
    """Weights, input, all states, a random cotangent of them, and the gradients by it."""
    layer = make(INPUTS, HIDDEN, batch_first=True, dtype=torch.float64)
    for seed, parameter in enumerate(layer.parameters()):
        parameter.data = numbers(*parameter.shape, seed=seed)
    x, dy = numbers(EXAMPLES, TIMES, INPUTS, seed=10).requires_grad_(), numbers(EXAMPLES, TIMES, HIDDEN, seed=11)
    y, _ = layer(x)
    y.backward(dy)
    weights = {name: parameter.data for name, parameter in layer.named_parameters()}
    gradients = {f"d{name}": parameter.grad for name, parameter in layer.named_parameters()}
    return weights | gradients | {"x": x, "y": y, "dy": dy, "dx": x.grad}


if __name__ == "__main__":
    of_all = {name: {part: value.tolist() for part, value in values(make).items()} for name, make in LAYERS.items()}
    VALUES.write_text(json.dumps(of_all) + "\n", "utf-8")
