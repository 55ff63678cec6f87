"""S11, S14 (g): one iteration is forward, backward and update, and repeated iterations lower the loss."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks import report

from claims import ensemble, style
from claims.ensemble import Lab, Runs, Task
from claims.verdict import Claim, Row, at_most, more
from jaxnet import activations, curvature
from jaxnet.experiment.figures.canvas import log_axis
from jaxnet.layer import Layer
from jaxnet.networks import mlp

# Iterations, in units of the late epochs.
TIMES = 10
SETTINGS = (("breast_cancer", 16), ("digits", 32))
POWER_ITERATIONS = 30
SHADES = ("#C6DBEF", "#6BAED6", "#2171B5", "#08306B", "#D55E00")
DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)), ":")
# float32 rounds the mean of a thousand losses at about 1e-7 of it.
ROUNDING = 1e-6


def run(lab: Lab) -> Claim:
    """Full-batch gradient descent at every rate: how often the loss rises, and the curvature that decides it."""
    iterations = TIMES * lab.late
    found = ensemble.together({name: partial(_descent, lab, name, hidden, iterations) for name, hidden in SETTINGS})
    runs = {where: one for where, one, _ in found.values()}
    sharpest = {where: one for where, _, one in found.values()}
    rows = [row for where, run in runs.items() for row in _rows(lab, where, run, iterations)]
    _draw(lab, runs)
    return Claim(
        name="training",
        source="S11, S14 (g)",
        says="repeated iterations of forward, backward and update lower the loss",
        equations=(
            "W := W - eta dW, b := b - eta db",
            "J falls in a small enough step: J - eta |dJ|^2 + (eta^2 / 2) dJ^T H dJ",
        ),
        method=(
            f"{iterations} iterations with the full batch, at every learning rate eta of the grid. Two things are "
            "measured: how far J falls, and in how many iterations it rises (by more than float32's rounding)."
        ),
        rows=tuple(rows),
        why=(
            "To second order a step lowers J for certain only while eta is below 2 / (largest eigenvalue of H), here "
            + ", ".join(f"{2 / value.mean():.2f} at the start on {name}" for name, value in sharpest.items())
            + f" (by power iteration with hessian_vector_product). {_rises(lab, rows)}"
        ),
        figure="training",
        legend="J against the iteration, the mean over the seeds, for every other learning rate of the grid.",
        rates={where: run.tuned().rate for where, run in runs.items()},
        numbers={"largest eigenvalue of H at the start": sharpest},
    )


def _rises(lab, rows):
    """How often the loss rises at the largest rate, from the last row of each setting."""
    worst = rows[5::6]
    return (
        f"At eta {lab.rates[-1]:g} J rises in "
        + ", ".join(f"{row.interval.mean:.1f}% of the iterations ({row.setting.split(',')[0]})" for row in worst)
        + "."
    )


def _rows(lab: Lab, where: str, runs: Runs, iterations: int) -> Iterator[Row]:
    losses = np.asarray(runs.history.train_loss, np.float64)
    for rate, what in (
        (lab.rates[len(lab.rates) // 4], "small"),
        (runs.tuned().rate, "best on validation"),
        (lab.rates[-1], "the largest"),
    ):
        of_rate = losses[lab.rates.index(rate)]
        setting = f"{where}, eta {rate:g} ({what})"
        yield more(setting, f"J before less J after {iterations} iterations (nats)", of_rate[:, 0] - of_rate[:, -1])
        rises = 100 * (of_rate[:, 1:] > of_rate[:, :-1] * (1 + ROUNDING)).mean(axis=1)
        yield at_most(setting, "iterations that raise J (%)", rises, 0.0)


def _descent(lab: Lab, name: str, hidden: int, iterations: int) -> tuple[str, Runs, np.ndarray]:
    """What is trained, its runs, and the largest eigenvalue of the Hessian at each seed's start."""
    on = ensemble.task(name, lab.seeds)
    sizes = (on.features, hidden, on.outputs)
    net = mlp(sizes, activations.tanh)
    starts = {"start": ensemble.start(net, lab.seeds)}
    what = f"{'-'.join(map(str, sizes))}, full batch"
    where = f"{name.replace('_', ' ')}, {'-'.join(map(str, sizes))}"
    runs = ensemble.fit(lab, what, net, on, starts, epochs=iterations, batch_size=None)["start"]
    return where, runs, _largest_eigenvalue(net, on, starts["start"])


def _largest_eigenvalue(net: Layer, on: Task, params: Any) -> np.ndarray:
    """Of the Hessian of J, for each seed: H times a vector, again and again."""

    def by_seed(params, x, y, key):
        leaves, structure = jax.tree.flatten(params)
        draws = zip(jax.random.split(key, len(leaves)), leaves, strict=True)
        v = jax.tree.unflatten(structure, [jax.random.normal(key, leaf.shape) for key, leaf in draws])

        def again(v, _):
            hv = curvature.hessian_vector_product(net, on.loss, params, x, y, v)
            norm = jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(hv)))
            return jax.tree.map(lambda leaf: leaf / norm, hv), norm

        return jax.lax.scan(again, v, length=POWER_ITERATIONS)[1][-1]

    return np.asarray(jax.jit(jax.vmap(by_seed))(params, *on.train, ensemble.keys(on.seeds)[1]))


def _draw(lab, runs):
    figure, panels = report.subplots(len(runs))
    # Every other rate: light to dark, and the largest in a colour of its own.
    shown = lab.rates[::2]
    for axes, (where, run) in zip(panels, runs.items(), strict=True):
        losses = np.asarray(run.history.train_loss, np.float64)
        for rate, shade, dash in zip(shown, SHADES[-len(shown) :], DASHES[-len(shown) :], strict=True):
            mean = losses[lab.rates.index(rate)].mean(axis=0)
            label = f"{rate:g}" if axes is panels[0] else None
            axes.plot(np.where(np.isfinite(mean), mean, np.nan), color=shade, ls=dash, lw=1.6, label=label)
        axes.set(ylabel="J (nats per example)", title=where)
        log_axis(axes.yaxis)
        style.epoch_axis(axes, "iterations")
    figure.legend(loc="outside lower center", ncols=len(shown), frameon=False, title="learning rate eta")
    report.save(figure, lab.out, "training")
