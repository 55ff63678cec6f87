"""Training from disk beside training in memory: the same network, batches and order."""

import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import report
from benchmarks.report import Spread
from jaxnet.experiment.console import screen
from jaxnet.experiment.data import named
from jaxnet.experiment.data.posing import pose
from jaxnet.experiment.data.split import split
from jaxnet.experiment.devices.mesh import make_layout
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.training.loop import train
from jaxnet.experiment.training.position import Epoch
from jaxnet.experiment.training.recipe import recipe_of

EXAMPLES, FEATURES, CLASSES = 60_000, 784, 10
HIDDEN, BATCH = (512, 512), 128
TYPES = ("uint8", "float32")
TARGET = 1.1


def run(out: Path, seeds: int = 5) -> dict[str, Any]:
    """Measures epochs in turn, prints a table, and writes results.json.

    Args:
      out: the folder that is written into.
      seeds: rounds, each an epoch from memory and one from disk.
    """
    found = {dtype: _measure(dtype, seeds) for dtype in TYPES}
    what = {"examples": EXAMPLES, "sizes": (FEATURES, *HIDDEN, CLASSES), "batch_size": BATCH, "target": TARGET}
    results = {"benchmark": "stream", **report.environment(), "rounds": seeds, **what, "types": found}
    report.write_results(out, results)
    header = ("on disk", "in memory, s/epoch", "streamed, s/epoch", "ratio", "target", "met")
    rows = [
        (
            dtype,
            of["in_memory"].text(".3f"),
            of["streamed"].text(".3f"),
            of["ratio"].text(".3f"),
            f"{TARGET}",
            "yes" if of["ratio"].median <= TARGET else "no",
        )
        for dtype, of in found.items()
    ]
    note = "Epochs, validation included, in turn; medians [least-most] over the rounds, and of each round's ratio."
    print(f"{screen.table(header, rows)}\n{screen.fill(note)}")
    return results


def _measure(dtype, rounds):
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), dtype)
        epochs = {name: _epochs(folder, stream=name == "streamed", rounds=rounds) for name in ("in_memory", "streamed")}
        seconds: dict[str, list[float]] = {name: [] for name in epochs}
        losses: dict[str, list[float]] = {name: [] for name in epochs}
        for _ in range(rounds + 1):
            for name, of in epochs.items():
                started = time.perf_counter()
                epoch = next(of)
                seconds[name].append(time.perf_counter() - started)
                losses[name].append(epoch.train_loss)
    # The same run, or the times would say nothing.
    np.testing.assert_allclose(losses["streamed"], losses["in_memory"], rtol=1e-4)
    # The first epoch compiles.
    kept = {name: np.array(values[1:]) for name, values in seconds.items()}
    ratios = kept["streamed"] / kept["in_memory"]
    return {**{name: Spread.of(values) for name, values in kept.items()}, "ratio": Spread.of(ratios)}


def _write(folder, dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (EXAMPLES, FEATURES)).astype(dtype)
    np.save(folder / "x.npy", x)
    # What a linear map of some features decides, so that there is something to learn.
    np.save(folder / "y.npy", (x[:, :64].astype(np.float32) @ rng.normal(size=(64, CLASSES))).argmax(axis=1))


def _epochs(folder, *, stream, rounds):
    config = TrainConfig(
        data=folder, hidden=HIDDEN, batch_size=BATCH, epochs=rounds + 1, optimizer="sgd", stream=stream
    )
    table = named.load(config.data, stream=stream)
    problem, table = pose(table)
    parts, problem = split(table, problem, config.seed)
    with jax.enable_x64(False):
        network = config.network((FEATURES,), problem.outputs, problem.output_activation)
        events = train(recipe_of(config), network.net, problem, parts, make_layout())
        yield from (event for event in events if isinstance(event, Epoch))
