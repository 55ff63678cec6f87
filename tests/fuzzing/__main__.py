"""Runs the cases of one kind: `python -m fuzzing KIND FIRST COUNT FOLDER`; exit status 1 if one ends otherwise.

What such a case was run on is left in FOLDER/KIND-NUMBER.
"""

import gc
import importlib
import os
import random
import shlex
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from fuzzing import arrays, command_lines, idx_files, judge, runs, samples, tables, watch
from jaxnet.experiment.commands import train
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.options.train_config import TrainConfig

KINDS = {
    "command-line": command_lines.make,
    "csv": tables.make,
    "npz": arrays.make,
    "idx": idx_files.make,
    "checkpoint": runs.make,
}
IMPORTED = (
    "filelock",
    "matplotlib.pyplot",
    "orbax.checkpoint",
    "rich.progress",
    "sklearn.datasets",
    "sklearn.model_selection",
    "tensorboardX",
)


def main() -> int:
    """Runs the cases, prints what is wrong with each and how they ended, and returns the exit status."""
    kind, first, count, kept = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    sys.stdout.reconfigure(errors="backslashreplace")
    _import_all()
    statuses: Counter[int] = Counter()
    wrong, draw = 0, train._draw
    with tempfile.TemporaryDirectory(prefix="fuzzing-") as work:
        for name in watch.KEPT:
            os.environ[name] = f"{work}/{name}"
        samples.keep_in(Path(work, "samples"))
        gc.freeze()
        for number in range(first, first + count):
            # Figures take half the time of a run that ends well.
            train._draw = draw if number % 4 == 0 else lambda *arguments: None
            folder = Path(work, f"{kind}-{number}")
            folder.mkdir()
            case = KINDS[kind](random.Random(f"{kind} {number}"), folder)
            ended = watch.run(watch.script(case.script, case.arguments), folder)
            statuses[ended.status] += 1
            found = judge.faults(ended, case, folder)
            if found:
                wrong += 1
                print(f"{kind} {number}: {'; '.join(found)}\n  {case.script} {shlex.join(case.arguments)}")
                print(*(f"  {line}" for line in ended.errors.splitlines()[-12:]), sep="\n", flush=True)
                shutil.copytree(folder, kept / folder.name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(folder)
    told = ", ".join(f"{many} with status {status}" for status, many in sorted(statuses.items()))
    print(f"{count} cases: {told}; {wrong} not as they should")
    return int(wrong > 0)


def _import_all():
    """What a script imports, before children are forked: it is theirs too, and JAX has started nothing yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in IMPORTED:
            importlib.import_module(name)
    parse(TrainConfig, [])


if __name__ == "__main__":
    sys.exit(main())
