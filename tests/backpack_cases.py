"""The networks of which `by_backpack.py` writes down what BackPACK reads, told layer by layer, as calls of jaxnet.

Weights, inputs and labels are cosines, so that they need not be kept, and so are the labels that are "drawn".
"""

from typing import Any, NamedTuple

import numpy as np

EXAMPLES = 3
MOMENTS = ("BatchGrad", "SumGradSquared", "Variance")
# With groups BackPACK 1.7.1 counts products between them, too: it is not the length of its own BatchGrad.
FIRST_ORDER = (*MOMENTS, "BatchL2Grad")
GAUSS_NEWTON = ("DiagGGNExact", "BatchDiagGGNExact", "DiagGGNMC")
HESSIAN = ("DiagHessian", "BatchDiagHessian")
KRONECKER = ("KFLR", "KFAC", "KFRA")


class Case(NamedTuple):
    """A network before a cross-entropy of its last layer's classes, and what is read."""

    positions: tuple[int, ...]
    layers: tuple[tuple[Any, ...], ...]
    readings: tuple[str, ...]


def window(size, stride, padding, dilation=1, groups=1):
    """Options of a convolution, all of which matter."""
    return {
        "window": size,
        "stride": stride,
        "padding": tuple((p, p) for p in padding),
        "dilation": dilation,
        "groups": groups,
    }


def pool(size, stride, padding):
    return {"window": size, "stride": stride, "padding": tuple((p, p) for p in padding)}


CASES = {
    "dense": Case(
        (),
        (("dense", 2, 3), ("sigmoid",), ("dense", 3, 3), ("tanh",), ("dense", 3, 3), ("relu",), ("dense", 3, 3)),
        FIRST_ORDER + GAUSS_NEWTON + HESSIAN + KRONECKER,
    ),
    "one axis": Case(
        (9,),
        (
            ("conv", 2, 4, window((3,), 2, (2,), 2, 2)),
            ("log_sigmoid",),
            ("avg_pool", pool((2,), 1, (0,))),
            ("conv_transpose", 4, 2, window((3,), 2, (1,), 2, 2)),
            ("elu",),
            ("max_pool", pool((3,), 2, (1,))),
            ("global_mean",),
            ("dense", 2, 3),
        ),
        MOMENTS + GAUSS_NEWTON + HESSIAN,
    ),
    "two axes": Case(
        (4, 5),
        (
            ("conv", 2, 2, window((3, 2), (1, 2), (1, 0), (1, 2))),
            ("selu",),
            ("max_pool", pool((2, 2), (1, 1), (0, 1))),
            ("conv_transpose", 2, 2, window((2, 1), (1, 2), (1, 0))),
            ("leaky_relu",),
            ("avg_pool", pool((2, 2), (2, 1), (0, 0))),
            ("global_mean",),
            ("dense", 2, 3),
        ),
        FIRST_ORDER + GAUSS_NEWTON[:1] + HESSIAN[:1],
    ),
    "three axes": Case(
        (3, 4, 3),
        (
            ("conv", 1, 2, window((2, 3, 1), (1, 2, 1), (1, 1, 0))),
            ("tanh",),
            ("avg_pool", pool((2, 1, 1), (1, 1, 1), (0, 0, 0))),
            ("conv_transpose", 2, 1, window((1, 2, 2), 1, (0, 0, 1))),
            ("max_pool", pool((1, 2, 1), (1, 1, 2), (0, 0, 0))),
            ("global_mean",),
            ("dense", 1, 3),
        ),
        FIRST_ORDER + GAUSS_NEWTON[:1] + HESSIAN[:1],
    ),
    "factors of convolutions": Case(
        (4, 4),
        (
            ("conv", 1, 2, window((2, 3), 1, (1, 0), (2, 1))),
            ("tanh",),
            ("max_pool", pool((2, 2), 2, (0, 0))),
            ("conv", 2, 3, window((2, 1), 1, (0, 0))),
            ("flatten",),
        ),
        KRONECKER,
    ),
    "rnn": Case(
        (3,), (("embedding", 4, 2), ("rnn", 2, 3), ("global_mean",), ("dense", 3, 3)), FIRST_ORDER + GAUSS_NEWTON[:2]
    ),
    "lstm": Case(
        (3,), (("embedding", 4, 2), ("lstm", 2, 2), ("global_mean",), ("dense", 2, 3)), FIRST_ORDER + GAUSS_NEWTON[:2]
    ),
}
CLASSES = 3
LABELS = np.arange(EXAMPLES) % CLASSES
DRAWN = (LABELS + np.array([0, 1, 2])) % CLASSES


def cosines(shape, frequency):
    """Numbers that look like no pattern of the shape."""
    return np.cos(frequency * np.arange(1.0, 1 + np.prod(shape, dtype=int))).reshape(shape)


def inputs(case):
    """x, channels last; ids (m, t) for an embedding."""
    name, first, *_ = case.layers[0]
    if name == "embedding":
        return (7 * np.arange(EXAMPLES * np.prod(case.positions)) // 3 % first).reshape(EXAMPLES, *case.positions)
    return cosines((EXAMPLES, *case.positions, first), 2.3)


def weights(shape, number):
    """The parameter of that number, in the order of the layers."""
    return 0.7 * cosines(shape, 1.7 + 0.3 * number)
