"""What a checkpoint's manifest tells: what the checkpoint is, and that its files are as they were written."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnet.experiment.console.errors import NONSENSE
from jaxnet.experiment.storage import durable

FILE = "manifest.json"
FORMAT = 2
PACKAGES = ("jax", "jaxlib", "optax", "orbax-checkpoint", "numpy")


class Damaged(Exception):  # noqa: N818 told, and an older one is tried
    """A checkpoint that is not as it was written; the message says in which way."""


def write(folder: Path, written: Sequence[Path], about: Mapping[str, Any]) -> None:
    """Writes a checkpoint's manifest.

    Args:
      folder: of the checkpoint.
      written: its other files.
      about: what else it tells, for JSON.

    Raises:
      OSError: when it cannot be written.
    """
    manifest = {
        "format": FORMAT,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "files": {
            str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": durable.digest(path)}
            for path in written
        },
        **about,
    }
    durable.write(folder / FILE, sealed(manifest))


def read(folder: Path) -> dict[str, Any]:
    """A checkpoint's manifest, once it was verified."""
    return json.loads((folder / FILE).read_bytes())["manifest"]


def verify(path: Path) -> dict[str, Any]:
    """A checkpoint's manifest, after every file was compared with it.

    Raises:
      Damaged: naming the file.
    """
    try:
        held = json.loads((path / FILE).read_bytes())
        manifest = held["manifest"]
        if held["sha256"] != _digest(manifest):
            raise Damaged(f"{FILE} is not as it was written")
    except FileNotFoundError:
        raise Damaged(f"{FILE} is missing") from None
    except (OSError, *NONSENSE):
        raise Damaged(f"{FILE} is not as it was written") from None
    try:
        if manifest["format"] != FORMAT:
            raise Damaged(f"{FILE} has format {manifest['format']}, expected {FORMAT}")
        for shape, dtype in manifest["arrays"].values():
            tuple(shape), np.dtype(dtype)
        for name, told in manifest["files"].items():
            _require_as_written(path / name, name, told["bytes"], told["sha256"])
    except OSError as error:
        raise Damaged(f"a file cannot be read ({error.strerror})") from None
    except NONSENSE:
        raise Damaged(f"{FILE} tells of no checkpoint of this version of jaxnet") from None
    return manifest


def _require_as_written(file, name, size, digest):
    if not file.is_file():
        raise Damaged(f"{name} is missing")
    if file.stat().st_size != size:
        raise Damaged(f"{name} has {file.stat().st_size} bytes, expected {size}")
    if durable.digest(file) != digest:
        raise Damaged(f"{name} is not as it was written")


def described(arrays: Any) -> dict[str, list[Any]]:
    """Of each array in a tree its shape and type, by its place."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(arrays)
    return {jax.tree_util.keystr(path): [list(leaf.shape), str(leaf.dtype)] for path, leaf in leaves}


def sealed(manifest: Any) -> bytes:
    """A manifest's file: what it tells, and the SHA-256 of that."""
    return (json.dumps({"sha256": _digest(manifest), "manifest": manifest}, indent=1) + "\n").encode()


def _digest(manifest):
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
