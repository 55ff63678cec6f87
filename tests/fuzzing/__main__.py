"""Runs the cases of one kind: `python -m fuzzing KIND FIRST COUNT FOLDER`; exit status 1 if one ends otherwise.

What such a case was run on is left in FOLDER/KIND-NUMBER.
"""

import dataclasses
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

from fuzzing import arrays, case, command_lines, idx_files, image_folders, judge, runs, samples, tables, texts, watch
from fuzzing.met import Met, functions_of
from jaxnet.experiment.commands import ending, text_runs
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.options.train_config import TrainConfig

# Makers, and of what all make use, that which each has to meet in all its ways.
KINDS = {
    "command-line": (command_lines, ()),
    "csv": (tables, (case.broken_text, case.misplace)),
    "npz": (arrays, (case.broken_bytes,)),
    "idx": (idx_files, ()),
    "images": (image_folders, ()),
    "checkpoint": (runs, (case.broken_json,)),
    "text": (texts, ()),
}
IMPORTED = (
    "filelock",
    "matplotlib.pyplot",
    "PIL.Image",
    "orbax.checkpoint",
    "rich.progress",
    "sklearn.datasets",
    "sklearn.model_selection",
    "tensorboardX",
)


def main() -> int:
    """Runs the cases, prints what is wrong with each and how all ended, and returns the exit status."""
    kind, first, count, kept = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    sys.stdout.reconfigure(errors="backslashreplace")
    _import_all()
    statuses: Counter[int] = Counter()
    wrong, draw, lines = 0, ending.draw, []
    # What a text's figures show is computed for them, and takes longer than the run.
    text_runs.draw = lambda *arguments: None
    maker, shared = KINDS[kind]
    met = Met(*functions_of(maker), *shared)
    with tempfile.TemporaryDirectory(prefix="fuzzing-") as work:
        for name in watch.KEPT:
            os.environ[name] = f"{work}/{name}"
        samples.keep_in(Path(work, "samples"))
        gc.freeze()
        for number in range(first, first + count):
            # Figures take half the time of a run that ends well.
            ending.draw = draw if number % 4 == 0 else lambda *arguments: None
            folder = Path(work, f"{kind}-{number}")
            folder.mkdir()
            made = met.noting(maker.make, random.Random(f"{kind} {number}"), folder)
            lines.append((made.script, made.arguments))
            ended = watch.run(watch.script(made.script, made.arguments), folder)
            statuses[ended.status] += 1
            found = judge.faults(ended, made, folder)
            if found:
                wrong += 1
                print(f"{kind} {number}: {'; '.join(found)}\n  {made.script} {shlex.join(made.arguments)}")
                print(*(f"  {line}" for line in ended.errors.splitlines()[-12:]), sep="\n", flush=True)
                shutil.copytree(folder, kept / folder.name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(folder)
    told = ", ".join(f"{many} with status {status}" for status, many in sorted(statuses.items()))
    print(f"{count} cases: {told}; {wrong} not as they should")
    missed = [*met.missed, *(_missed(lines) if kind == "command-line" else ())]
    print(f"of all kinds of input, not met: {', '.join(missed) or 'none'}")
    return int(wrong > 0)


def _missed(lines):
    """The scripts, and their options, that are in none of the command lines."""
    given = {(script, part.partition("=")[0]) for script, line in lines for part in (script, *line)}
    left = [script for script in command_lines.SCRIPTS if (script, script) not in given]
    for script, (config, _) in command_lines.SCRIPTS.items():
        for field in dataclasses.fields(config):
            names = {"--" + field.name.replace("_", between) for between in "-_"}
            if field.name not in command_lines.POSITIONAL and not any((script, name) in given for name in names):
                left.append(f"{script} --{field.name.replace('_', '-')}")
    return left


def _import_all():
    """What a script imports, before children are forked: it is theirs too, and JAX has started nothing yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in IMPORTED:
            importlib.import_module(name)
    parse(TrainConfig, [])


if __name__ == "__main__":
    sys.exit(main())
