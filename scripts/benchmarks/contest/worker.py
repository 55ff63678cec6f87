"""A contestant in a process of its own, that answers in lines of JSON.

`python -m benchmarks.contest.worker CONTESTANT NET` starts it.

CONTESTANT is MODULE:FUNCTION, where the function makes of a problem what runs a pass; NET is a `Net` in JSON. The first
line, unasked, tells the first pass's seconds, compilation and all, and its losses; `go N` runs N passes and tells their
seconds; `end`, or the end of the input, tells the peak of the memory in bytes, and what its compiled program takes
besides its arguments and what it returns, where what runs a pass tells that (`program`).
"""

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import problems
from benchmarks.contest.problems import Net


def main(contestant: str, net: str) -> None:
    """Prepares, runs a pass, and does what is asked."""
    tell = own_stdout()
    module, function = contestant.split(":")
    prepare = getattr(importlib.import_module(module), function)
    one_pass = prepare(problems.make(Net(**json.loads(net))))
    started = time.perf_counter()
    losses = one_pass()
    seconds = time.perf_counter() - started
    # Brought to NumPy outside the time: for some packages it is longer than a step.
    tell({"seconds": seconds, "losses": [float(np.asarray(loss)) for loss in losses]})
    for line in sys.stdin:
        asked, *number = line.split()
        if asked == "end":
            break
        tell({"seconds": _seconds(one_pass, int(number[0]))})
    # The peak first: to be told of, the program is compiled once more.
    memory = _peak_memory()
    tell({"memory": memory, "temporaries": one_pass.temporaries() if hasattr(one_pass, "temporaries") else None})


def _seconds(one_pass: Callable[[], Any], passes: int) -> float:
    started = time.perf_counter()
    for _ in range(passes):
        one_pass()
    return time.perf_counter() - started


def own_stdout() -> Callable[[Any], int]:
    """Keeps standard output for the answers; what a package prints goes to stderr."""
    # Never closed, so that who reads it sees its end when the process has ended, and not before.
    answers = os.dup(1)
    os.dup2(2, 1)
    return lambda answer: os.write(answers, f"{json.dumps(answer)}\n".encode())


def _peak_memory() -> int:
    """Bytes. Linux counts in ru_maxrss what the process that started this one had; not in VmHWM."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
