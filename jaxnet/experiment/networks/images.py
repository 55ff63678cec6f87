"""What networks for images have in common: the shape that they take, and how training sees the images."""

import dataclasses

from jaxnet.compose import chain
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.networks.choices import Activation
from jaxnet.layer import Layer
from jaxnet.layers.augmentation import random_flip, random_shift


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """The options of every network for images."""

    channels: tuple[int, ...] = ()
    """Of cnn's blocks, by default 32 64, and of resnet's stages, by default 16 32 64."""
    activation: Activation = "relu"
    """After each hidden layer."""
    groups: int | None = None
    """Of channels, each normalised by itself; by default no norms in cnn, and 8 groups in resnet."""
    shift: int = 0
    """In training, move each image by up to so many pixels along each axis, anew in each step."""
    flip: bool = False
    """In training, mirror each image with probability 1/2, left and right."""

    def __post_init__(self) -> None:
        if not all(1 <= width < 2**16 for width in self.channels):
            raise BadInput(f"--channels: expected numbers from 1 to 2^16 - 1, got {' '.join(map(str, self.channels))}")
        if self.groups is not None and self.groups < 1:
            raise BadInput(f"--groups: expected an integer of at least 1, got {self.groups}")
        if self.shift < 0:
            raise BadInput(f"--shift: expected an integer of at least 0, got {self.shift}")


def with_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(height, width, channels) of an image; grey ones have one channel.

    Raises:
      BadInput: when the examples are no images.
    """
    if len(shape) not in (2, 3):
        raise BadInput(
            "--model: cnn and resnet expect images (height, width) or (height, width, channels), as digits, IDX files "
            f"and x with these axes are; got examples of shape ({', '.join(map(str, shape))}); use --model mlp"
        )
    return shape if len(shape) == 3 else (*shape, 1)


def as_training_sees_them(options: ImageOptions, net: Layer) -> Layer:
    """The network behind what moves and mirrors its images."""
    moved = [random_shift(options.shift)] if options.shift else []
    mirrored = [random_flip] if options.flip else []
    return chain(*moved, *mirrored, net) if moved or mirrored else net


def told(options: ImageOptions) -> str:
    """What training does to images, in a few words."""
    moved = f", moved by up to {options.shift}" if options.shift else ""
    return moved + (", mirrored" if options.flip else "")
