"""S4: each activation and its derivative."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks import report

from claims import style
from claims.ensemble import Lab
from claims.verdict import Claim, at_most
from jaxnet.layer import Layer
from jaxnet.layers import activations

LAYERS: dict[str, Layer] = {
    "sigmoid": activations.sigmoid,
    "tanh": activations.tanh,
    "relu": activations.relu,
    "leaky_relu": activations.leaky_relu(0.01),
}
EQUATIONS = {
    "sigmoid": "sigmoid: g = 1 / (1 + e^-z), g' = a (1 - a)",
    "tanh": "tanh: g = (e^z - e^-z) / (e^z + e^-z), g' = 1 - a^2",
    "relu": "ReLU: g = max(0, z), g' = 1 for z > 0, 0 for z < 0; at 0 we take 0",
    "leaky_relu": "leaky ReLU: g = z for z > 0, lambda z else, g' = 1 or lambda; lambda = 0.01",
}
POINTS, SPREAD = 10_000, 3.0
# float64 rounds slopes up to 1 at 1.1e-16, a few times over.
EXACT = 1e-15
# Differences over 1e-6 err by 1e-10 from rounding and 1e-12 from truncation.
STEP, NEAR = 1e-6, 1e-9


def run(lab: Lab) -> Claim:
    """Compares each g' with jax.grad and with central differences, at random z, and draws g beside g'."""
    lab.show("slopes of the activations")
    rows = []
    for g, layer in LAYERS.items():
        apart = np.array([_apart(layer, seed) for seed in range(lab.seeds)])
        where = f"{POINTS} draws of z ~ N(0, {SPREAD:g}^2)"
        rows.append(at_most(where, f"{style.NAMES[g]}: largest difference of g' from jax.grad", apart[:, 0], EXACT))
        rows.append(
            at_most(where, f"{style.NAMES[g]}: largest difference of g' from central differences", apart[:, 1], NEAR)
        )
    _draw(lab)
    return Claim(
        name="activations",
        source="S4",
        says="the derivatives of the activations are a (1 - a), 1 - a^2, and 1 or 0 (or lambda)",
        equations=tuple(EQUATIONS.values()),
        method=(
            "In float64: the slope that our backward pass multiplies a signal by, beside jax.grad and central "
            "differences."
        ),
        rows=tuple(rows),
        why="Each slope is a function of the output a alone, which the forward pass has kept anyway.",
        figure="activations",
        legend="Left g, right g'; at the kink of ReLU and leaky ReLU the dot is the slope we take.",
        rates={},
    )


def _slope(layer, z):
    """g'(z): what comes back for a signal of ones."""
    _, cache = layer.forward((), z)
    _, slope = layer.backward((), cache, jnp.ones_like(z))
    return slope


def _apart(layer: Layer, seed: int) -> tuple[float, float]:
    """Of g' by hand: the largest differences from jax.grad and from central differences."""
    with jax.enable_x64(True):
        z = SPREAD * jax.random.normal(jax.random.key(seed), (POINTS,), jnp.float64)
        # Differences across a kink are no derivative.
        z = jnp.where(jnp.abs(z) < 2 * STEP, jnp.ones_like(z), z)
        by_hand = _slope(layer, z)
        by_autodiff = jax.grad(lambda z: layer.apply((), z).sum())(z)
        by_differences = (layer.apply((), z + STEP) - layer.apply((), z - STEP)) / (2 * STEP)
        return float(jnp.abs(by_hand - by_autodiff).max()), float(jnp.abs(by_hand - by_differences).max())


def _draw(lab):
    figure, panels = report.subplots(2, rows=len(LAYERS), figsize=(8.2, 10.4), sharex=True)
    z = np.linspace(-5, 5, 1001, dtype=np.float32)
    for (left, right), (g, layer) in zip(panels, LAYERS.items(), strict=True):
        line: dict[str, Any] = {"color": style.LINES[g]["color"], "lw": 2}
        left.plot(z, layer.apply((), jnp.asarray(z)), **line)
        slope = np.asarray(_slope(layer, jnp.asarray(z)))
        if "relu" in g:
            # A jump, not a steep line: nothing is drawn across it.
            right.plot(z, np.where(z == 0, np.nan, slope), **line)
            right.plot(0, slope[z == 0], "o", color=line["color"], ms=6)
        else:
            right.plot(z, slope, **line)
        left.set(ylabel="a = g(z)", title=f"{style.NAMES[g]}: g")
        right.set(ylabel="da/dz = g'(z)", ylim=(-0.08, 1.12), title=f"{style.NAMES[g]}: g'")
        left.axhline(0, color="black", lw=0.6)
        left.axvline(0, color="black", lw=0.6)
        right.axvline(0, color="black", lw=0.6)
    for axes in panels[-1]:
        axes.set_xlabel("z")
    report.save(figure, lab.out, "activations")
