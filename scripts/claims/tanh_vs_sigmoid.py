"""S14 (a): tanh hidden units beat sigmoid ones, because their outputs are centred on 0."""

from functools import partial

import numpy as np
from benchmarks import report

from claims import ensemble, networks, style
from claims.ensemble import Lab, Runs
from claims.networks import NETWORKS
from claims.verdict import Claim, Row, more
from jaxnet import activations
from jaxnet.compose import chain
from jaxnet.experiment.figures.canvas import log_axis
from jaxnet.layer import Layer
from jaxnet.networks import mlp

ARMS = ("tanh", "sigmoid", "sigmoid - 1/2")

# A layer of one's own, put behind sigmoid: the only change is that a is centred on 0.
CENTRE = Layer(lambda key: (), lambda params, a: (a - 0.5, ()), lambda params, cache, da: (params, da))


def run(lab: Lab) -> Claim:
    """Trains sigmoid, tanh and sigmoid - 1/2, whose slope is sigmoid's and whose centre is tanh's."""
    trained = ensemble.together({(name, arm): partial(_arm, lab, name, arm) for name in NETWORKS for arm in ARMS})
    runs = {name: {arm: trained[name, arm] for arm in ARMS} for name in NETWORKS}
    rows: list[Row] = []
    means: dict[str, dict[str, float]] = {}
    for name, arms in runs.items():
        for epochs in (lab.early, lab.late):
            loss = {arm: arms[arm].tuned(epochs).history.test_loss[:, epochs] for arm in ARMS}
            where = f"{name}, {epochs} epochs"
            rows.append(more(where, "test loss, sigmoid less tanh (nats)", loss["sigmoid"] - loss["tanh"]))
            rows.append(more(where, "test loss, sigmoid less sigmoid - 1/2", loss["sigmoid"] - loss["sigmoid - 1/2"]))
            means[where] = {arm: float(np.mean(loss[arm])) for arm in ARMS}
    where = max(means, key=lambda where: means[where]["sigmoid"] - means[where]["tanh"])
    told = ", ".join(f"{arm} {mean:.3f}" for arm, mean in means[where].items())
    _draw(lab, runs)
    return Claim(
        name="tanh-vs-sigmoid",
        source="S14 (a)",
        says="tanh hidden units beat sigmoid ones, because their outputs are centred on 0",
        equations=("sigmoid: a in (0, 1), g' = a (1 - a) <= 1/4", "tanh: a in (-1, 1), g' = 1 - a^2 <= 1"),
        method=(
            "Two things set tanh apart: its outputs are centred on 0, and it is four times as steep. A third arm has "
            "the first without the second: sigmoid - 1/2. If centring is the reason, it does as well as tanh."
        ),
        rows=tuple(rows),
        why=(
            f"tanh gains most in {where} (test loss: {told}); there centring alone closes {_share(means[where])} of "
            "the gap, and what is left goes with the slope, which is four times as large."
        ),
        figure="tanh-vs-sigmoid",
        legend="Test loss against the epoch at each arm's learning rate; bands are 95% intervals over the seeds.",
        rates={name: networks.tuned_rates(lab, arms) for name, arms in runs.items()},
    )


def _arm(lab: Lab, name: str, arm: str) -> Runs:
    if arm in networks.ACTIVATIONS:
        return networks.trained(lab, name, arm)["suited"]
    network = NETWORKS[name]
    on = ensemble.task(network.data, lab.seeds)
    sizes = network.sizes(on)
    net = mlp(sizes, chain(activations.sigmoid, CENTRE))
    what = f"{'-'.join(map(str, sizes))}, {arm}"
    starts = {"suited": ensemble.start(net, lab.seeds)}
    return ensemble.fit(lab, what, net, on, starts, epochs=lab.late)["suited"]


def _share(mean):
    return f"{100 * (mean['sigmoid'] - mean['sigmoid - 1/2']) / (mean['sigmoid'] - mean['tanh']):.0f}%"


def _draw(lab, runs):
    figure, panels = report.subplots(len(runs))
    for axes, (name, arms) in zip(panels, runs.items(), strict=True):
        for arm in ARMS:
            label = arm if axes is panels[0] else None
            style.draw_mean(axes, arms[arm].tuned(lab.late).history.test_loss, label=label, **style.LINES[arm])
        axes.set(ylabel="test loss (nats per example)", title=name)
        log_axis(axes.yaxis)
        style.epoch_axis(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, title="hidden units")
    report.save(figure, lab.out, "tanh-vs-sigmoid")
