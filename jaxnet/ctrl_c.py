"""Ctrl-C while the command `jaxnet` imports JAX: the package imports this first, since no line of the command runs yet.

There it ends the process at once: raised in the middle of an import, it is taken for a broken package. In any other
program nothing changes.
"""

import os
import signal
import sys
from pathlib import PurePath


def is_the_command() -> bool:
    """Whether this process was started as `jaxnet`, or as `python -m jaxnet`."""
    name = sys.argv[0] if sys.argv else ""
    if name == "-m":  # as long as Python looks for the module, whose name is before the arguments
        name = sys.orig_argv[-len(sys.argv)].removeprefix("-m")
    return PurePath(name).stem == "jaxnet"


def end_at_once(number: int, frame: object) -> None:
    """A handler of signals: the line, and the status, that `exit_status` has for Ctrl-C."""
    os.write(2, b"interrupted: nothing was written\n")
    os._exit(128 + number)


if is_the_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, end_at_once)
