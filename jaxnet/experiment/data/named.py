"""Where examples come from: data sets that ship with scikit-learn, well-known shapes, and files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxnet.experiment.console.errors import BadInput, did_you_mean
from jaxnet.experiment.data import delimited, files, idx, lines, pictures, shipped
from jaxnet.experiment.data.delimited import ALL, Selection
from jaxnet.experiment.data.image_form import ANY, ImageForm
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.table import Table


def load(
    source: str,
    targets: tuple[str, ...] = (),
    selection: Selection = ALL,
    *,
    with_target: bool = True,
    stream: bool = False,
    form: ImageForm = ANY,
) -> Table:
    """Examples from a data set's name or a path.

    Args:
      source: a name in `NAMES`, a .csv, .tsv or .npz file, or a folder with x.npy and y.npy, with IDX files, or with
        images.
      targets: the target columns, for .csv and .tsv files only.
      selection: of the columns, for .csv and .tsv files only.
      with_target: whether the examples must come with targets, as they must for training.
      stream: leave the inputs on disk; for folders of arrays only.
      form: of images in a folder; what it leaves open is found out.

    Raises:
      BadInput: naming the file, row and column, and what was expected.
    """
    if stream and (source in NAMES or Path(source).is_file()):
        raise BadInput(f"--stream: expected --data to be a folder with x.npy and y.npy or with IDX files, got {source}")
    if form.resized and (source in NAMES or Path(source).is_file()):
        raise BadInput(f"--image-size: is for folders of images; {source} is none")
    if selection != ALL and (source in NAMES or not lines.is_one(Path(source))):
        options = "--drop, --features, --categorical, --weights, --group"
        raise BadInput(f"{options}: are for .csv and .tsv files; {source} is none")
    if source in NAMES:
        if targets:
            raise BadInput(f"--target: is for .csv and .tsv files; {source} has its own target")
        return NAMES[source](source)
    path = Path(source)
    if not source.strip():
        raise BadInput(f"--data: expected a file, a folder, or one of {', '.join(NAMES)}; got an empty name")
    try:
        exists = path.exists()
    except OSError as error:
        raise BadInput(f"--data {source[:40]}...: cannot be read ({error.strerror})") from None
    if not exists:
        if path.suffix or "/" in source:
            raise BadInput(f"--data {source}: no such file or folder{did_you_mean(source, _beside(path))}")
        raise BadInput(
            f"--data {source}: no such data set or file{did_you_mean(source, NAMES)}; expected a .csv, .tsv or .npz "
            f"file, a folder with x.npy and y.npy, IDX files or images, or one of {', '.join(NAMES)}"
        )
    if targets and path.suffix.lower() == ".npz":
        raise BadInput("--target: is for .csv and .tsv files; a .npz file holds x and y")
    if targets and path.is_dir():
        raise BadInput("--target: is for .csv and .tsv files; a folder has its own targets")
    if path.is_dir():
        return _read_folder(path, with_target, stream, form)
    return _read_file(source, path, targets, selection, with_target)


def _beside(path):
    """What lies where a path leads that is not there."""
    try:
        return [str(other) for other in path.parent.iterdir()]
    except OSError:
        return []


def holds_images(path: Path) -> bool:
    """Whether it is a folder of images, and not one of arrays."""
    return not (path / "x.npy").exists() and not idx.is_one(path) and pictures.is_one(path)


def form_for(source: str, known: ImageForm | None) -> ImageForm:
    """Images of another folder become what is known of those of training; other data have no form."""
    return known if known is not None and holds_images(Path(source)) else ANY


def _read_folder(path, with_target, stream, form):
    if not holds_images(path):
        if form.resized:
            raise BadInput(f"--image-size: is for folders of images; {path} is none")
        if (path / "x.npy").exists():
            return files.read_npy_folder(path, with_target=with_target, stream=stream)
        return idx.read_idx_folder(path, stream=stream)
    if stream:
        raise BadInput(f"--stream: {path} holds images, which are read into memory; save them as x.npy and y.npy")
    return pictures.read(path, form, with_target=with_target)


def _read_file(source, path, targets, selection, with_target):
    if not path.is_file():
        raise BadInput(f"--data {source}: expected a file or a folder, got a device or a pipe")
    if lines.is_one(path):
        return delimited.read(path, targets, selection, with_target=with_target)
    if path.suffix.lower() == ".npz":
        return files.read_npz(path, with_target=with_target)
    expected = "expected a .csv, .tsv or .npz file or a folder"
    raise BadInput(f"--data {source}: {expected}, got {''.join(path.suffixes[-2:]) or path}")


def _drawn(name: str) -> Table:
    """1,000 points in the plane, always the same."""
    import sklearn.datasets

    if name == "moons":
        x, y = sklearn.datasets.make_moons(1000, noise=0.2, random_state=0)
    elif name == "circles":
        x, y = sklearn.datasets.make_circles(1000, noise=0.1, factor=0.5, random_state=0)
    else:
        x, y = _spirals(1000)
    return Table(name, InMemory(x), np.array(["first", "second"])[y], ("x1", "x2"), ("class",))


def _spirals(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arms of one and a half turns: r = angle / 3 pi, the second arm opposite the first, noise of 0.02."""
    rng = np.random.default_rng(0)
    y = np.arange(points) % 2
    angle = 3 * np.pi * np.sqrt(rng.uniform(0.02, 1, points))
    turned = angle + np.pi * y
    x = (angle / (3 * np.pi))[:, None] * np.stack([np.cos(turned), np.sin(turned)], axis=1)
    return x + rng.normal(0, 0.02, x.shape), y


NAMES: dict[str, Callable[[str], Table]] = {
    "digits": shipped.digits,
    **dict.fromkeys(("breast_cancer", "iris", "wine"), shipped.of_classes),
    **dict.fromkeys(("diabetes", "linnerud"), shipped.of_values),
    **dict.fromkeys(("moons", "circles", "spirals"), _drawn),
}
