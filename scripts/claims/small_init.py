"""S14 (e): 0.01 scaling helps sigmoid and tanh and is not needed for ReLU."""

from typing import Any

import numpy as np
from benchmarks import report

from claims import networks, style
from claims.ensemble import Lab
from claims.networks import ACTIVATIONS, NETWORKS
from claims.verdict import MARGIN, Claim, more, no_worse
from jaxnet.experiment.figures.canvas import log_axis

STARTS = {"0.01": "N(0, 0.01^2)", "1": "N(0, 1)", "suited": "He (ReLU), Glorot"}


def run(lab: Lab) -> Claim:
    """Compares N(0, 0.01^2) with N(0, 1) for sigmoid and tanh, and with He's start for ReLU."""
    rows, losses = [], {}
    for (name, g), runs in networks.all_trained(lab, NETWORKS).items():
        for epochs in (lab.early, lab.late):
            loss = {start: runs[start].tuned(epochs).history.test_loss[:, epochs] for start in STARTS}
            losses[name, g, epochs] = {start: float(np.mean(values)) for start, values in loss.items()}
            where = f"{name}, {epochs} epochs"
            if g == "relu":
                quantity = "ReLU: test loss, He less N(0, 0.01^2) (nats)"
                rows.append(no_worse(where, quantity, loss["suited"], loss["0.01"]))
            else:
                quantity = f"{style.NAMES[g]}: test loss, N(0, 1) less N(0, 0.01^2) (nats)"
                rows.append(more(where, quantity, loss["1"] - loss["0.01"]))
    _draw(lab)
    return Claim(
        name="small-init",
        source="S13, S14 (e)",
        says="scaling random weights by 0.01 helps sigmoid and tanh, and is not needed for ReLU",
        equations=(
            "W ~ N(0, 0.01^2), b = 0: |z| small, where sigmoid and tanh are steep",
            "ReLU: He, W ~ N(0, 2 / inputs)",
        ),
        method=(
            "Sigmoid and tanh start from N(0, 0.01^2) and from N(0, 1); for ReLU the claim is that He's start, which "
            f"is not scaled by 0.01, is no more than {100 * MARGIN:.0f}% worse than N(0, 0.01^2)."
        ),
        rows=tuple(rows),
        why=_why(lab, losses),
        figure="small-init",
        legend="Test loss against the epoch from three starts; bands are 95% intervals over the seeds.",
        rates={
            name: {
                g: networks.tuned_rates(lab, {s: networks.trained(lab, name, g)[s] for s in STARTS})
                for g in ACTIVATIONS
            }
            for name in NETWORKS
        },
    )


def _why(lab, losses):
    shallow, deep = ({g: losses[name, g, lab.late] for g in ACTIVATIONS} for name in tuple(NETWORKS)[:2])
    return (
        f"With one hidden layer on digits the test loss of tanh is {shallow['tanh']['0.01']:.3f} from N(0, 0.01^2), "
        f"{shallow['tanh']['1']:.3f} from N(0, 1) and {shallow['tanh']['suited']:.3f} from Glorot's start, and "
        f"ReLU's is {shallow['relu']['0.01']:.3f} against {shallow['relu']['suited']:.3f} from He's; through three "
        f"hidden layers a factor of 0.01 in each shrinks every signal, and the losses are {deep['tanh']['0.01']:.2f} "
        f"(tanh), {deep['sigmoid']['0.01']:.2f} (sigmoid) and {deep['relu']['0.01']:.2f} (ReLU) against "
        f"{deep['tanh']['suited']:.2f}, {deep['sigmoid']['suited']:.2f} and {deep['relu']['suited']:.2f} from the "
        "starts that go by the layer's size."
    )


def _draw(lab):
    figure, panels = report.subplots(len(ACTIVATIONS), rows=len(NETWORKS), sharex=True)
    for name, row in zip(NETWORKS, panels, strict=True):
        for axes, g in zip(row, ACTIVATIONS, strict=True):
            runs = networks.trained(lab, name, g)
            for start, shade, dash, marker in zip(STARTS, style.SHADES, style.DASHES, "os^", strict=True):
                line: dict[str, Any] = {"color": shade, "ls": dash, "marker": marker}
                label = STARTS[start] if axes is panels[0, 0] else None
                style.draw_mean(axes, runs[start].tuned(lab.late).history.test_loss, label=label, **line)
            axes.set_title(f"{style.NAMES[g]}: {name}")
            log_axis(axes.yaxis)
            axes.title.set_fontsize(9)
        row[0].set_ylabel("test loss (nats)")
    for axes in panels[-1]:
        style.epoch_axis(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, title="start of W")
    report.save(figure, lab.out, "small-init")
