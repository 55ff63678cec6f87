"""Packages that are not always there, and which of this library's extras bring them."""

import importlib.util

# By the names under which they are imported; those of pyproject.toml.
EXTRAS = {
    "train": ("tyro", "rich", "sklearn", "matplotlib", "platformdirs", "filelock", "orbax"),
    "export": ("flatbuffers", "safetensors"),
    "tensorboard": ("tensorboardX",),
    "test": ("pytest", "xdist", "hypothesis", "beartype", "mpmath"),
    "bench": ("flax", "equinox", "haiku", "torch"),
}


def is_there(name: str) -> bool:
    """Whether a package, or a part of one, can be imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # of the package that it is a part of
        return False


def missing(name: str) -> str:
    """What is said of a package that is not there, or of a part of one."""
    package = name.partition(".")[0]
    extra = next((f"-e '.[{extra}]'" for extra, packages in EXTRAS.items() if package in packages), package)
    return f"the package {package} is not installed; pip install {extra} brings it"


def require(*names: str) -> None:
    """Asks for packages before anything is written that would be left half done.

    Raises:
      ModuleNotFoundError: naming the first that is not there.
    """
    for name in names:
        if not is_there(name):
            raise ModuleNotFoundError(missing(name), name=name)
