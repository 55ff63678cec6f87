"""Folders of PNG and JPEG images: a folder for each class, or images alone."""

import contextlib
import itertools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnet.experiment.console import packages
from jaxnet.experiment.console.errors import BadInput, Failure, some
from jaxnet.experiment.data.image_form import ANY, ImageForm
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.table import Table
from jaxnet.experiment.devices.memory import require_memory

ENDINGS = (".png", ".jpg", ".jpeg")
# Names of folders for the parts of a data set, as other tools leave them.
PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
# So many folders below the one that is given, a part and a class, images are looked for to tell what it is.
DEPTH = 2
GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")
WITH_ALPHA = ("LA", "PA", "RGBA", "RGBa", "La")
# JPEG's tag of how a camera was held; from this value on width and height are exchanged.
ORIENTATION, SIDEWAYS = 0x0112, 5


class _Found(NamedTuple):
    """Image files of one part.

    Attributes:
      paths: in order.
      labels: the class of each, or None where there are no folders of classes.
    """

    paths: list[Path]
    labels: list[str] | None


def is_one(folder: Path) -> bool:
    """Whether a folder holds images, itself or in folders of classes, or of parts and classes."""
    try:
        return folder.is_dir() and next(_images_at_most(folder, DEPTH), None) is not None
    except OSError:
        return False


def _images_at_most(folder, depth):
    entries = sorted(_visible(folder))
    yield from (path for path in entries if _is_image(path))
    for path in entries if depth else ():
        if path.is_dir():
            yield from _images_at_most(path, depth - 1)


def read(folder: Path, form: ImageForm = ANY, *, with_target: bool = True) -> Table:
    """Images (m, height, width), or (m, height, width, 3) of colours, from 0 to 255, and the names of their classes.

    A folder below is a class, with all images in it and in its own folders. Where all folders are called as parts are
    (train, val, test), these hold the classes; images without such folders have none.

    Args:
      folder: where they are.
      form: of the images; what it leaves open is found out.
      with_target: whether there must be classes.

    Raises:
      BadInput: naming the file, and what was expected.
    """
    if not packages.is_there("PIL"):
        raise Failure(f"--data {folder}: {packages.missing('PIL')}")
    try:
        places = _parts(folder)
        left_out = [] if places == {"train": folder} else sorted(set(folder.iterdir()) - set(places.values()))
        found = {part: _find(place, left_out) for part, place in places.items()}
    except OSError as error:
        raise BadInput(f"--data {error.filename or folder}: cannot be read ({error.strerror})") from None
    if with_target and found["train"].labels is None:
        raise BadInput(
            f"--data {folder}: holds images and no folders of classes; expected {places['train']}/CLASS/IMAGE"
        )
    notes = []
    for part in [part for part, of_part in found.items() if with_target and of_part.labels is None]:
        del found[part]
        notes.append(f"{places[part]} has no folders of classes, and is left out; jaxnet predict takes it")
    form = _settled(form, list(itertools.chain(*(of_part.paths for of_part in found.values()))), notes)
    if left_out:
        what = "1 file is" if len(left_out) == 1 else f"{len(left_out)} files and folders are"
        below = [os.path.relpath(name, folder) for name in left_out]
        notes.append(f"{what} no image in a folder of a class, and left out: {some(below, 4)}")
    tables = {part: _table(folder, places[part], of_part, form) for part, of_part in found.items()}
    return tables.pop("train")._replace(notes=tuple(notes), **tables)


def _visible(folder) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _is_image(path):
    return path.suffix.lower() in ENDINGS and path.is_file()


def _parts(folder):
    """Where the images of each part are: in folders of its own, or all in the one that is given."""
    below = {path.name.lower(): path for path in sorted(_visible(folder)) if path.is_dir()}
    known = {name: part for part, names in PARTS.items() for name in names}
    parts = [known.get(name) for name in below]
    if "train" not in parts or None in parts or len(set(parts)) < len(parts):
        return {"train": folder}
    return {part: place for part, place in zip(parts, below.values(), strict=True) if part is not None}


def _find(place, left_out):
    """The images of a part; what is none of them is added to what is left out."""
    entries = sorted(place.iterdir())
    classes: dict[Path, list[Path]] = {path: [] for path in entries if path.is_dir() and not path.name.startswith(".")}
    for of_class, images in classes.items():
        for at, folders, names in os.walk(of_class):
            hidden = [name for name in folders if name.startswith(".")]
            folders[:] = sorted(set(folders) - set(hidden))
            for path in (Path(at, name) for name in sorted([*names, *hidden])):
                shown = _is_image(path) and not path.name.startswith(".")
                (images if shown else left_out).append(path)
    alone = [path for path in entries if _is_image(path) and not path.name.startswith(".")]
    with_images = {of_class: images for of_class, images in classes.items() if images}
    taken = {*with_images, *(() if with_images else alone)}
    left_out += [path for path in entries if path not in taken]
    if not with_images and not alone:
        raise BadInput(f"--data {place}: holds no image; expected files that end with {', '.join(ENDINGS)}")
    if not with_images:
        return _Found(alone, None)
    labels = [of_class.name for of_class, images in with_images.items() for _ in images]
    return _Found(list(itertools.chain(*with_images.values())), labels)


def _settled(form, paths, notes):
    """What the form leaves open, by the first bytes of all images; what becomes of them is noted."""
    modes: set[str] = set()
    sizes: dict[tuple[int, ...], Path] = {}
    for path in paths:
        with _opened(path) as image:
            modes.add(image.mode)
            height, width = image.height, image.width
            sideways = image.format == "JPEG" and image.getexif().get(ORIENTATION, 1) >= SIDEWAYS
        sizes.setdefault((width, height) if sideways else (height, width), path)
    if not form.resized:
        expected = form.size or next(iter(sizes))
        for size, path in sizes.items():
            if size != expected:
                other = "the run's images are" if form.size else f"{sizes[expected]} is"
                remedy = "" if form.size else f"; --image-size {expected[0]} {expected[1]} resizes all to that"
                raise BadInput(f"--data {path}: is {_told(size)}, and {other} {_told(expected)}{remedy}")
        form = form._replace(size=expected)
    elif set(sizes) != {form.size}:
        notes.append(f"images are resized to {_told(form.size)}")
    if modes & set(WITH_ALPHA):
        notes.append("how transparent pixels are is left out")
    return form._replace(channels=form.channels or (1 if modes <= set(GREY) else 3))


def _told(size):
    """As options have it: height, then width."""
    return f"{size[0]} x {size[1]} pixels"


def _table(folder, place, found, form):
    shape = (len(found.paths), *form.size, *(() if form.channels == 1 else (form.channels,)))
    require_memory(folder, shape)
    pixels = np.empty(shape)
    for row, path in enumerate(found.paths):
        pixels[row] = _pixels(path, form)
    features = tuple(f"pixel{k}" for k in range(pixels[0].size))
    y = None if found.labels is None else np.array(found.labels)
    files = np.array([os.path.relpath(path, place) for path in found.paths])
    return Table(str(folder), InMemory(pixels), y, features, ("class",), image=True, form=form, files=files)


def _pixels(path, form):
    """From 0 to 255, upright, (height, width) or (height, width, 3)."""
    from PIL import Image, ImageOps

    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image) if image.format == "JPEG" else image
        if upright.mode.startswith("I"):
            # Of 16 bits, which Pillow would cut off.
            upright = Image.fromarray((np.asarray(upright, np.float64) / 257).round().astype(np.uint8))
        upright = upright.convert("L" if form.channels == 1 else "RGB")
        if form.resized:
            height, width = form.size
            upright = upright.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(upright)


@contextlib.contextmanager
def _opened(path) -> Iterator[Any]:
    """An image file; whatever is wrong with it is told in one line."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                yield image
    except (BadInput, MemoryError):
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise BadInput(f"--data {path}: has more pixels than {Image.MAX_IMAGE_PIXELS:,}; expected a picture") from None
    except Exception as error:  # a damaged image can raise nearly anything
        if isinstance(error, OSError) and error.strerror is not None:
            raise BadInput(f"--data {path}: cannot be read ({error.strerror})") from None
        raise BadInput(f"--data {path}: is damaged or cut short; expected a whole PNG or JPEG image") from None
