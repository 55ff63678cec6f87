"""What BackPACK reads, in float64: `python tests/by_backpack.py` writes it beside itself, and needs BackPACK 1.7.1.

Of the networks of `backpack_cases.py`, in jaxnet's layouts: channels last, and weights (o, *window, i / groups).
"""

import json
from pathlib import Path

import numpy as np
import torch
from backpack import backpack, extend, extensions
from backpack.core.derivatives.crossentropyloss import CrossEntropyLossDerivatives
from backpack.core.derivatives.elementwise import ElementwiseDerivatives
from backpack.custom_module.permute import Permute
from backpack.custom_module.reduce_tuple import ReduceTuple
from backpack_cases import CASES, DRAWN, EXAMPLES, KRONECKER, LABELS, inputs, weights
from torch import nn

KEPT = Path(__file__).with_suffix(".json")
ELEMENTWISE = {
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "log_sigmoid": nn.LogSigmoid,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
OVER_POSITIONS = {"avg_pool": "AvgPool", "conv": "Conv", "conv_transpose": "ConvTranspose", "max_pool": "MaxPool"}


class Drawn:
    """In place of a distribution: the labels that the test draws, too."""

    def sample(self, shape):
        return torch.tensor(DRAWN).expand(*shape, EXAMPLES)


def prepare():
    """64 bits, labels that are known, and channels that were moved, of which BackPACK takes a view."""
    torch.set_default_dtype(torch.float64)
    CrossEntropyLossDerivatives._make_distribution = lambda self, outputs: Drawn()
    hessian_diagonal = ElementwiseDerivatives.hessian_diagonal
    ElementwiseDerivatives.hessian_diagonal = lambda *arguments: hessian_diagonal(*arguments).contiguous()


def modules(axes, name, *arguments):
    """The modules that a layer of jaxnet is."""
    if name in OVER_POSITIONS:
        *sizes, options = arguments
        options = options | {"kernel_size": options["window"], "padding": [before for before, _ in options["padding"]]}
        del options["window"]
        return [getattr(nn, f"{OVER_POSITIONS[name]}{axes}d")(*sizes, **options)]
    if name in ELEMENTWISE:
        return [ELEMENTWISE[name]()]
    if name in ("rnn", "lstm"):
        recurrent = getattr(nn, name.upper())(*arguments, batch_first=True)
        return [recurrent, ReduceTuple(0), Permute(0, 2, 1)]
    if name == "global_mean":
        return [getattr(nn, f"AdaptiveAvgPool{axes}d")(1), nn.Flatten()]
    return [{"dense": nn.Linear, "embedding": nn.Embedding, "flatten": nn.Flatten}[name](*arguments)]


def channels_last(array, axis):
    """An array that has them at the axis, where there is one and positions behind it."""
    return np.moveaxis(array, axis, -1) if array.ndim > axis + 1 else array


def channels_first(array):
    return torch.tensor(np.moveaxis(array, -1, 1) if array.ndim > 2 else array)


def set_weights(net):
    """Returns the parameters that jaxnet has, too, in its order."""
    parameters = []
    for name, parameter in net.named_parameters():
        # PyTorch's second bias of a recurrent layer adds to the first, and has the same readings.
        if "bias_hh" in name:
            parameter.data = torch.zeros_like(parameter)
            continue
        shape = channels_last(parameter.detach().numpy(), 1).shape
        parameter.data = channels_first(weights(shape, len(parameters)))
        parameters.append(parameter)
    return parameters


def kronecker(parameter, factors):
    """B and A, with A's rows and columns in the order of our windows."""
    factors = [factor.numpy() for factor in factors]
    if len(factors) == 2 and parameter.ndim > 2:
        order = channels_last(np.arange(len(factors[1])).reshape(parameter.shape[1:]), 0).ravel()
        factors[1] = factors[1][np.ix_(order, order)]
    return factors


def values(case):
    """Each reading's values, a list for each parameter, or for each of its factors."""
    axes = len(case.positions)
    net = extend(nn.Sequential(*(module for layer in case.layers for module in modules(axes, *layer))))
    parameters, loss = set_weights(net), extend(nn.CrossEntropyLoss())
    kept = {}
    for reading in case.readings:
        extension = getattr(extensions, reading)()
        with backpack(extension):
            loss(net(channels_first(inputs(case))), torch.tensor(LABELS)).backward()
        of_parameters = [(parameter, getattr(parameter, extension.savefield)) for parameter in parameters]
        if reading in KRONECKER:
            arrays = [factor for pair in of_parameters for factor in kronecker(*pair)]
        else:
            axis = 1 + reading.startswith("Batch")
            arrays = [channels_last(value.detach().numpy(), axis) for _, value in of_parameters]
        kept[reading] = [array.tolist() for array in arrays]
    return kept


if __name__ == "__main__":
    prepare()
    KEPT.write_text(json.dumps({name: values(case) for name, case in CASES.items()}) + "\n")
