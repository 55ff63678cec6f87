"""Reading MNIST's files, in the IDX format."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data.files import is_image, mapped_examples, require_finite
from jaxnet.experiment.data.source import InMemory, Source
from jaxnet.experiment.data.table import Table
from jaxnet.experiment.devices.memory import require_memory

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


# Below the folder that torchvision is given, its data sets are in folders of this name.
RAW = "raw"


def is_one(folder: Path) -> bool:
    """Whether MNIST's files, or some of them, are in the folder, or below it where torchvision leaves them."""
    place = _place(folder)
    return any(_find_idx(place, f"{part}-{what}") for part in ("train", "t10k") for what in ("images", "labels"))


def read_idx_folder(folder: Path, *, stream: bool = False) -> Table:
    """MNIST's files: train-images*, train-labels*, and t10k-* as the test part where they are there.

    They may also lie in `raw`, or in `NAME/raw` where that is the only one, as torchvision leaves them in `MNIST/raw`.
    With `stream` the images stay on disk, for which they must not be gzipped.
    """
    folder, test = _place(folder), None
    if _find_idx(folder, "t10k-images") or _find_idx(folder, "t10k-labels"):
        test = _read_images_and_labels(folder, "t10k", stream)
    train = _read_images_and_labels(folder, "train", stream)
    if test is not None and len(test.features) != len(train.features):
        raise BadInput(
            f"--data {folder}: expected test images of as many pixels as the training images', {len(train.features)}, "
            f"got {len(test.features)}"
        )
    return train._replace(test=test)


def _place(folder):
    """Where the files are: in the folder, or in one below as torchvision has it; the folder itself where in none."""
    if _find_idx(folder, "train-") or _find_idx(folder, "t10k-"):
        return folder
    below = [place for place in (folder / RAW, *sorted(folder.glob(f"*/{RAW}"))) if _find_idx(place, "train-")]
    if len(below) > 1:
        names = ", ".join(str(place.relative_to(folder)) for place in below)
        raise BadInput(f"--data {folder}: holds several data sets, {names}; give the folder of one")
    return below[0] if below else folder


def _read_images_and_labels(folder, part, stream):
    paths = {}
    for what in ("images", "labels"):
        path = _find_idx(folder, f"{part}-{what}")
        if path is None:
            expected = "expected x.npy and y.npy, MNIST's IDX files, or images in a folder for each class"
            raise BadInput(f"--data {folder}: has no file {part}-{what}*, plain or .gz; {expected}")
        paths[what] = path
    if stream and paths["images"].suffix == ".gz":
        raise BadInput(f"--stream: {paths['images']} is gzipped, and cannot be read in blocks; unpack it with gunzip")
    images, labels = read_idx(paths["images"], mapped=stream), read_idx(paths["labels"])
    if images.ndim < 2 or images.size == 0:
        raise BadInput(f"--data {paths['images']}: expected images, (examples, rows, columns), got {images.shape}")
    if labels.shape != images.shape[:1]:
        raise BadInput(
            f"--data {paths['labels']}: expected {len(images)} labels, one for each image, got {labels.shape}"
        )
    if stream:
        x: Source = mapped_examples(paths["images"], images, "pixels")
    else:
        x = InMemory(images.astype(np.float64))
        require_finite(paths["images"], "pixels", x.values.reshape(len(x), -1))
    y = labels.reshape(-1, 1).astype(np.float64)
    require_finite(paths["labels"], "labels", y)
    features = tuple(f"pixel{column}" for column in range(math.prod(x.shape[1:])))
    names = labels if labels.dtype.kind in "iu" else None
    return Table(str(folder), x, y, features, ("label",), labels=True, names=names, image=is_image(images))


def _find_idx(folder, start):
    found = sorted(path for path in folder.glob(f"{start}*") if path.is_file())
    return found[0] if found else None


def read_idx(path: Path, *, mapped: bool = False) -> np.ndarray:
    """An array in Yann LeCun's IDX format, plain or gzipped; a plain one may be mapped, and left on disk.

    Two zero bytes, a byte for the type, a byte for the number of axes, each axis's length in four bytes, then the
    values, all big-endian.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            start = file.read(4)
            if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in IDX_TYPES or not 0 < start[3] < 9:
                raise BadInput(f"--data {path}: expected an IDX file, got other first bytes")
            dtype, lengths = np.dtype(IDX_TYPES[start[2]]), file.read(4 * start[3])
            shape = tuple(int(n) for n in np.frombuffer(lengths[: len(lengths) // 4 * 4], ">u4"))
            expected = math.prod(shape) * dtype.itemsize
            # gzip packs at most 1032 bytes into one: a larger promise is refused before memory is asked for.
            if len(shape) < start[3] or expected > 1032 * path.stat().st_size:
                raise BadInput(f"--data {path}: is cut short; its first bytes promise {expected} bytes of values")
            if not mapped:
                require_memory(path, shape)
            offset = file.tell()
            length = path.stat().st_size - offset if mapped else len(values := file.read(expected + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"--data {path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if length != expected:
        how = "is cut short" if length < expected else "goes on after its values"
        raise BadInput(f"--data {path}: {how}; expected {expected} bytes of values for the shape {shape}")
    if mapped and expected:
        return np.memmap(path, dtype, mode="r", offset=offset, shape=shape)
    return np.frombuffer(values, dtype).reshape(shape)
