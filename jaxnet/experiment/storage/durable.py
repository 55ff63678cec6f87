"""Files that are there whole or not at all, whatever happens while they are written: so is all that a run writes."""

import hashlib
import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Writes a file beside its place, has it reach the disk, and puts it there.

    Where the path is a link, what it leads to is replaced; where it is a device or a pipe, that is written to.

    Raises:
      OSError: naming the file; what was there before is as it was, and nothing lies beside it.
    """
    place = Path(os.path.realpath(path))
    try:
        if place.exists() and not (place.is_file() or place.is_dir()):
            write_bytes(place, content)
            return
        _write_beside(place, content)
    except OSError as error:
        # The system names what lies beside the file, or, where the disk is full, nothing.
        raise OSError(error.errno, error.strerror, str(path)) from None


def _write_beside(path, content):
    beside = path.with_name(beside_name(path.name))
    try:
        write_bytes(beside, content)
        fsync(beside)
        rename(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    fsync(path.parent)


def beside_name(name: str) -> str:
    """What a file is called until it is whole; a kill leaves it so."""
    return f".{name}.new"


def add_line(path: Path, line: str) -> None:
    """Adds a line to a file's end.

    Raises:
      OSError: naming the file, which is as it was.
    """
    content = f"{line}\n".encode()
    try:
        with path.open("ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            try:
                while content:
                    # Where there is hardly any room left, the system takes a part.
                    content = content[file.write(content) :]
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


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
