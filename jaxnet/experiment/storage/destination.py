"""The file that a command is to write: what speaks against it is told before the work, not after it."""

from pathlib import Path

from jaxnet.experiment.console.errors import BadInput


def require_destination(option: str, file: Path, *, overwrite: bool) -> None:
    """Asks for a file's name that is free, or may be written over, in a folder that is there.

    Raises:
      BadInput: where it is another one, naming the option.
    """
    if file.is_dir():
        raise BadInput(f"{option} {file}: is a folder; expected the name of a file")
    if file.exists() and not overwrite:
        raise BadInput(f"{option} {file}: exists already; choose another name, or replace it with --overwrite")
    if not file.parent.is_dir():
        raise BadInput(f"{option} {file}: there is no folder {file.parent}; make it, or choose another")
