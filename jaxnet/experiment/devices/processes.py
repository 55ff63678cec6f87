"""A run of several processes, one for each machine or so: all compute the same steps, and the first one writes.

What one process finds wrong is told to all, so that they end together and with the same line. A process that is gone
can tell nothing: JAX ends the others when its heartbeat is missed, within `HEARTBEAT` seconds, and a sentinel beside
each process says what to do.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxnet.experiment.console import errors
from jaxnet.experiment.console.errors import BadInput, Failure, first_line
from jaxnet.experiment.console.stopping import Stop

Value = TypeVar("Value")
# Seconds without a sign of life after which a process counts as gone.
HEARTBEAT = 10
# Seconds until all processes must have started.
START = 60
# Seconds that a process which ends waits for the others; one that fails alone ends them all after that.
END = 15


class Joining(NamedTuple):
    """How processes find one another; what is None, JAX finds out.

    Attributes:
      coordinator: HOST:PORT of the first one.
      processes: how many there are.
      process_id: which one this is, from 0 on.
    """

    coordinator: str | None = None
    processes: int | None = None
    process_id: int | None = None


def connect(joining: Joining) -> None:
    """Joins the run's processes, as the options or what JAX finds around it say; before JAX is used at all.

    Raises:
      BadInput: when neither says how many processes there are, or where the first one is.
      Failure: when they do not find one another.
    """
    # SIGTERM is ours: it stops every process at the same step.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            *joining,
            initialization_timeout=START,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=END,
        )
    except ValueError as error:
        expected = "give --coordinator HOST:PORT, --processes and --process-id, or start it under Slurm or on a TPU"
        raise BadInput(f"--distributed: {error}; {expected}") from None
    except Exception as error:  # each transport fails in its own way
        raise Failure(
            f"the processes did not find one another within {START} s ({first_line(error)}); check --coordinator "
            f"{joining.coordinator or '(detected)'}, and that all of them were started"
        ) from None


def is_first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def together(function: Callable[[], Value]) -> Value:
    """Calls a function in every process; where it fails in one, it fails in all, with that one's line."""
    if jax.process_count() == 1:
        return function()
    value: Any = None
    failed, own = None, None
    try:
        value = function()
    except Exception as error:
        own = error
        failed = [type(error).__name__, first_line(error)]
    for told in _share(failed):
        if told is not None:
            raise own or getattr(errors, told[0], Failure)(told[1])
    return value


def by_first(function: Callable[[], Value]) -> Value:
    """Calls a function in the first process alone, and returns what it returns, a value for JSON, in all."""
    value: Any = together(lambda: function() if is_first() else None)
    return value if jax.process_count() == 1 else _share(value)[0]


def gathered(values: np.ndarray) -> np.ndarray:
    """The values of all processes, (processes, ...), in float64."""
    return np.array(_share(values.tolist()))


def pause(stop: Stop, due: bool) -> bool:
    """Whether to stop or to save here: where any process was asked to stop, or the first finds a checkpoint due."""
    if jax.process_count() > 1:
        told = multihost_utils.process_allgather(np.array([stop.signal or 0, due], np.int32))
        number, due = int(told[:, 0].max()), bool(told[0, 1])
        # A signal that came in the meantime is told the next time: all stop at the same step.
        if number:
            stop.signal = signal.Signals(number)
        return bool(number) or due
    return stop() or due


@contextmanager
def connected(joining: Joining, run: str) -> Iterator[Callable[..., None]]:
    """The run's processes are joined while the block runs; yields what `sentinel` does, which takes the run's name."""
    connect(joining)
    with sentinel(run) as named:
        try:
            yield named
        except jax.errors.JaxRuntimeError as error:
            # Another process is gone, and may be waited for in vain. The sentinel says it.
            named(reason=(str(error).splitlines() or [""])[0])
            sys.stdout.flush()
            os._exit(1)


@contextmanager
def alone_heard() -> Iterator[None]:
    """Only the first process prints."""
    if is_first():
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _share(value: Any) -> list[Any]:
    """The values, for JSON, of all processes, in their order."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([len(text)], np.int32)).ravel()
    padded = np.pad(text, (0, lengths.max() - len(text)))
    texts = multihost_utils.process_allgather(padded)
    return [json.loads(bytes(row[:length])) for row, length in zip(texts, lengths, strict=True)]


SENTINEL = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
line = ""
for line in sys.stdin:
    pass
if line.strip():
    os.write(2, line.encode())
"""


@contextmanager
def sentinel(run: str) -> Iterator[Callable[..., None]]:
    """While the block runs, a small process waits beside this one, and speaks where this one is ended from outside.

    JAX aborts a process whose peer is gone, in a way that Python does not see.

    Args:
      run: how messages call the run.

    Yields:
      A function that takes the run's folder, once it is known, or the reason why this process is about to end.
    """
    command = [sys.executable, "-SE", "-c", SENTINEL]
    beside = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    assert beside.stdin is not None
    pipe = beside.stdin

    def named(now=None, reason=""):
        nonlocal run
        run = now or run
        because = f" ({reason})" if reason else ""
        with contextlib.suppress(OSError):
            pipe.write(
                f"error: this process, or another one of the run, was ended from outside{because}; start all processes "
                f"again with --resume {run}, which goes on from the newest checkpoint\n"
            )
            pipe.flush()

    named()
    try:
        yield named
    finally:
        # With an empty last line there is nothing to say.
        with contextlib.suppress(OSError):
            pipe.write("\n")
            pipe.close()
        beside.wait()
