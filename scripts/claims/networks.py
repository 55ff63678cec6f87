"""The networks that several claims look at: each activation from each start, trained once."""

from collections.abc import Iterable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np

from claims import ensemble
from claims.ensemble import Lab, Runs, Task
from jaxnet import activations, initializers
from jaxnet.layer import Layer
from jaxnet.networks import mlp

ACTIVATIONS = {"sigmoid": activations.sigmoid, "tanh": activations.tanh, "relu": activations.relu}
UNSCALED = jax.nn.initializers.normal(1.0)
# Which starts are compared where; 'suited' is He for ReLU and Glorot elsewhere.
SHALLOW = ("suited", "0.01", "1", "zeros", "W1 x 10")
DEEP = ("suited", "0.01", "1")


class Network(NamedTuple):
    """Data, hidden widths, and the starts that are tried."""

    data: str
    hidden: tuple[int, ...]
    starts: tuple[str, ...]

    def sizes(self, on: Task) -> tuple[int, ...]:
        """Of all layers."""
        return (on.features, *self.hidden, on.outputs)


NETWORKS = {
    "digits, 64-32-10": Network("digits", (32,), SHALLOW),
    "digits, 64-32-32-32-10": Network("digits", (32, 32, 32), DEEP),
    "breast cancer, 30-16-1": Network("breast_cancer", (16,), SHALLOW),
}
SHALLOW_NETWORKS = tuple(name for name, network in NETWORKS.items() if network.starts == SHALLOW)


@cache
def trained(lab: Lab, name: str, activation: str) -> dict[str, Runs]:
    """One of `NETWORKS` with one of `ACTIVATIONS`, by start."""
    network, g = NETWORKS[name], ACTIVATIONS[activation]
    on = ensemble.task(network.data, lab.seeds)
    sizes = network.sizes(on)
    starts = {start: begin(start, sizes, g, lab.seeds) for start in network.starts}
    return ensemble.fit(lab, f"{'-'.join(map(str, sizes))}, {activation}", mlp(sizes, g), on, starts, epochs=lab.late)


def all_trained(lab: Lab, names: Iterable[str]) -> dict[tuple[str, str], dict[str, Runs]]:
    """Those of that name with every activation, by both."""
    return ensemble.together({(name, g): partial(trained, lab, name, g) for name in names for g in ACTIVATIONS})


def begin(start: str, sizes: tuple[int, ...], g: Layer, seeds: int) -> Any:
    """Initial parameters for each seed, (seeds, ...)."""
    inits = {"0.01": initializers.small_normal, "1": UNSCALED, "zeros": initializers.zeros}
    params = ensemble.start(mlp(sizes, g, weight_init=inits.get(start)), seeds)
    if start == "W1 x 10":
        params = (params[0]._replace(W=10 * params[0].W), *params[1:])
    return params


def first_layer(lab: Lab, name: str, activation: str, start: str) -> tuple[np.ndarray, np.ndarray]:
    """Z1 and g'(Z1) of the training part before training, (seeds, m, neurons) each."""
    network, g = NETWORKS[name], ACTIVATIONS[activation]
    on = ensemble.task(network.data, lab.seeds)
    params = begin(start, network.sizes(on), g, lab.seeds)

    @jax.vmap
    def slopes(dense, x):
        z = x @ dense.W.T + dense.b[None]
        _, cache = g.forward((), z)
        # A signal of ones comes back as g'.
        _, slope = g.backward((), cache, jax.numpy.ones_like(z))
        return z, slope

    return jax.device_get(slopes(params[0], on.train.x))


def tuned_rates(lab: Lab, runs: dict[str, Any]) -> dict[str, Any]:
    """The learning rates that were chosen, by arm and by when they are compared."""
    return {
        arm: {f"after {epochs} epochs": run.tuned(epochs).rate for epochs in (lab.early, lab.late)}
        for arm, run in runs.items()
    }
