"""S6, S14 (f): without hidden activations the network is one linear map, and no better than a linear model."""

from collections.abc import Iterable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks import report

from claims import ensemble, networks, style
from claims.ensemble import Lab, Runs, Task
from claims.verdict import MARGIN, Claim, at_most, more, no_worse
from jaxnet import activations
from jaxnet.compose import chain
from jaxnet.layer import Layer
from jaxnet.layers.dense import Dense, dense
from jaxnet.networks import mlp

# Hidden neurons, and epochs in units of the late ones: in the plane a straight boundary is not enough.
SETTINGS = {"digits": (32, 1), "moons": (16, 7), "spirals": (32, 14)}
ARMS = ("linear model", "without activation", "tanh")
# float64 rounds at 1.1e-16; a few dozen terms in another order differ by a few of those.
EXACT = 1e-13
LINES = {
    "linear model": {"color": "black", "ls": "-", "marker": None},
    "without activation": style.LINES["none"],
    "tanh": style.LINES["tanh"],
}


def run(lab: Lab) -> Claim:
    """Collapses trained networks without hidden activations, and trains linear models and tanh beside them."""
    runs = all_trained(lab, SETTINGS)
    rows: list[Any] = []
    for name in SETTINGS:
        on = ensemble.task(name, lab.seeds)
        hidden, epochs = schedule(lab, name)
        where = f"{name}, {on.features}-{hidden}-{on.outputs}, {epochs} epochs"
        deep = runs[name]["without activation"].tuned()
        rows.append(at_most(where, "largest |f(x) - (W' x + b')|, relative", _collapse_error(deep, on), EXACT))
        loss = {arm: run.tuned().history.test_loss[:, -1] for arm, run in runs[name].items()}
        quantity = "test loss, linear model less network without activation (nats)"
        rows.append(no_worse(where, quantity, loss["linear model"], loss["without activation"]))
        rows.append(
            more(
                where,
                "test loss, network without activation less with tanh (nats)",
                loss["without activation"] - loss["tanh"],
            )
        )
    _draw(lab, runs)
    return Claim(
        name="linear-collapse",
        source="S6, S14 (f)",
        says="without hidden activations the network is one linear map, and no better than a linear model",
        equations=("W2 (W1 x + b1) + b2 = W' x + b'", "W' = W2 W1, b' = W2 b1 + b2"),
        method=(
            "Each trained network without hidden activation is collapsed to W', b' and compared in float64 on the "
            f"test part; a linear model, trained the same way, may be no more than {100 * MARGIN:.0f}% worse; and "
            "tanh is put in to see what an activation adds."
        ),
        rows=tuple(rows),
        why=(
            "The collapse is exact, so two layers without an activation between them can say no more than one, "
            "whatever their width: on spirals "
            + ", ".join(f"{100 * _accuracy(run):.0f}% ({arm})" for arm, run in runs["spirals"].items())
            + " of the test part, on digits, which are nearly linearly separable, "
            + ", ".join(f"{100 * _accuracy(run):.1f}% ({arm})" for arm, run in runs["digits"].items())
            + "."
        ),
        figure="linear-collapse",
        legend="Test accuracy against the epoch; bands are 95% intervals over the seeds.",
        rates={name: {arm: run.tuned().rate for arm, run in arms.items()} for name, arms in runs.items()},
    )


def schedule(lab: Lab, name: str) -> tuple[int, int]:
    """Hidden neurons and epochs."""
    hidden, times = SETTINGS[name]
    return hidden, times * lab.late


def all_trained(lab: Lab, names: Iterable[str]) -> dict[str, dict[str, Runs]]:
    """The three arms on those of `SETTINGS`; seen are the parameters after each epoch, where there are few of them."""
    names = tuple(names)
    runs = ensemble.together({(name, arm): partial(_trained, lab, name, arm) for name in names for arm in ARMS})
    return {name: {arm: runs[name, arm] for arm in ARMS} for name in names}


@cache
def _trained(lab: Lab, name: str, arm: str) -> Runs:
    if (name, arm) == ("digits", "tanh"):
        return networks.trained(lab, "digits, 64-32-10", "tanh")["suited"]
    hidden, epochs = schedule(lab, name)
    on = ensemble.task(name, lab.seeds)
    sizes = (on.features, hidden, on.outputs)
    nets: dict[str, Layer] = {
        "linear model": mlp((sizes[0], sizes[-1])),
        "without activation": mlp(sizes, activations.identity),
        "tanh": mlp(sizes, activations.tanh),
    }
    starts = {"start": ensemble.start(nets[arm], lab.seeds)}
    observe = _parameters if on.features == 2 else ensemble.nothing
    what = f"{'-'.join(map(str, sizes))}, {arm}"
    return ensemble.fit(lab, what, nets[arm], on, starts, epochs=epochs, observe=observe)["start"]


def _parameters(params, x):
    return params


def _accuracy(runs):
    return float(runs.tuned().history.test_accuracy[:, -1].mean())


def collapsed(params: Any) -> Dense:
    """W' = W2 W1, b' = W2 b1 + b2, of a network of two dense layers with nothing between them."""
    first, second = params
    return Dense(W=second.W @ first.W, b=second.W @ first.b + second.b)


def _collapse_error(run: Any, on: Task) -> np.ndarray:
    """The largest difference over the test part, in units of the largest output, for each seed."""
    with jax.enable_x64(True):
        params, x = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (run.params, on.test.x))

        @jax.vmap
        def error(params, x):
            net = chain(*(dense(layer.W.shape[1], layer.W.shape[0]) for layer in params))
            z = net.apply(params, x)
            line = collapsed(params)
            return jnp.abs(z - (x @ line.W.T + line.b[None])).max() / jnp.abs(z).max()

        return np.asarray(error(params, x))


def _draw(lab, runs):
    figure, panels = report.subplots(len(runs))
    for axes, (name, arms) in zip(panels, runs.items(), strict=True):
        for arm in ARMS:
            history = 100 * np.asarray(arms[arm].tuned().history.test_accuracy)
            label = arm if axes is panels[0] else None
            style.draw_mean(axes, history, each=max(1, history.shape[1] // 8), label=label, **LINES[arm])
        axes.set(ylabel="test accuracy (%)", title=name)
        style.epoch_axis(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    report.save(figure, lab.out, "linear-collapse")
