"""S14 (c): leaky ReLU revives units that ReLU leaves with zero gradient."""

from functools import partial
from typing import Any

import jax
import numpy as np
from benchmarks import report

from claims import ensemble, networks, style
from claims.ensemble import Lab
from claims.verdict import Claim, at_most, more
from jaxnet import activations
from jaxnet.layer import Layer
from jaxnet.networks import mlp

SIZES = (64, 32, 10)
WHERE = "digits, 64-32-10"
KILLED = 16
# How far below 0 a killed unit's largest z over the training part is at the start.
DEPTHS = {"just dead": 0.1, "deeply dead": 1.0}
SLOPES = (0.01, 0.1, 0.5)
ARMS: dict[str, Layer] = {"ReLU": activations.relu} | {f"leaky {s:g}": activations.leaky_relu(s) for s in SLOPES}
LINES: dict[str, dict[str, Any]] = {
    "ReLU": style.LINES["relu"],
    **{
        f"leaky {slope:g}": {"color": shade, "ls": dash, "marker": marker}
        for slope, shade, dash, marker in zip(
            SLOPES, ("#E3B5CF", "#CC79A7", "#7A3B62"), ("-", "--", ":"), "Dsv", strict=True
        )
    },
}


def run(lab: Lab) -> Claim:
    """Starts half of the hidden units dead, trains, and counts how many have come to life."""
    on = ensemble.task("digits", lab.seeds)
    starts = {depth: _killed(on, lab.seeds, below) for depth, below in DEPTHS.items()}
    fits = {
        arm: partial(ensemble.fit, lab, f"64-32-10, {arm}", mlp(SIZES, g), on, starts, epochs=lab.late, observe=_look)
        for arm, g in ARMS.items()
    }
    runs = ensemble.together(fits)
    return Claim(
        name="dead-units",
        source="S14 (c)",
        says="leaky ReLU revives units that ReLU leaves with zero gradient",
        equations=("ReLU: g' = 0 where z < 0", "leaky ReLU: g' = lambda where z < 0, 0.01 in the lesson"),
        method=(
            f"{KILLED} of 32 hidden units start dead: their biases are so low that z is below 0 for every training "
            f"example, by {DEPTHS['just dead']:g} or {DEPTHS['deeply dead']:g} at least. A unit is alive again when "
            "some training example makes its z positive."
        ),
        rows=(*_zero_gradient(lab, runs), *_revived(lab, runs), *_loss(lab, runs)),
        why=_why(lab, runs),
        figure=_draw(lab, runs),
        legend="Killed units that are alive, against the epoch; bands are 95% intervals over the seeds.",
        rates={arm: networks.tuned_rates(lab, by_depth) for arm, by_depth in runs.items()},
    )


def _killed(on, seeds, below):
    """He's start, with the first units' largest z over the training part at -below."""
    params = ensemble.start(mlp(SIZES, activations.relu), seeds)
    z = jax.numpy.einsum("soi,smi->smo", params[0].W, on.train.x)
    dead = np.arange(SIZES[1])[None] < KILLED
    b = jax.numpy.where(dead, -z.max(axis=1) - below, params[0].b)
    return (params[0]._replace(b=b), *params[1:])


def _look(params, x):
    """Which of the killed units some example makes positive, and their parameters."""
    z = x @ params[0].W.T + params[0].b[None]
    return (z[:, :KILLED] > 0).any(axis=0), params[0].W[:KILLED]


def _alive(run):
    """Percent of the killed units, (seeds, epochs + 1)."""
    return 100 * np.asarray(run.seen[0]).mean(axis=-1)


def _zero_gradient(lab, runs):
    for depth, arm in runs["ReLU"].items():
        W = np.asarray(arm.tuned(lab.late).seen[1], np.float64)
        moved = np.abs(W[:, -1] - W[:, 0]).max(axis=(1, 2))
        yield at_most(
            f"{WHERE}, {depth}", f"ReLU: largest change of the killed units' weights in {lab.late} epochs", moved, 0.0
        )


def _revived(lab, runs):
    for depth in DEPTHS:
        for slope in SLOPES:
            leaky, relu = (
                _alive(runs[arm][depth].tuned(lab.late))[:, lab.late] for arm in (f"leaky {slope:g}", "ReLU")
            )
            yield more(
                f"{WHERE}, {depth}",
                f"lambda {slope:g}: revived in {lab.late} epochs, more than by ReLU (%)",
                leaky - relu,
            )


def _loss(lab, runs):
    for slope in SLOPES:
        for epochs in (lab.early, lab.late):
            relu, leaky = (
                runs[arm]["just dead"].tuned(epochs).history.test_loss[:, epochs]
                for arm in ("ReLU", f"leaky {slope:g}")
            )
            where = f"{WHERE}, just dead, {epochs} epochs"
            yield more(where, f"lambda {slope:g}: test loss, ReLU less leaky (nats)", relu - leaky)


def _why(lab, runs):
    revived = ", ".join(
        f"{_alive(runs[f'leaky {slope:g}']['just dead'].tuned(lab.late))[:, lab.late].mean():.0f}% at lambda {slope:g}"
        for slope in SLOPES
    )
    return (
        "ReLU's zero gradient is exact, and any lambda > 0 moves a dead unit, but by lambda times what moves a "
        f"live one: of the units that were just dead {revived} are alive after {lab.late} epochs, each arm at the "
        "learning rate that is best for the whole network."
    )


def _draw(lab, runs):
    figure, panels = report.subplots(len(DEPTHS), sharey=True)
    for axes, (depth, below) in zip(panels, DEPTHS.items(), strict=True):
        for arm in ARMS:
            label = arm if axes is panels[0] else None
            style.draw_mean(axes, _alive(runs[arm][depth].tuned(lab.late)), label=label, **LINES[arm])
        axes.set_title(f"{depth}: largest z at the start {-below:g}")
        style.epoch_axis(axes)
    panels[0].set(ylabel="killed units that are alive (%)", ylim=(-3, 103))
    figure.legend(loc="outside lower center", ncols=4, frameon=False, title="hidden units, lambda")
    report.save(figure, lab.out, "dead-units")
    return "dead-units"
