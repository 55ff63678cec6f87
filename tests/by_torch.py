"""What PyTorch's own layers give, in float64: `python tests/by_torch.py` writes it beside itself, and needs torch."""

import json
from pathlib import Path

import torch
from torch.nn import functional

KEPT = Path(__file__).with_suffix(".json")
ACTIVATIONS = {
    "elu": functional.elu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda z: functional.gelu(z, approximate="tanh"),
    "hard_tanh": functional.hardtanh,
    "leaky_relu": functional.leaky_relu,
    "log_sigmoid": functional.logsigmoid,
    "selu": functional.selu,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
}
# Each number of the output depends on several ones of the input.
BETWEEN_FEATURES = {
    "geglu": lambda x: x[..., :2] * functional.gelu(x[..., 2:]),
    "glu": functional.glu,
    "log_softmax": lambda x: functional.log_softmax(x, -1),
    "swiglu": lambda x: x[..., :2] * functional.silu(x[..., 2:]),
}


def results(function, *inputs):
    """Inputs, output, the cotangent cos(0), cos(1), ... of the output, and the gradients by the inputs."""
    inputs = [leaf.requires_grad_() for leaf in inputs]
    y = function(*inputs)
    dy = torch.arange(y.numel(), dtype=torch.float64).cos().reshape(y.shape)
    return {
        "inputs": [leaf.tolist() for leaf in inputs],
        "y": y.tolist(),
        "gradients": [leaf.tolist() for leaf in torch.autograd.grad(y, inputs, dy)],
    }


def everything():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    kept = {name: results(function, 2 * torch.randn(3, 4)) for name, function in ACTIVATIONS.items()}
    return kept | {name: results(function, 2 * torch.randn(3, 2, 4)) for name, function in BETWEEN_FEATURES.items()}


if __name__ == "__main__":
    KEPT.write_text(json.dumps(everything()) + "\n")
