"""Files that are there whole or not at all, whatever happens while they are written."""

import hashlib
import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Writes a file beside its place, has it reach the disk, and puts it there."""
    beside = path.with_name(f".{path.name}.new")
    try:
        write_bytes(beside, content)
        fsync(beside)
        rename(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    fsync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file; until `fsync` it may be lost."""
    path.write_bytes(content)


def fsync(path: Path) -> None:
    """Has a file's content, or a folder's names, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(path: Path, to: Path) -> None:
    """Gives a file or folder its name, in one go; a file that has it already is replaced."""
    path.replace(to)


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
