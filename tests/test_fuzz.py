"""Bad input by the thousand, see `fuzzing`: it ends in success, or in one line or tyro's words; nothing is harmed."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fuzzing.case import Case
from fuzzing.judge import faults
from fuzzing.watch import MEMORY, Ended

TESTS = Path(__file__).parent
CASE = Case("train.py", [])
# As many as meet every line of what makes them, and every option of every script.
ENOUGH = 500
# Of all cases, in percent; those of checkpoints take the longest.
SHARES = {"command-line": 34, "csv": 22, "npz": 18, "idx": 12, "images": 4, "checkpoint": 6, "text": 4}


def python(*arguments):
    # What pytest has on its path, and a process of its own has not.
    path = os.pathsep.join([str(TESTS.parent / "scripts"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=TESTS,
        env=os.environ | {"PYTHONPATH": path},
    )


@pytest.mark.parametrize("kind", SHARES)
def test_every_case_ends_in_success_or_in_one_line_and_harms_nothing(kind, request, tmp_path):
    cases = request.config.getoption("--fuzz-cases")
    count = max(1, cases * SHARES[kind] // 100)
    done = python("-m", "fuzzing", kind, "0", str(count), str(tmp_path))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\nwhat they were run on is in {tmp_path}"
    told = re.fullmatch(
        rf"{count} cases: (.+); 0 not as they should\nof all kinds of input, not met: (.+)\n", done.stdout
    )
    assert told is not None, done.stdout
    statuses = Counter({int(status): int(many) for many, status in re.findall(r"(\d+) with status (\d+)", told[1])})
    # Readers that refuse or take everything would tell nothing.
    assert statuses[0] >= count // 50
    assert statuses[2] >= count // 2
    assert told[2] == "none" or cases < ENOUGH


# What a program may not do, and what is then said of it.
MISBEHAVIOUR = """
import os, signal, sys, tempfile
from pathlib import Path
from fuzzing import judge, watch
from fuzzing.case import Case

def fail(status, *lines):
    print(*lines, sep="\\n", file=sys.stderr)
    sys.exit(status)

def write(name, content=""):
    Path(name).write_text(content)

def refuse_after(*acts):
    for act in acts:
        act()
    fail(2, "error: as it should be")

outside, case = sys.argv[1], Case("", [], ("made",))
programs = {
    "refuses": lambda: fail(2, "error: as it should be"),
    "succeeds": lambda: write("made/config.json"),
    "diverges": lambda: fail(1, "error: layer 1 is no longer finite in epoch 1"),
    "diverges on bad data": lambda: fail(1, "error: layer 1 is no longer finite in epoch 1"),
    "raises": lambda: [][0],
    "prints a trace": lambda: print("Traceback (most recent call last):"),
    "says nothing": lambda: sys.exit(2),
    "says too much": lambda: fail(2, "error: one", "error: two"),
    "says it otherwise": lambda: fail(2, "wrong"),
    "goes on and on": lambda: fail(2, "error: " + "x" * 1000),
    "has another status": lambda: fail(1, "error: as it should be"),
    "warns": lambda: print("careful", file=sys.stderr),
    "computes forever": lambda: exec("while True: pass"),
    "waits forever": lambda: signal.pause(),
    "crashes": lambda: os.abort(),
    "takes 3 GB": lambda: bytearray(3 * 2**30),
    "writes outside": lambda: refuse_after(lambda: write(f"{outside}/x")),
    "makes a folder outside": lambda: refuse_after(lambda: os.mkdir(f"{outside}/y")),
    "renames outside": lambda: refuse_after(lambda: os.rename("input", f"{outside}/z")),
    "writes beside": lambda: refuse_after(lambda: write("stray")),
    "changes its input": lambda: write("input", "other"),
    "removes its input": lambda: os.remove("input"),
    "changes a run and refuses": lambda: refuse_after(lambda: write("made/old", "other")),
    "has half a result": lambda: (write("made/result.json", '{"loss": NaN}')),
}
for name in watch.KEPT:
    os.environ[name] = f"{outside}/{name}"
for name, program in programs.items():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "made").mkdir()
        for path in ("input", "made/old"):
            Path(folder, path).write_text("as it was")
        ended = watch.run(program, Path(folder), seconds=1, wait=4)
        told = "; ".join(judge.faults(ended, case._replace(may_diverge=name == "diverges"), Path(folder)))
        print(f"{name}: {told.replace(outside, 'OUTSIDE')}")
"""
TOLD = """
refuses:
succeeds:
diverges:
diverges on bad data: it ended with status 1
raises: it ended in a traceback; it ended in N lines, not in one that begins with 'error: '
prints a trace: it ended in a traceback
says nothing: it ended in 0 lines, not in one that begins with 'error: '
says too much: it ended in 2 lines, not in one that begins with 'error: '
says it otherwise: it ended in 1 lines, not in one that begins with 'error: '
goes on and on: it ended in 1 lines, not in one that begins with 'error: '
has another status: it ended with status 1
warns: it succeeded, and told of 'careful'
computes forever: it was killed by signal 24; it ended in 0 lines, not in one that begins with 'error: '
waits forever: it was killed by signal 14; it ended in 0 lines, not in one that begins with 'error: '
crashes: it was killed by signal 6; it ended in 0 lines, not in one that begins with 'error: '
takes 3 GB: it ended in a traceback; it ended in N lines, not in one that begins with 'error: '
writes outside: it wrote elsewhere: open OUTSIDE/x
makes a folder outside: it wrote elsewhere: os.mkdir OUTSIDE/y
renames outside: it wrote elsewhere: os.rename OUTSIDE/z; it changed input
writes beside: it wrote stray
changes its input: it changed input
removes its input: it changed input
changes a run and refuses: it changed made/old
has half a result: made/result.json holds numbers that are not finite; made/result.json is there without config.json, \
metrics.jsonl, model.npz
"""


def test_what_a_program_may_not_do_is_seen(tmp_path):
    done = python("-c", MISBEHAVIOUR, str(tmp_path))
    assert done.returncode == 0, done.stderr
    # How long a trace is depends on the version of Python.
    told = re.sub(r"in ([3-9]|\d\d+) lines", "in N lines", done.stdout)
    assert [line.rstrip() for line in told.splitlines()] == TOLD.strip().splitlines()


def test_memory_at_the_peak_is_seen(tmp_path):
    ended = Ended(status=0, output="", errors="", memory=MEMORY, changed=(), created=(), elsewhere=())
    assert faults(ended, CASE, tmp_path) == []
    assert faults(ended._replace(memory=3 * 2**30), CASE, tmp_path) == ["it took 3.0 GiB of memory"]
