"""Writes conv_by_torch.json: what PyTorch's own convolutions give in float64, for the tests beside it.

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
# Of `conv_transpose`. PyTorch cuts as much off before as behind.
TRANSPOSED = {
    "one axis": ((4,), 2, 3, {"window": (3,), "stride": (2,), "padding": ((1, 1),), "dilation": (2,), "groups": 1}),
    "two axes": (
        (3, 4),
        4,
        2,
        {"window": (3, 2), "stride": (1, 3), "padding": ((2, 2), (0, 0)), "dilation": (2, 1), "groups": 2},
    ),
    "three axes": (
        (2, 3, 2),
        2,
        2,
        {
            "window": (2, 3, 1),
            "stride": (1, 2, 1),
            "padding": ((1, 1), (1, 1), (0, 0)),
            "dilation": (2, 1, 1),
            "groups": 1,
        },
    ),
}
EXAMPLES = 2


def cosines(shape, frequency):
    """Numbers that look like no pattern of the shape."""
    return np.cos(frequency * np.arange(1.0, 1 + np.prod(shape))).reshape(shape)


def arrays(case, transposed=False):
    """(W, b, x), channels last."""
    positions, inputs, outputs, options = case
    first, last = (inputs, outputs) if transposed else (outputs, inputs)
    W = cosines((first, *options["window"], last // options["groups"]), 1.7)
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

    def convolved(x, W, b, options):
        of_last_axis_first = [number for pair in reversed(options["padding"]) for number in pair]
        padded = functional.pad(x, of_last_axis_first)
        convolve = getattr(functional, f"conv{x.ndim - 2}d")
        return convolve(padded, W, b, options["stride"], 0, options["dilation"], options["groups"])

    def spread(x, W, b, options):
        padding = [before for before, _ in options["padding"]]
        transpose = getattr(functional, f"conv_transpose{x.ndim - 2}d")
        return transpose(x, W, b, options["stride"], padding, 0, options["groups"], options["dilation"])

    values = {}
    for layer, cases, run in (("conv", CASES, convolved), ("conv_transpose", TRANSPOSED, spread)):
        for name, case in cases.items():
            W, b, x = arrays(case, run is spread)
            W, b, x = first(W), torch.tensor(b, requires_grad=True), first(x)
            z = run(x, W, b, case[3])
            z.backward(torch.tensor(np.moveaxis(cotangent(last(z).shape), -1, 1)))
            results = {"z": last(z), "dW": last(W.grad), "db": b.grad.numpy(), "dx": last(x.grad)}
            values[f"{layer}, {name}"] = {what: result.tolist() for what, result in results.items()}
    VALUES.write_text(json.dumps(values) + "\n")


if __name__ == "__main__":
    main()
