"""Runs a script in a child of this process, and tells how it ended and what it wrote, where."""

import hashlib
import os
import re
import resource
import runpy
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SCRIPTS = Path(__file__).parents[2] / "scripts"
MEMORY = 2 * 2**30  # bytes, beyond what this process has made room for
# XLA starts threads for each processor that it may use, and room for their stacks counts as memory.
PROCESSORS = 2
# Of a processor's time, which says what a clock says on an idle machine; and of a clock, for what waits in vain.
SECONDS, LONGEST_WAIT = 10, 60
# The environment's names of where compiled programs and fonts are kept, for all cases together.
KEPT = ("XDG_CACHE_HOME", "MPLCONFIGDIR")
# Python's audit events of what changes files, and which of their arguments are paths.
WRITES = {
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.utime": (0,),
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
}


class Ended(NamedTuple):
    """How a script ended.

    Attributes:
      status: its exit status, or minus the signal that killed it.
      output: what it wrote to stdout.
      errors: what it wrote to stderr.
      memory: bytes at the peak.
      changed: files that were there before and are others now, or gone, relative to its working directory.
      created: what is there now and was not before, likewise.
      elsewhere: what it wrote outside its working directory.
    """

    status: int
    output: str
    errors: str
    memory: int
    changed: tuple[str, ...]
    created: tuple[str, ...]
    elsewhere: tuple[str, ...]


def script(name: str, arguments: list[str]) -> Callable[[], object]:
    """A program: the script as Python runs it."""

    def program():
        sys.argv = [name, *arguments]
        sys.path.insert(0, str(SCRIPTS))
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")

    return program


def run(program: Callable[[], object], folder: Path, seconds: int = SECONDS, wait: int = LONGEST_WAIT) -> Ended:
    """Runs a program in a child of this process, in a folder; what it may take is limited."""
    before, limit = _contents(folder), MEMORY + _room()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as writes:
        child = os.fork()
        if child == 0:
            _limit(seconds, wait, limit)
            _become(folder, out.fileno(), err.fileno(), writes.fileno())
            os._exit(_status_of(program))
        _, status, used = os.wait4(child, 0)
        output, errors, elsewhere = (_text(file) for file in (out, err, writes))
    after = _contents(folder)
    return Ended(
        status=os.waitstatus_to_exitcode(status),
        output=output,
        errors=errors,
        memory=used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        changed=tuple(name for name in before if before[name] != after.get(name)),
        created=tuple(name for name in after if name not in before),
        elsewhere=tuple(dict.fromkeys(elsewhere.splitlines())),
    )


def _room():
    """Bytes of memory that this process can write to, used or not, which its children begin with."""
    status = Path("/proc/self/status")
    return 1024 * int(re.search(r"VmData:\s*(\d+)", status.read_text())[1]) if status.exists() else 0


def _limit(seconds, wait, memory):
    """Ends this child when it takes more."""
    signal.setitimer(signal.ITIMER_REAL, wait)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if hasattr(os, "sched_setaffinity"):
        there = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {there[(os.getpid() + k) % len(there)] for k in range(PROCESSORS)})


def _become(folder, out, err, writes):
    """Makes this child what a fresh process in a shell would be, and has it note what it writes elsewhere."""
    sys.settrace(None)
    for number, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, err)):
        os.dup2(file, number)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, closefd=False) for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    allowed = (f"{folder.resolve()}{os.sep}", *(str(Path(os.environ[name]).resolve()) for name in KEPT))

    def note(event, arguments):
        paths = tuple(arguments[k] for k in WRITES.get(event, ()))
        if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            paths = arguments[:1]
        for path in paths:
            at = os.devnull if isinstance(path, int) else os.path.abspath(os.fsdecode(path))
            if at != os.devnull and not at.startswith(allowed):
                os.write(writes, os.fsencode(f"{event} {at}\n"))

    sys.addaudithook(note)


def _status_of(program):
    try:
        program()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return status


def _contents(folder):
    """What is in a folder, by name: the files' digests, and what else there is by its kind."""
    found = {}
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(at, name)
            link = os.readlink(path) if path.is_symlink() else None
            content = hashlib.sha256(path.read_bytes()).digest() if link is None and path.is_file() else link
            found[str(path.relative_to(folder))] = (path.lstat().st_mode, content)
    return found


def _text(file):
    file.seek(0)
    return file.read().decode(errors="backslashreplace")
