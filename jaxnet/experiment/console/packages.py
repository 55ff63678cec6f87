"""Packages that are not always there, and what brings them."""

import importlib.util
from pathlib import Path

import jaxnet

# The extras of pyproject.toml: of each package the name that it is imported by, and the one that it is installed by.
EXTRAS = {
    "train": {
        "tyro": "tyro",
        "rich": "rich",
        "sklearn": "scikit-learn",
        "matplotlib": "matplotlib",
        "platformdirs": "platformdirs",
        "filelock": "filelock",
        "orbax": "orbax-checkpoint",
    },
    "export": {"flatbuffers": "flatbuffers", "safetensors": "safetensors"},
    "tensorboard": {"tensorboardX": "tensorboardX"},
    "privacy": {"dp_accounting": "dp-accounting"},
    "text": {"tokenizers": "tokenizers"},
    "images": {"PIL": "pillow"},
    "test": {
        "pytest": "pytest",
        "xdist": "pytest-xdist",
        "hypothesis": "hypothesis",
        "beartype": "beartype",
        "mpmath": "mpmath",
        "mypy": "mypy",
    },
    "bench": {
        "flax": "flax",
        "equinox": "equinox",
        "haiku": "dm-haiku",
        "torch": "torch",
        "opacus": "opacus",
        "jax_privacy": "jax-privacy",
    },
}


def is_there(name: str) -> bool:
    """Whether a package, or a part of one, can be imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # of the package that it is a part of
        return False


def missing(name: str) -> str:
    """What is said of a package that is not there, or of a part of one.

    In a clone of the repository, the extra that brings it. Elsewhere what is missing of that extra, package by package:
    on PyPI, jaxnet is the name of another project.
    """
    package = name.partition(".")[0]
    extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
    if extra is None:
        return f"the package {package} is not installed; pip install {package} brings it"
    if in_a_clone():
        return f"the package {package} is not installed; pip install -e '.[{extra}]' brings it"
    absent = [at for imported, at in EXTRAS[extra].items() if imported == package or not is_there(imported)]
    rest = "it" if len(absent) == 1 else "it, and what else is missing"
    return f"the package {package} is not installed; pip install {' '.join(absent)} brings {rest}"


def in_a_clone() -> bool:
    """Whether this library runs from its repository, and not from where pip has put it."""
    return (Path(jaxnet.__file__).parents[1] / "pyproject.toml").is_file()


def require(*names: str) -> None:
    """Asks for packages before anything is written that would be left half done.

    Raises:
      ModuleNotFoundError: naming the first that is not there.
    """
    for name in names:
        if not is_there(name):
            raise ModuleNotFoundError(missing(name), name=name)
