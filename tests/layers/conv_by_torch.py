"""Writes conv_by_torch.json: what PyTorch's own convolutions give in float64, for test_conv.py to compare with.

Run it where PyTorch is installed: `python tests/layers/conv_by_torch.py`. Weights and inputs are cosines, so that they
need not be kept.
"""

import json
from pathlib import Path

import numpy as np

VALUES = Path(__file__).with_suffix(".json")
CASES = {
    # positions, inputs, outputs, and the arguments of `conv` after them.
    "one axis": ((7,), 2, 3, {"window": (3,), "stride": (2,), "padding": ((1, 1),), "dilation": (2,), "groups": 1}),
    "two axes": (
        (5, 4),
        4,
        2,
        {"window": (3, 2), "stride": (1, 2), "padding": ((2, 0), (1, 1)), "dilation": (1, 2), "groups": 2},
    ),
    "three axes": (
        (3, 4, 2),
        2,
        2,
        {
            "window": (2, 3, 1),
            "stride": (1, 3, 1),
            "padding": ((1, 1), (2, 2), (0, 0)),
            "dilation": (1, 1, 1),
            "groups": 1,
        },
    ),
}
EXAMPLES = 2


def cosines(shape, frequency):
    """Numbers that look like no pattern of the shape."""
    return np.cos(frequency * np.arange(1.0, 1 + np.prod(shape))).reshape(shape)


def arrays(case):
    """(W, b, x), channels last."""
    positions, inputs, outputs, options = case
    W = cosines((outputs, *options["window"], inputs // options["groups"]), 1.7)
    return W, cosines((outputs,), 0.9), cosines((EXAMPLES, *positions, inputs), 2.3)


def cotangent(shape):
    """dz."""
    return cosines(shape, 3.1)


def main() -> None:
    """Runs PyTorch's convolutions, channels first, forward and back."""
    import torch
    from torch.nn import functional

    def first(array):
        return torch.tensor(np.moveaxis(array, -1, 1), requires_grad=True)

    def last(tensor):
        return np.moveaxis(tensor.detach().numpy(), 1, -1)

    values = {}
    for name, case in CASES.items():
        positions, _, _, options = case
        W, b, x = arrays(case)
        W, b, x = first(W), torch.tensor(b, requires_grad=True), first(x)
        of_last_axis_first = [number for pair in reversed(options["padding"]) for number in pair]
        convolve = getattr(functional, f"conv{len(positions)}d")
        z = convolve(
            functional.pad(x, of_last_axis_first), W, b, options["stride"], 0, options["dilation"], options["groups"]
        )
        dz = cotangent(last(z).shape)
        z.backward(torch.tensor(np.moveaxis(dz, -1, 1)))
        results = {"z": last(z), "dW": last(W.grad), "db": b.grad.numpy(), "dx": last(x.grad)}
        values[name] = {what: result.tolist() for what, result in results.items()}
    VALUES.write_text(json.dumps(values, indent=None) + "\n")


if __name__ == "__main__":
    main()
