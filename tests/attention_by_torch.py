"""PyTorch's own attention, in float64: `python tests/attention_by_torch.py` writes it beside itself, and needs torch.

Self-attention and cross-attention with keys that only fill up; of a row without keys PyTorch's softmax gives nan, so
that each example has one at least.
"""

import json
from pathlib import Path

import torch
from torch.nn import functional

KEPT = Path(__file__).with_suffix(".json")
EXAMPLES, QUERIES, KEYS, WIDTH, HEADS, CONTEXT = 3, 4, 5, 4, 2, 6
LENGTHS = [1, 5, 3]
# True for keys that are none.
PADDING = torch.arange(KEYS)[None] >= torch.tensor(LENGTHS)[:, None]


def attention(q, k, v):
    """PyTorch has the heads before the positions."""
    q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (q, k, v))
    y = functional.scaled_dot_product_attention(q, k, v, attn_mask=~PADDING[:, None, None])
    return y.transpose(1, 2).flatten(2)


def multi_head(x, context, biases, output_weights, output_biases, **weights):
    """PyTorch has the positions before the examples."""
    of_layer = biases, None, None, False, 0.0, output_weights, output_biases
    x, context = x.transpose(0, 1), context.transpose(0, 1)
    y, _ = functional.multi_head_attention_forward(
        x, context, context, WIDTH, HEADS, weights.pop("in_proj_weight", None), *of_layer,
        key_padding_mask=PADDING, need_weights=False, **weights,
    )  # fmt: skip
    return y.transpose(0, 1)


def of_self(x, weights, *rest):
    return multi_head(x, x, *rest, in_proj_weight=weights)


def of_cross(x, context, q, k, v, *rest):
    separate = {"q_proj_weight": q, "k_proj_weight": k, "v_proj_weight": v}
    return multi_head(x, context, *rest, use_separate_proj_weight=True, **separate)


SELF, CROSS, KEY = (EXAMPLES, KEYS, WIDTH), (EXAMPLES, KEYS, CONTEXT), (WIDTH, CONTEXT)
REST = (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,)
CASES = {
    "attention": (attention, (EXAMPLES, QUERIES, WIDTH), SELF, SELF),
    "self": (of_self, SELF, (3 * WIDTH, WIDTH), *REST),
    "cross": (of_cross, (EXAMPLES, QUERIES, WIDTH), CROSS, (WIDTH, WIDTH), KEY, KEY, *REST),
}


def results(function, *shapes):
    """Inputs, output, the cotangent cos(0), cos(1), ... of the output, and the gradients by the inputs."""
    inputs = [torch.randn(*shape).requires_grad_() for shape in shapes]
    y = function(*inputs)
    dy = torch.arange(y.numel(), dtype=torch.float64).cos().reshape(y.shape)
    gradients = torch.autograd.grad(y, inputs, dy)
    of_inputs, of_gradients = ([leaf.tolist() for leaf in leaves] for leaves in (inputs, gradients))
    return {"lengths": LENGTHS, "inputs": of_inputs, "y": y.tolist(), "gradients": of_gradients}


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    KEPT.write_text(json.dumps({name: results(*case) for name, case in CASES.items()}) + "\n")
