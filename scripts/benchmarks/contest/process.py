"""The other end of a worker: starts it, asks it with patience, and leaves nothing of it behind."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jaxnet
from benchmarks.clipping.networks import Problem
from benchmarks.contest.problems import Net

PATIENCE = 120.0
PATHS = Path(__file__).parents[2], Path(jaxnet.__file__).parent.parent


class Died(Exception):  # noqa: N818 told, and the others go on
    """A worker that ended or fell silent; the message is one line."""


class Worker:
    """A worker in a process of its own, for use in a `with` statement, at whose end it ends, however that comes."""

    def __init__(self, start: str, net: Net | Problem, worker: str = "benchmarks.contest.worker") -> None:
        command = [sys.executable, "-P", "-m", worker, start, json.dumps(net._asdict())]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 closed with the worker
        # A session of its own: Ctrl-C reaches us alone, and what the worker started ends with it.
        self._process: Any = subprocess.Popen(
            command,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
        )
        self.pid: int = self._process.pid
        self._unread = b""

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        with self._process, self._stderr:
            pass

    def ask(self, line: str) -> dict[str, Any]:
        """Its answer to a line.

        Raises:
          Died: when there is none.
        """
        with suppress(BrokenPipeError):
            os.write(self._stdin, f"{line}\n".encode())
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Its next line.

        Raises:
          Died: when it ends, or is silent for `PATIENCE` seconds.
        """
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                # It may be busy, and in the others' way.
                self._kill()
                raise Died(f"no answer in {PATIENCE:g} s")
            piece = os.read(self._stdout, 1 << 16)
            if not piece:
                raise Died(self._last_words())
            self._unread += piece
        line, self._unread = self._unread.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    @property
    def _stdin(self):
        return self._process.stdin.fileno()

    @property
    def _stdout(self):
        return self._process.stdout.fileno()

    def _last_words(self):
        # It has closed its output, so its status is decided and the signal does not change it.
        self._kill()
        status = self._process.wait()
        self._stderr.seek(0)
        lines = [line.strip() for line in self._stderr.read().decode(errors="replace").splitlines() if line.strip()]
        if lines and status == 1:  # an exception's
            return lines[-1]
        ended = f"ended with status {status}" if status >= 0 else f"ended by signal {-status}"
        return ": ".join([ended, *lines[-1:]])

    def _kill(self):
        # Not yet waited for, its number is still its own.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Puts Ctrl-C off to the end: between its start and its `with` statement, a worker would be nobody's to end."""
    pressed: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *press: pressed.append(press))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed and callable(before):
            before(*pressed[0])


def environment() -> dict[str, str]:
    """What workers are started with."""
    # These two may pin OpenBLAS, NumPy's and SciPy's, to a slower kernel than the machine has.
    ours = {name: value for name, value in os.environ.items() if name not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    paths = [*map(str, PATHS), *filter(None, [ours.get("PYTHONPATH")])]
    # Compilation is timed, so nothing compiled comes from an earlier run; a GPU's memory is not one worker's alone.
    return ours | {
        "PYTHONPATH": os.pathsep.join(paths),
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
