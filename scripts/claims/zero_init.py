"""S14 (d): zero initialisation makes hidden units useless."""

import numpy as np
from benchmarks import report

from claims import networks, style
from claims.ensemble import Lab
from claims.networks import ACTIVATIONS, SHALLOW_NETWORKS
from claims.verdict import Claim, at_most, more
from jaxnet.experiment.figures.canvas import log_axis

SHOWN = "digits, 64-32-10"


def run(lab: Lab) -> Claim:
    """Trains from W = 0, b = 0, looks at the rows of W1, and compares with the start that suits the activation."""
    rows = []
    for (name, g), runs in networks.all_trained(lab, SHALLOW_NETWORKS).items():
        zeros, suited = (runs[start].tuned(lab.late) for start in ("zeros", "suited"))
        apart = _rows_apart(runs["zeros"].params[0].W)
        where = f"{name}, {lab.late} epochs"
        rows.append(at_most(where, f"{style.NAMES[g]}: largest difference between rows of W1", apart, 0.0))
        excess = zeros.history.test_loss[:, lab.late] - suited.history.test_loss[:, lab.late]
        rows.append(more(where, f"{style.NAMES[g]}: test loss, zeros less suited start (nats)", excess))
    _draw(lab)
    return Claim(
        name="zero-init",
        source="S12, S14 (d)",
        says="with all weights zero every hidden unit stays identical for ever, and hidden units are useless",
        equations=(
            "dW1 = (1/m) dZ1^T X with dZ1 = (dZ2 W2) * g'(Z1)",
            "equal rows of W1 and equal columns of W2 get equal gradients",
        ),
        method=(
            "W = 0 and b = 0 in both layers. Identical means identical: at every learning rate of the grid the rows of "
            "W1 may differ by nothing at all."
        ),
        rows=tuple(rows),
        why=_why(lab),
        figure="zero-init",
        legend=(
            f"W1 after {lab.late} epochs on digits, sigmoid units, one seed: each row is a hidden unit, each column a "
            "pixel. Below: test loss against the epoch from both starts."
        ),
        rates={
            name: {
                g: networks.tuned_rates(lab, {s: networks.trained(lab, name, g)[s] for s in ("suited", "zeros")})
                for g in ACTIVATIONS
            }
            for name in SHALLOW_NETWORKS
        },
    )


def _rows_apart(W1):
    """The largest difference between rows of W1 (rates, seeds, units, inputs), over all rates that stayed finite."""
    W1 = np.asarray(W1, np.float64)
    finite = np.isfinite(W1).all(axis=(2, 3), keepdims=True)
    W1 = np.where(finite, W1, 0)
    return np.abs(W1 - W1[:, :, :1]).max(axis=(0, 2, 3))


def _why(lab):
    moved = {}
    for g in ACTIVATIONS:
        W1 = np.asarray(networks.trained(lab, SHOWN, g)["zeros"].tuned(lab.late).params[0].W)
        moved[g] = float(np.abs(W1).max())
    still = [style.NAMES[g] for g, value in moved.items() if value == 0]
    moving = [style.NAMES[g] for g, value in moved.items() if value > 0]
    easy = networks.trained(lab, "breast cancer, 30-16-1", "sigmoid")
    losses = [easy[start].tuned(lab.late).history.test_loss[:, lab.late].mean() for start in ("zeros", "suited")]
    return (
        f"With {' and '.join(still)} g(0) = 0, so W1 never leaves 0; with {' and '.join(moving)} g(0) = 1/2, and the "
        "rows move together, as one unit: too few for ten digits, but enough where the classes are nearly linearly "
        f"separable, as in breast cancer (test loss {losses[0]:.3f} from zeros, {losses[1]:.3f} from the suited "
        "start)."
    )


def _draw(lab):
    figure, axes = report.subplots(2, rows=2, figsize=(8.6, 7.2))
    runs = networks.trained(lab, SHOWN, "sigmoid")
    for panel, start in zip(axes[0], ("zeros", "suited"), strict=True):
        W1 = np.asarray(runs[start].tuned(lab.late).params[0].W)[0]
        reach = np.abs(W1).max()
        image = panel.imshow(W1, cmap="PuOr", vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")
        figure.colorbar(image, ax=panel, label="weight")
        title = "W1 from zeros: rows identical" if start == "zeros" else "W1 from Glorot's start"
        panel.set(xlabel="pixel (input)", ylabel="hidden unit", title=title)
    for panel, name in zip(axes[1], SHALLOW_NETWORKS, strict=True):
        for g in ACTIVATIONS:
            for start in ("suited", "zeros"):
                line = {**style.LINES[g], "ls": "-" if start == "suited" else "--"}
                label = f"{style.NAMES[g]}, {'zeros' if start == 'zeros' else 'suited start'}"
                run = networks.trained(lab, name, g)[start].tuned(lab.late)
                style.draw_mean(panel, run.history.test_loss, label=label if panel is axes[1, 0] else None, **line)
        panel.set(ylabel="test loss (nats per example)", title=name)
        log_axis(panel.yaxis)
        style.epoch_axis(panel)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    report.save(figure, lab.out, "zero-init")
