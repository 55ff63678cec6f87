"""Runs of a few epochs, in a folder of their own, and folders as runs leave them."""

import dataclasses
import json

from jaxnet.experiment.commands.train import run
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import folder
from jaxnet.experiment.storage.metrics_file import Metrics
from jaxnet.experiment.training.position import Epoch

LOSSES = (0.5, 0.25, 0.125, 0.375)


def train(tmp_path, **options):
    """A run in a folder of its own, and its metrics."""
    out = tmp_path / "run"
    result = run(TrainConfig(**{"out": str(out), "epochs": 3, "hidden": (8,), **options}))
    return out, result, [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def write(where, losses=LOSSES, *, metric="accuracy", finished=True, **options):
    """A run's folder with these validation losses, as train.py writes it; of two --seeds, a tenth to either side."""
    where.mkdir(parents=True)
    config = TrainConfig(**{"epochs": len(losses), "out": str(where), **options})
    folder.write_json(where / folder.CONFIG, dataclasses.asdict(config))
    epochs = [
        Epoch(number, loss / 2, loss, 1 - loss, number * 1.5, seeds=_of_two(loss) if config.seeds == 2 else None)
        for number, loss in enumerate(losses, 1)
    ]
    Metrics(where, metric).begin(tuple(epochs))
    if finished:
        result = {f"test_{metric}": 0.75, "kept_epoch": len(losses), "epochs": len(losses), "seconds": 100.0}
        result |= {"interval": {f"test_{metric}": [0.5, 1.0]}} if config.seeds == 2 else {}
        folder.write_json(where / folder.RESULT, result)
    return where


def _of_two(loss):
    each = {"train_loss": loss / 2, "validation_loss": loss, "validation_metric": 1 - loss}
    return {name: [0.9 * mean, 1.1 * mean] for name, mean in each.items()}
