"""How the scripts begin: Ctrl-C and missing packages are told in one line from the first moment on."""

import os
import signal
import sys
from collections.abc import Callable


def start(load: Callable[[], Callable[[], object]]) -> None:
    """Imports what `load` imports, runs the program that it returns, and exits with its status."""
    # While the imports go on, Ctrl-C ends the process at once: raised in the middle of one, it is taken for a broken
    # package.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end_at_once)
    from jaxnet.experiment.console.errors import exit_status

    def program():
        load()()

    sys.exit(exit_status(program))


def _end_at_once(number, frame):
    os.write(2, b"interrupted: nothing was written\n")
    os._exit(128 + number)
