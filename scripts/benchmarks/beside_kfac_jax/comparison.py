"""How far K-FAC and kfac-jax get on the deep autoencoder from the same starts, with the same batches."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import report
from benchmarks.kfac import autoencoder
from benchmarks.report import Spread
from jaxnet import optimizers
from jaxnet.experiment.console import screen
from jaxnet.experiment.console.errors import BadInput
from jaxnet.layers.dense import Dense
from jaxnet.training import TrainState, make_steps

THEIRS = Path(__file__).with_name("theirs.py")
BATCH_SIZE = 64
LEAST_DAMPINGS = (0.01, 0.0001)
EPOCHS = 33
# After which epochs the table tells the losses.
TOLD = (5, 10, 20, 33)


def run(out: Path, seeds: int, python: str) -> dict[str, Any]:
    """Trains both at each least damping, and ours at its defaults; prints a table and writes results.json.

    Args:
      out: the folder that is written into.
      seeds: how many starts, and orders of the examples: 0, 1, ... An epoch leaves out what does not fill up a batch.
      python: the program of an environment with kfac-jax.

    Returns:
      What results.json holds.

    Raises:
      BadInput: when that program does not train.
    """
    problem = autoencoder()
    starts = [problem.net.init(jax.random.key(seed)) for seed in range(seeds)]
    rows = np.stack([_rows(len(problem.x), seed) for seed in range(seeds)])
    # Theirs first: whatever is wrong with that environment shows at once.
    theirs = _by_kfac_jax(python, problem.x, starts, rows)
    runs = [("jaxnet", "by default", _by_jaxnet(problem, starts, rows))]
    for least, losses in zip(LEAST_DAMPINGS, theirs, strict=True):
        ours = _by_jaxnet(problem, starts, rows, least_damping=least)
        runs += [("kfac-jax", f"{least:g}", losses), ("jaxnet", f"{least:g}", ours)]
    results = {
        "benchmark": "kfac beside kfac-jax",
        **report.environment(),
        "batch_size": BATCH_SIZE,
        "seeds": list(range(seeds)),
        "runs": [{"optimizer": name, "least damping": least, "losses": losses} for name, least, losses in runs],
    }
    report.write_results(out, results)
    header = ("optimizer", "least damping", *(f"epoch {epoch}" for epoch in TOLD if epoch <= EPOCHS))
    print(screen.table(header, [_row(*run) for run in runs], texts=2))
    print(
        screen.fill(
            f"Training loss ({problem.unit}) of the same starts and batches: medians over the seeds [least-most]."
        )
    )
    return results


def _rows(examples, seed):
    """The examples of each batch, (epochs, k, m)."""
    draw, batches = np.random.default_rng(seed), examples // BATCH_SIZE
    orders = [draw.permutation(examples)[: batches * BATCH_SIZE] for _ in range(EPOCHS)]
    return np.stack(orders).reshape(EPOCHS, batches, BATCH_SIZE)


def _by_jaxnet(problem, starts, rows, **options):
    """What the training data loses before the first epoch and after each, (seeds, epochs + 1)."""
    net, loss, x = problem.net, problem.loss, problem.x

    def optimizer(seed):
        return optimizers.kfac(net, loss, key=jax.random.key(seed), **options)

    steps = make_steps(net, loss, optimizer(0))
    evaluate = jax.jit(lambda params: loss.forward(net.apply(params, x), x).mean())

    def train(seed, start):
        # The state is consumed, and the start serves again.
        state = TrainState.create(jax.tree.map(lambda leaf: leaf.copy(), start), optimizer(seed))
        losses = [evaluate(start)]
        for of_epoch in rows[seed]:
            state, _ = steps(state, x[of_epoch], x[of_epoch])
            losses.append(evaluate(state.params))
        return np.array(losses)

    return np.stack([train(seed, start) for seed, start in enumerate(starts)])


def _by_kfac_jax(python, x, starts, rows):
    """As `_by_jaxnet`, for each least damping."""
    layers = [[layer for layer in start if isinstance(layer, Dense)] for start in starts]
    given = {"x": x, "rows": rows, "least_dampings": np.array(LEAST_DAMPINGS)}
    for k in range(len(layers[0])):
        given |= {f"{name}{k}": np.stack([getattr(of_start[k], name) for of_start in layers]) for name in "Wb"}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("batches.npz", "losses.npz")]
        np.savez(files[0], **given)
        try:
            ran = subprocess.run([python, str(THEIRS), *map(str, files)], check=False, capture_output=True, text=True)
        except OSError as error:
            raise BadInput(
                f"--kfac-jax {python}: {error.strerror}; name the Python of an environment with it"
            ) from None
        if ran.returncode or not files[1].exists():
            last = (ran.stderr.strip().splitlines() or [f"ended with status {ran.returncode}"])[-1]
            raise BadInput(f"--kfac-jax {python}: {last}")
        return np.load(files[1])["losses"]


def _row(name, least, losses):
    return name, least, *(Spread.of(losses[:, epoch]).text(".4f") for epoch in TOLD if epoch <= EPOCHS)
