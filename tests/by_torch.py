"""What PyTorch's own layers give, in float64: `python tests/by_torch.py` writes it beside itself, and needs torch."""

import json
from functools import partial
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

ATTENTION = {
    "attention(4)": (4, {}),
    "attention(4, causal=True)": (4, {"is_causal": True}),
    "attention(4, kv_heads=2)": (2, {"enable_gqa": True}),
    "attention(4, causal=True, window=2)": (4, {"attn_mask": torch.ones(4, 4).tril().triu(-1).bool()}),
}


def attention(heads, kv_heads, options, q, k, v):
    """By PyTorch, which has the heads before the positions."""
    q, k, v = (x.unflatten(-1, (n, -1)).transpose(1, 2) for x, n in ((q, heads), (k, kv_heads), (v, kv_heads)))
    return functional.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2).flatten(2)


def multi_head(x, weights, biases, output_weights, output_biases):
    """Of 4 features and 2 heads, causal; PyTorch has the positions before the examples."""
    of_layer = weights, biases, None, None, False, 0.0, output_weights, output_biases
    x, mask = x.transpose(0, 1), torch.ones(3, 3).triu(1).bool()
    y, _ = functional.multi_head_attention_forward(x, x, x, 4, 2, *of_layer, attn_mask=mask, need_weights=False)
    return y.transpose(0, 1)


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
    kept |= {name: results(function, 2 * torch.randn(3, 2, 4)) for name, function in BETWEEN_FEATURES.items()}
    for name, (kv_heads, options) in ATTENTION.items():
        shapes = (1, 4, 8), (1, 4, 2 * kv_heads), (1, 4, 2 * kv_heads)
        kept[name] = results(partial(attention, 4, kv_heads, options), *(torch.randn(*shape) for shape in shapes))
    shapes = (2, 3, 4), (12, 4), (12,), (4, 4), (4,)
    kept["multi_head_attention(4, 2, causal=True)"] = results(multi_head, *(torch.randn(*shape) for shape in shapes))
    return kept


if __name__ == "__main__":
    KEPT.write_text(json.dumps(everything()) + "\n")
