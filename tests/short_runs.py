"""Runs of a few epochs, in a folder of their own."""

import json

from jaxnet.experiment.commands.train import run
from jaxnet.experiment.options.train_config import TrainConfig


def train(tmp_path, **options):
    """A run in a folder of its own, and its metrics."""
    out = tmp_path / "run"
    result = run(TrainConfig(**{"out": str(out), "epochs": 3, "hidden": (8,), **options}))
    return out, result, [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
