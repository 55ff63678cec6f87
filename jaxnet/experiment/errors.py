"""What goes wrong for a user ends in one line on stderr and an exit status, never in a traceback."""

import difflib
import os
import sys
from collections.abc import Callable, Iterable

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Failure(Exception):  # noqa: N818 a failed run, not a programming error
    """A run that cannot go on, told in one line."""

    status = 1


class BadInput(Failure):
    """Input that cannot be used: the line names what, where, what was expected and what to do."""

    status = 2


def exit_status(program: Callable[[], object]) -> int:
    """Runs a program and returns its exit status; failures and Ctrl-C end in one line on stderr."""
    try:
        program()
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return failure.status
    except KeyboardInterrupt as interrupt:
        print(f"interrupted: {str(interrupt) or 'nothing was written'}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone, as with `| head`; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """'; did you mean X?' for the nearest of the names, or nothing where none is near."""
    nearest = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
