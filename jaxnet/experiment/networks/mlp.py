"""`--model mlp`: a multilayer perceptron."""

import dataclasses
import math
from typing import Any

from jaxnet import initializers
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.networks.architecture import Architecture, register
from jaxnet.experiment.networks.choices import ACTIVATIONS, INITIALIZERS, Activation, Init
from jaxnet.layer import Layer
from jaxnet.networks import mlp, suited_to

USE = "z = a W^T + b for each layer, from a = clip((x - features_shift) * features_factor, *features_bounds)"


@dataclasses.dataclass(frozen=True)
class MlpOptions:
    """The options of a multilayer perceptron."""

    hidden: tuple[int, ...] = (256,)
    """Neurons of each hidden layer; give none for a linear model."""
    activation: Activation = "relu"
    """After each hidden layer."""
    init: Init = "auto"
    """How weights start; auto: He before relu and what is like it (leaky_relu, elu, gelu, gelu_tanh, silu), LeCun
    before selu, Glorot elsewhere."""

    def __post_init__(self) -> None:
        if not all(1 <= width < 2**24 for width in self.hidden):
            raise BadInput(f"--hidden: expected widths from 1 to 2^24 - 1, got {' '.join(map(str, self.hidden))}")


def _build(options: MlpOptions, shape: tuple[int, ...], outputs: int, output_activation: str) -> Layer:
    return mlp(
        _sizes(options, shape, outputs),
        ACTIVATIONS[options.activation],
        output_activation=ACTIVATIONS[output_activation],
        weight_init=INITIALIZERS[options.init],
    )


def _described(options, shape, outputs):
    return f"{'-'.join(map(str, _sizes(options, shape, outputs)))}, {options.activation}"


def _settled(options, output_activation):
    """How each layer's weights start, by name."""
    layers = len(options.hidden) + 1
    if options.init != "auto":
        return {"init": [options.init] * layers}
    names = {initializers.he: "he", initializers.glorot: "glorot", initializers.lecun: "lecun"}
    followers = [options.activation] * len(options.hidden) + [output_activation]
    return {"init": [names[suited_to(ACTIVATIONS[follower])] for follower in followers]}


def _arrays(params):
    """W1, b1, W2, ..."""
    arrays: dict[str, Any] = {}
    for number, layer in enumerate((layer for layer in params if layer != ()), start=1):
        arrays |= {f"W{number}": layer.W, f"b{number}": layer.b}
    return arrays


def _about(options, shape, outputs):
    return {"sizes": _sizes(options, shape, outputs), "activation": options.activation, "use": USE}


def _sizes(options, shape, outputs):
    return (*shape, *options.hidden, outputs)


def _in_a_row(shape):
    return (math.prod(shape),)


MLP = register(Architecture("mlp", MlpOptions, _build, _described, _in_a_row, _settled, _arrays, _about))
