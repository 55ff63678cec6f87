"""What networks for images have in common: the shape that they take, and how training sees the images."""

import dataclasses

from jaxnet.compose import chain
from jaxnet.experiment.console.errors import BadInput, option
from jaxnet.experiment.networks.choices import Activation
from jaxnet.layer import Layer
from jaxnet.layers.augmentation import random_crop, random_flip, random_shift


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
    """In training, move each image by up to so many pixels along each axis, anew in each step; cnn: by default 1."""
    crop: int = 0
    """In training, pad each image by so many pixels at each side, as if mirrored there, and cut one of the old size out
    of it, anew in each step; --shift has zeros at the side."""
    flip: bool = False
    """In training, mirror each image with probability 1/2, left and right."""

    def __post_init__(self) -> None:
        if not all(1 <= width < 2**16 for width in self.channels):
            raise BadInput(f"--channels: expected numbers from 1 to 2^16 - 1, got {' '.join(map(str, self.channels))}")
        if self.groups is not None and self.groups < 1:
            raise BadInput(f"--groups: expected an integer of at least 1, got {self.groups}")
        for name in ("shift", "crop"):
            if getattr(self, name) < 0:
                raise BadInput(f"{option(name)}: expected an integer of at least 0, got {getattr(self, name)}")


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


def as_training_sees_them(options: ImageOptions, shape: tuple[int, ...], net: Layer) -> Layer:
    """The network behind what moves, crops and mirrors its images of that shape.

    Raises:
      BadInput: when they are too small to be padded by their mirror images.
    """
    if options.crop >= min(shape[:-1]):
        size = " x ".join(map(str, shape[:-1]))
        raise BadInput(
            f"--crop: expected fewer pixels than the images have along each axis, {size}; got {options.crop}"
        )
    moved = [random_shift(options.shift)] if options.shift else []
    cropped = [random_crop(options.crop)] if options.crop else []
    mirrored = [random_flip] if options.flip else []
    changes = [*moved, *cropped, *mirrored]
    return chain(*changes, net) if changes else net


def told(options: ImageOptions) -> str:
    """What training does to images, in a few words."""
    moved = f", moved by up to {options.shift}" if options.shift else ""
    cropped = f", cropped after padding by {options.crop}" if options.crop else ""
    return moved + cropped + (", mirrored" if options.flip else "")
