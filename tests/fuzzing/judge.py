"""Whether a script may end as it did."""

import json
import math
import re
from pathlib import Path

from fuzzing.case import Case
from fuzzing.watch import MEMORY, Ended

# What is told on stderr beside an error: the predictions are on stdout, and may be piped.
NOTES = re.compile(r"(device|model|predicted|stale)  .*|(passed over|rolled back:) .*")
# 600 letters, where the middle is left out, and the dots that stand for it.
LONGEST_LINE = 605
# How tyro ends what it says, in several lines, of a command line that it does not understand.
NOT_UNDERSTOOD = re.compile(r"\W*For full helptext, (run|see)\b.*")
# A run that learns too fast was given nothing that is wrong in itself: it ends in one line too, with status 1.
DIVERGED = re.compile(r"error: .*\b(no longer|not) finite\b.*")


def faults(ended: Ended, case: Case, folder: Path) -> list[str]:
    """What is wrong with how a case ended, in its folder; nothing, if it ended as it should."""
    found = [*_of_the_end(ended, case), *_of_the_files(ended, case.may_write)]
    if ended.memory > MEMORY:
        found.append(f"it took {ended.memory / 2**30:.1f} GiB of memory")
    if ended.status == 0:
        found.extend(_of_the_results(ended, folder))
    return found


def _of_the_end(ended, case):
    if ended.status < 0:
        yield f"it was killed by signal {-ended.status}"
    if "Traceback" in ended.errors + ended.output:
        yield "it ended in a traceback"
    told = [line for line in ended.errors.splitlines() if not NOTES.fullmatch(line)]
    if ended.status == 0:
        if told:
            yield f"it succeeded, and told of {told[0]!r}"
        return
    if any(map(NOT_UNDERSTOOD.fullmatch, told)):
        if ended.status != 2 or ended.output:
            yield f"it was not understood, and ended with status {ended.status} and {ended.output!r}"
    elif len(told) != 1 or not told[0].startswith("error: ") or len(told[0]) > LONGEST_LINE:
        yield f"it ended in {len(told)} lines, not in one that begins with 'error: '"
    elif ended.status != (1 if case.may_diverge and DIVERGED.fullmatch(told[0]) else 2):
        yield f"it ended with status {ended.status}"


def _of_the_files(ended, may_write):
    # The folder `RUN.new` holds what replaces RUN, until it is finished.
    allowed = [Path(name) for given in may_write for name in (given, f"{given.rstrip('/')}.new")]

    def is_allowed(name):
        return any(
            place == Path(name) or place in Path(name).parents or Path(name) in place.parents for place in allowed
        )

    for name in ended.elsewhere:
        yield f"it wrote elsewhere: {name}"
    for name in ended.created:
        if not is_allowed(name):
            yield f"it wrote {name}"
    for name in ended.changed:
        if ended.status != 0 or not is_allowed(name):
            yield f"it changed {name}"


def _of_the_results(ended, folder):
    for name in (*ended.created, *ended.changed):
        path = folder / name
        if path.name == "result.json" and path.is_file():
            told = json.loads(path.read_bytes())
            if not all(math.isfinite(value) for value in told.values() if isinstance(value, float)):
                yield f"{name} holds numbers that are not finite"
            missing = {"config.json", "metrics.jsonl", "model.npz"} - {beside.name for beside in path.parent.iterdir()}
            if missing:
                yield f"{name} is there without {', '.join(sorted(missing))}"
