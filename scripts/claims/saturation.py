"""S14 (b): sigmoid and tanh learn slowly where |z| is large, and ReLU does not."""

import jax.numpy as jnp
import numpy as np
from benchmarks import report

from claims import networks, style
from claims.ensemble import Lab
from claims.networks import ACTIVATIONS, SHALLOW_NETWORKS
from claims.verdict import MARGIN, Claim, at_most, more, no_worse
from jaxnet.experiment.figures.canvas import log_axis

LARGE = "W1 x 10"
STARTS = ("suited", LARGE)
SHOWN = "digits, 64-32-10"
REACH = 15


def run(lab: Lab) -> Claim:
    """Compares the start that suits each activation with one whose first weights are ten times as large."""
    rows, slopes = [], {}
    for name, g in networks.all_trained(lab, SHALLOW_NETWORKS):
        slopes[name, g] = {start: networks.first_layer(lab, name, g, start)[1].mean(axis=(1, 2)) for start in STARTS}
        rows += [_slope_row(name, g, slopes[name, g]), *_loss_rows(lab, name, g)]
    _draw(lab, SHOWN)
    return Claim(
        name="saturation",
        source="S14 (b)",
        says="sigmoid and tanh learn slowly where |z| is large (large initial weights), and ReLU does not",
        equations=("dZ1 = dA1 * g'(Z1)", "sigmoid and tanh: g' -> 0 as |z| -> inf; ReLU: g' = 1 for every z > 0"),
        method=(
            "W1 starts ten times as large as suits the activation (He for ReLU, Glorot for the others), all else "
            "being equal. Two things are measured: the mean slope g'(Z1) at the start, and the training loss after "
            f"{lab.early} and {lab.late} epochs, each beside that of the suited start. For ReLU the claim is that "
            f"neither gets worse by more than {100 * MARGIN:.0f}%."
        ),
        rows=tuple(rows),
        why=_why(lab, slopes),
        figure="saturation",
        legend=(
            "Above: how Z1 is spread over the training part before training, with the slope g'(z) (black, right axis). "
            "Below: training loss against the epoch from both starts."
        ),
        rates={
            name: {
                g: networks.tuned_rates(lab, {start: networks.trained(lab, name, g)[start] for start in STARTS})
                for g in ACTIVATIONS
            }
            for name in SHALLOW_NETWORKS
        },
    )


def _why(lab, slopes):
    arms = {g: [networks.trained(lab, SHOWN, g)[start].tuned(lab.late) for start in STARTS] for g in ACTIVATIONS}
    slope = {g: [f"{of_start.mean():.2g}" for of_start in slopes[SHOWN, g].values()] for g in ACTIVATIONS}
    loss = {g: [f"{arm.history.train_loss[:, lab.late].mean():.2g}" for arm in of_g] for g, of_g in arms.items()}
    suited, large = (arm.rate for arm in arms["relu"])
    return (
        f"On digits the mean slope at the start goes from {_pairs(slope)}, as the lesson has it, and the training loss "
        f"after {lab.late} epochs from {_pairs(loss)}: ReLU keeps its slope, but its outputs grow with W1, and the "
        f"rate that suits it goes from {suited:g} to {large:g}."
    )


def _pairs(values):
    return ", ".join(f"{before} to {after} ({style.NAMES[g]})" for g, (before, after) in values.items())


def _slope_row(name, g, slope):
    lost = slope["suited"] - slope[LARGE]
    quantity = f"{style.NAMES[g]}: mean slope g'(Z1) lost at the start"
    if g == "relu":
        return at_most(name, quantity, lost, MARGIN * float(slope["suited"].mean()))
    return more(name, quantity, lost)


def _loss_rows(lab, name, g):
    runs = networks.trained(lab, name, g)
    for epochs in (lab.early, lab.late):
        suited, large = (runs[start].tuned(epochs).history.train_loss[:, epochs] for start in STARTS)
        where, quantity = f"{name}, {epochs} epochs", f"{style.NAMES[g]}: training loss, large W1 less suited (nats)"
        yield no_worse(where, quantity, large, suited) if g == "relu" else more(where, quantity, large - suited)


def _draw(lab, name):
    figure, panels = report.subplots(len(ACTIVATIONS), rows=2)
    bins = np.linspace(-REACH, REACH, 61)
    for (above, below), g in zip(panels.T, ACTIVATIONS, strict=True):
        for start, shade, label in (("suited", style.SHADES[0], "suited start"), (LARGE, style.SHADES[1], "W1 x 10")):
            z, _ = networks.first_layer(lab, name, g, start)
            kind = {"histtype": "stepfilled", "alpha": 0.8} if start == "suited" else {"histtype": "step", "lw": 1.8}
            percent = np.full(z.size, 100 / z.size)
            above.hist(z.ravel(), bins, weights=percent, color=shade, label=f"Z1, {label}", **kind)
            dash = "-" if start == "suited" else "--"
            runs = networks.trained(lab, name, g)[start].tuned(lab.late).history.train_loss
            style.draw_mean(below, runs, color=shade, ls=dash, label=f"loss, {label}", lw=1.8)
        slope = above.twinx()
        slope.plot(*_slope(g), color="black", lw=1.2, label="slope g'(z)")
        slope.set_ylim(0, 1.1)
        slope.spines["right"].set_visible(True)
        if above is panels[0, -1]:
            slope.set_ylabel("slope g'(z)")
        else:
            # The next panel's own label is there.
            slope.tick_params(labelright=False)
        above.set(xlabel="z", ylabel="share of Z1 (%)", title=style.NAMES[g])
        below.set_ylabel("training loss (nats)")
        log_axis(below.yaxis)
        style.epoch_axis(below)
    named = [axes.get_legend_handles_labels() for axes in (*panels[:, 0], slope)]
    lines = {label: handle for of in named for handle, label in zip(*of, strict=True)}
    figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(name)
    report.save(figure, lab.out, "saturation")


def _slope(g):
    z = jnp.linspace(-REACH, REACH, 601)
    _, cache = ACTIVATIONS[g].forward((), z)
    _, slope = ACTIVATIONS[g].backward((), cache, jnp.ones_like(z))
    # Nothing is drawn across ReLU's jump.
    return z, np.where(np.asarray(z) == 0, np.nan, slope) if g == "relu" else slope
