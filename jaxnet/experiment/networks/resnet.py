"""`--model resnet`: a deep network of convolutions with skip connections."""

import dataclasses

from jaxnet.compose import chain
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.networks.architecture import Architecture, register
from jaxnet.experiment.networks.choices import ACTIVATIONS
from jaxnet.experiment.networks.images import ImageOptions, as_training_sees_them, told, with_channels
from jaxnet.layer import Layer
from jaxnet.networks import resnet

CHANNELS, GROUPS = (16, 32, 64), 8


@dataclasses.dataclass(frozen=True)
class ResnetOptions(ImageOptions):
    """The options of a residual network."""

    blocks: int = 2
    """Of each of resnet's stages."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks < 1:
            raise BadInput(f"--blocks: expected an integer of at least 1, got {self.blocks}")


def _build(options: ResnetOptions, shape: tuple[int, ...], outputs: int, output_activation: str) -> Layer:
    try:
        net = resnet(
            shape,
            outputs,
            channels=options.channels or CHANNELS,
            depth=options.blocks,
            groups=options.groups or GROUPS,
            activation=ACTIVATIONS[options.activation],
        )
    except ValueError as error:
        raise BadInput(f"--model {error}") from None
    last = () if output_activation == "identity" else (ACTIVATIONS[output_activation],)
    return as_training_sees_them(options, shape, chain(net, *last) if last else net)


def _described(options, shape, outputs):
    stages = "-".join(map(str, options.channels or CHANNELS))
    size = "x".join(map(str, shape))
    return f"{size}, stages {stages} of {options.blocks} blocks, {outputs} outputs, {options.activation}{told(options)}"


RESNET = register(Architecture("resnet", ResnetOptions, _build, _described, with_channels))
