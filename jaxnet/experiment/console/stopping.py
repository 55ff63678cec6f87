"""What asks a run to stop: it ends where it can be taken up again, and a second signal ends it at once."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from jaxnet.experiment.console.errors import Terminated, Unread, discard

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether, and by which signal, the run was asked to stop."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    def heed(self) -> None:
        """Ends the run, if it was asked to stop.

        Raises:
          Terminated, Unread, KeyboardInterrupt: as it was asked.
        """
        match self.signal:
            case signal.SIGTERM:
                raise Terminated("")
            case signal.SIGPIPE:
                raise Unread("standard output was closed")
            case signal.SIGINT:
                raise KeyboardInterrupt


@contextmanager
def on_signals() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM are noted while the block runs; before and after they do what they did."""
    stop = Stop()

    def note(number, frame):
        if stop():
            _tell(b"stopped at once\n")
            os._exit(128 + number)
        stop.signal = signal.Signals(number)
        # The steps under way, or the compiler, may take a minute, and on a terminal somebody waits.
        if os.isatty(2):
            _tell(b"stopping after the steps under way; a second Ctrl-C ends at once\n")

    # Python gives signals to the main thread alone; and what is ignored, as in a shell's background, stays so.
    taken = [s for s in SIGNALS if signal.getsignal(s) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        taken = []
    before = {s: signal.signal(s, note) for s in taken}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


@contextmanager
def unread(stop: Stop) -> Iterator[None]:
    """A reader of standard output who left while the block printed, as `head` does, asks the run to stop."""
    try:
        yield
    except BrokenPipeError:
        stop.signal = stop.signal or signal.SIGPIPE
        discard(sys.stdout)


def _tell(line):
    """As a signal's handler may: on a terminal below a line that has not ended, as that of the epochs."""
    os.write(2, b"\n" * os.isatty(2) + line)
