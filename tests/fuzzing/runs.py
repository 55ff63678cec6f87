"""Runs' folders: checkpoints, and the files beside them, with bits flipped, cut, gone, or sealed with nonsense."""

import json
import random
import shutil
from pathlib import Path

from fuzzing import samples
from fuzzing.case import Case, broken_bytes, broken_json, misplace
from jaxnet.experiment.storage.manifest import FILE as MANIFEST
from jaxnet.experiment.storage.manifest import sealed

# For what is read by which scripts.
READERS = {"config.json": ("train.py", "compare.py"), "metrics.jsonl": ("compare.py",), "result.json": ("compare.py",)}


def make(rng: random.Random, folder: Path) -> Case:
    """A run to go on with, to compare, to predict with or to export, with something in its folder broken."""
    run = rng.choice((samples.RUN, samples.STOPPED, samples.STOPPED))
    samples.copy(folder, samples.CSV, run)
    where = folder / run
    inside = sorted(path for path in where.glob("checkpoints/**/*") if path.is_file())
    manifests = [path for path in inside if path.name == MANIFEST]
    beside = sorted(path for path in where.iterdir() if path.suffix in (".json", ".jsonl", ".npz"))
    chosen = [rng.choice(rng.choice((inside, manifests, manifests, beside))) for _ in range(rng.choice((1, 1, 2)))]
    for path in dict.fromkeys(chosen):
        _break(rng, path)
    if rng.random() < 0.05:
        shutil.rmtree(rng.choice(sorted(path for path in where.glob("checkpoints/**") if path.is_dir())))
    return _case(rng, run, chosen[0].name if chosen[0] in beside else None)


def _case(rng, run, name):
    if name == "model.npz":
        script = rng.choice(("predict.py", "export.py"))
        return Case(script, [run, *(["--data", samples.CSV] if script == "predict.py" else ["--to", "npz"])], (run,))
    if name is not None and rng.choice(READERS[name]) == "compare.py":
        return Case("compare.py", [run], ("compare.png",))
    return Case("train.py", ["--resume", run, *rng.choice(([], ["--epochs", "3"]))], (run,))


def _break(rng, path):
    content = path.read_bytes()
    if rng.random() < 0.1:
        misplace(rng, path)
    elif path.suffix in (".json", ".jsonl") and rng.random() < 0.7:
        path.write_bytes(_broken_json_file(rng, path.name, content))
    else:
        path.write_bytes(broken_bytes(rng, content))


def _broken_json_file(rng, name, content):
    if name == "metrics.jsonl":
        lines = [json.loads(line) for line in content.splitlines()]
        return "".join(f"{json.dumps(broken_json(rng, line))}\n" for line in lines).encode()
    told = json.loads(content)
    if name != MANIFEST:
        return json.dumps(broken_json(rng, told)).encode()
    # As if it had been written so: the seal is right.
    manifest = told["manifest"]
    for _ in range(rng.choice((1, 1, 2))):
        manifest = broken_json(rng, manifest)
    return sealed(manifest)
