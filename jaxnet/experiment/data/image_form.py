"""How the images of a folder become arrays of one shape."""

from typing import NamedTuple


class ImageForm(NamedTuple):
    """Height, width and channels of images.

    Attributes:
      size: height and width in pixels; None: what the images have.
      channels: 1 of grey, 3 of colours; None: 1 where all images are grey.
      resized: whether images of another size are resized; else they are refused.
    """

    size: tuple[int, ...] | None = None
    channels: int | None = None
    resized: bool = False


ANY = ImageForm()


def asked(size: tuple[int, ...]) -> ImageForm:
    """What `--image-size` asks for; nothing where it is not given."""
    return ANY._replace(size=size, resized=True) if size else ANY
