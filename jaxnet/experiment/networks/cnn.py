"""`--model cnn`: blocks of convolutions, then dense layers."""

import dataclasses

from jaxnet.compose import chain
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.networks.architecture import Architecture, register
from jaxnet.experiment.networks.choices import ACTIVATIONS
from jaxnet.experiment.networks.images import ImageOptions, as_training_sees_them, told, with_channels
from jaxnet.layer import Layer
from jaxnet.networks import cnn

CHANNELS = (32, 64)
# Found on digits, and on 8,000 images of MNIST's.
SUITS = {"epochs": 20, "schedule": "cosine", "shift": 1}


@dataclasses.dataclass(frozen=True)
class CnnOptions(ImageOptions):
    """The options of a convolutional network."""

    hidden: tuple[int, ...] = (256,)
    """Neurons of each hidden layer; give none for a linear model."""
    window: int = 3
    """Pixels along each axis that a neuron of a convolution sees."""
    dropout: float = 0.0
    """The rate at which inputs of cnn's dense layers, or the outputs of a text network's layers, are left out in
    training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1:
            raise BadInput(f"--window: expected an integer of at least 1, got {self.window}")
        if not 0 <= self.dropout < 1:
            raise BadInput(f"--dropout: expected a rate from 0 to below 1, got {self.dropout}")


def _build(options: CnnOptions, shape: tuple[int, ...], outputs: int, output_activation: str) -> Layer:
    try:
        net = cnn(
            shape,
            outputs,
            channels=options.channels or CHANNELS,
            hidden=options.hidden,
            window=options.window,
            groups=options.groups,
            activation=ACTIVATIONS[options.activation],
            dropout=options.dropout,
        )
    except ValueError as error:
        raise BadInput(f"--model {error}") from None
    last = () if output_activation == "identity" else (ACTIVATIONS[output_activation],)
    return as_training_sees_them(options, shape, chain(net, *last) if last else net)


def _described(options, shape, outputs):
    blocks = "-".join(map(str, options.channels or CHANNELS))
    dense = "-".join(map(str, (*options.hidden, outputs)))
    size = "x".join(map(str, shape))
    return f"{size}, convolutions {blocks}, dense {dense}, {options.activation}{told(options)}"


CNN = register(Architecture("cnn", CnnOptions, _build, _described, with_channels, suits=SUITS))
