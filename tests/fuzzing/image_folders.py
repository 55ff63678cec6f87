"""Folders of PNG and JPEG images: broken, misplaced, of other sizes and kinds, in folders with odd names."""

import io
import random
from pathlib import Path

import numpy as np
from PIL import Image

from fuzzing.case import ODD_TEXTS, Case, broken_bytes, misplace

MODES = ("L", "L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16")
SIZES = ("4 4", "1 1", "3 5", "0 4", "4", "4 4 4", "x 4", "70000 4")


def make(rng: random.Random, folder: Path) -> Case:
    """A folder of two classes to train on, with one image that is broken, or of another size, or a class more."""
    classes = [rng.choice(("cat", "train", _name(rng))), "dog"]
    parts = rng.choice((("new",), ("new",), ("new/train", "new/test"), ("new/train", "new/val")))
    paths = [folder / part / name / f"{k}.png" for part in parts for name in classes for k in range(10)]
    broken = rng.choice(paths)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_image(rng, path == broken and rng.random() < 0.3, "L"))
    match rng.randrange(4):
        case 0 | 1:
            broken.write_bytes(broken_bytes(rng, _image(rng, False, rng.choice(MODES))))
        case 2:
            misplace(rng, broken)
        case _:
            broken.rename(broken.with_name(rng.choice((".hidden.png", "notes.txt", "a.jpg", "a.gif"))))
    options = ["--image-size", *rng.choice(SIZES).split()] if rng.random() < 0.3 else []
    options += ["--stream"] if rng.random() < 0.1 else []
    return Case("train.py", ["--data", "new", "--hidden", "2", "--epochs", "1", "--out", "made", *options], ("made",))


def _image(rng, other, mode):
    size = rng.choice(((4, 5), (1, 1), (300, 2))) if other else (4, 4)
    pixels = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, size).astype(np.uint8)
    image = Image.fromarray(pixels.astype(np.uint16) if mode == "I;16" else pixels)
    file, kind = io.BytesIO(), "JPEG" if mode == "CMYK" else "PNG"
    (image if mode == "I;16" else image.convert(mode)).save(file, kind)
    return file.getvalue()


def _name(rng):
    """What a folder can be called."""
    texts = [text for text in ODD_TEXTS if text.strip(".") and not set(text) & set("/\0\udcff") and len(text) < 250]
    return rng.choice(texts)
