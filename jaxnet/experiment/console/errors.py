"""What goes wrong for a user ends in one line on stderr and an exit status, never in a traceback."""

import contextlib
import difflib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from jaxnet.experiment.console.packages import missing

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
UNREAD = 141  # 128 + SIGPIPE, as shells have it
LONGEST_LINE = 600
# What reading a file's JSON raises where it is none, or holds something else than it should.
NONSENSE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)

_interrupted = False


class Failure(Exception):  # noqa: N818 a failed run, not a programming error
    """A run that cannot go on, told in one line."""

    status = 1


class Terminated(Failure):
    """A run that was asked to stop by SIGTERM, and did."""

    status = 143  # 128 + SIGTERM, as shells have it


class Unread(Failure):
    """A run that stopped because nobody reads any more what it prints, as behind `| head`."""

    status = UNREAD


class BadInput(Failure):
    """Input that cannot be used: the line names what, where, what was expected and what to do."""

    status = 2


def exit_status(program: Callable[[], object]) -> int:
    """Runs a program and returns its exit status; failures and Ctrl-C end in one line on stderr.

    A reader of its output who leaves early, as `head` does, ends it without a word.
    """
    _prepare_streams()
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable
    # Where Ctrl-C is ignored, as in a shell's background, it stays so.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    status = _run(program)
    # From here on everything is written: Ctrl-C has nothing to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return status


def _run(program):
    status = 0
    try:
        try:
            program()
        except SystemExit as end:  # tyro's, after --help
            if end.code:
                raise
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        told = _told(error)
        if told is None:
            raise
        line, status = told
        with contextlib.suppress(OSError):  # nobody may hear that either
            print(_one_line(line), end="\n" if line else "", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        _let_go(stream)
    return status


def _let_go(stream):
    """Keeps Python from trying at exit, and complaining, where what is left cannot be written."""
    try:
        stream.flush()
    except OSError:
        discard(stream)


def _told(error: BaseException) -> tuple[str, int] | None:
    """The line, if any, and the exit status for what is expected to go wrong."""
    match error:
        case Terminated():
            told = f"terminated: {error}", error.status
        case Unread():
            told = f"stopped: {error}", error.status
        case Failure():
            told = f"error: {error}", error.status
        case KeyboardInterrupt():
            told = f"interrupted: {str(error) or 'nothing was written'}", INTERRUPTED
        case ModuleNotFoundError():
            # Where no module is named, a package was not made for this version of another.
            told = f"error: {missing(error.name) if error.name else error}", 1
        case MemoryError():
            told = "error: out of memory; try a smaller network or less data", 1
        case BrokenPipeError():
            told = "", UNREAD
        case OSError(errno=errno.ENAMETOOLONG):
            # Nothing but a name that was given is too long.
            told = f"error: {error.filename}: the name is too long; expected a shorter one", BadInput.status
        case OSError():
            told = f"error: {error.filename or 'standard output'}: {error.strerror or error}", 1
        case _:
            return None
    return told


def discard(stream: Any) -> None:
    """From here on what is written to a stream goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def interrupted() -> bool:
    """Whether Ctrl-C was pressed. Its exception can be lost in a callback of JAX's, so loops ask."""
    return _interrupted


def heed_interrupt() -> None:
    """Raises the exception of a Ctrl-C where it was lost: before anything is written."""
    if _interrupted:
        raise KeyboardInterrupt


def option(name: str) -> str:
    """A field as the command line has it, 'batch_size' as '--batch-size'."""
    return "--" + name.replace("_", "-")


def require_folder(folder: Path, expected: str, where: str = "") -> None:
    """Refuses a file, and what is not there, where a folder is to be read.

    Args:
      folder: what was named.
      expected: what it should have been, in words.
      where: the option that named it, and a space.
    """
    if not folder.is_dir():
        lack = "is a file" if folder.exists() else "no such folder"
        raise BadInput(f"{where}{folder}: {lack}; expected {expected}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """'; did you mean X?' for the nearest of the names, or nothing where none is near."""
    # Of names by the thousand, or as long as a page, the search takes minutes.
    shorter = [near for near in islice(names, 1000) if len(near) <= 100]
    nearest = difflib.get_close_matches(name, shorter, n=1) if len(name) <= 100 else []
    return f"; did you mean {nearest[0]}?" if nearest else ""


def first_line(error: BaseException) -> str:
    """Of an error's message, or the error's name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def some(names: Iterable[str], most: int = 12) -> str:
    """The names as a list, shortened where there are many."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _interrupt(number, frame):
    global _interrupted  # noqa: PLW0603 a signal has nowhere else to go
    _interrupted = True
    raise KeyboardInterrupt


def _unraisable(lost):
    """Without a word where Ctrl-C is lost: whoever goes on asks whether it was pressed."""
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)


def _prepare_streams():
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell, as with >&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="backslashreplace")


def _one_line(message):
    line = " ".join(message.split())
    if len(line) <= LONGEST_LINE:
        return line
    return f"{line[: LONGEST_LINE * 2 // 3]} ... {line[-LONGEST_LINE // 3 :]}"
