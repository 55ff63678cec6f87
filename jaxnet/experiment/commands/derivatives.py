"""Every signal and gradient of a network, by hand and in other ways."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import activations, losses, per_example
from jaxnet.compose import chain, signals
from jaxnet.experiment.commands.exact import exact_gradients
from jaxnet.layer import Layer
from jaxnet.layers.dense import dense

EXAMPLES = 5
# Of the central differences.
STEP = 1e-6


class Case(NamedTuple):
    """What is differentiated.

    Attributes:
      sizes: inputs, hidden widths, outputs.
      activation, loss: by name.
      dtype: of the hand-derived pass.
      seed: of parameters, inputs and targets.
    """

    sizes: tuple[int, ...]
    activation: str
    loss: str
    dtype: str
    seed: int


class Row(NamedTuple):
    """A signal or gradient in several ways: its name and its values; exact is None where they were not worked out."""

    name: str
    hand: np.ndarray
    autodiff: np.ndarray
    differences: np.ndarray
    exact: np.ndarray | None

    def off(self) -> tuple[float | None, ...]:
        """The largest |hand - other|, relative to the largest |other|, for each of the others."""
        return tuple(None if other is None else _difference(self.hand, other) for other in self[2:])


def derivatives(case: Case, *, exact: bool) -> list[Row]:
    """All of them, from the output to the input; by exact arithmetic too, which is slow, where that is asked for."""
    net, names = _network(case)
    loss = getattr(losses, case.loss)
    with jax.enable_x64(True):
        params, x, y = _draw(case, net)
        by_hand = _by_hand(net, loss, names, *_cast((params, x, y), case.dtype))
        rest = _Rest(net, loss, names, params, x, y)
        starts = {name: rest.start(name) for name in by_hand}
        # Compiling takes most of the time: all at once, and without optimising what runs once.
        compiled = jax.jit(rest.gradients, compiler_options={"xla_backend_optimization_level": 0})
        by_autodiff, by_differences = jax.device_get(compiled(starts))
        exactly = exact_gradients(case.activation, case.loss, params, x, y) if exact else {}
    return [
        Row(name, hand, by_autodiff[name], by_differences[name], exactly.get(name)) for name, hand in by_hand.items()
    ]


class _Rest(NamedTuple):
    """The loss as a function of one intermediate value or parameter, the others being what they are."""

    net: Layer
    loss: losses.Loss
    names: tuple[str, ...]
    params: Any
    x: jax.Array
    y: jax.Array

    def start(self, name: str) -> jax.Array:
        """The value itself."""
        if name in self.names:
            edge = self.names.index(name)
            return chain(*self.layers[:edge]).apply(self.params[:edge], self.x)
        position, leaf = _parameter(name)
        return getattr(self.params[position], leaf)

    def function(self, name: str) -> Callable[[jax.Array], jax.Array]:
        """m J as a function of a signal's value, J as a function of a parameter."""
        if name in self.names:
            edge = self.names.index(name)
            after = chain(*self.layers[edge:])
            return lambda a: self.loss.forward(after.apply(self.params[edge:], a), self.y).sum()
        position, leaf = _parameter(name)

        def mean_loss(value):
            changed = self.params[position]._replace(**{leaf: value})
            params = (*self.params[:position], changed, *self.params[position + 1 :])
            return self.loss.forward(self.net.apply(params, self.x), self.y).mean()

        return mean_loss

    def gradients(self, starts: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """Of each by `jax.grad`, and by central differences."""
        by_autodiff = {name: jax.grad(self.function(name))(start) for name, start in starts.items()}
        return by_autodiff, {name: _differences(self.function(name), start) for name, start in starts.items()}

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Those of the chain."""
        (layers,) = self.net.forward.args  # type: ignore[attr-defined]
        return layers


def _network(case):
    """The network, and the names of the signals at its edges, from the input to the output."""
    made = getattr(activations, case.activation)
    # Some have an option, such as leaky_relu.
    activation = made if isinstance(made, Layer) else made()
    layers, names = [], ["dX"]
    for number, (inputs, outputs) in enumerate(pairwise(case.sizes), start=1):
        layers.append(dense(inputs, outputs))
        names.append(f"dZ{number}")
        last = number == len(case.sizes) - 1
        if not last or case.loss == "binary_cross_entropy":
            layers.append(activations.sigmoid if last else activation)
            names.append(f"dA{number}")
    return chain(*layers), tuple(names)


def _parameter(name):
    """Where 'dW2' is: in the third layer of the chain, since an activation follows every dense layer."""
    return 2 * (int(name[2:]) - 1), name[1]


def _draw(case, net):
    rng = np.random.default_rng(case.seed)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape) / leaf.shape[-1] ** 0.5, shapes)
    x = rng.standard_normal((EXAMPLES, case.sizes[0]))
    y = rng.standard_normal((EXAMPLES, case.sizes[-1]))
    if case.loss != "half_squared_error":
        y = (
            np.eye(case.sizes[-1])[rng.integers(0, case.sizes[-1], EXAMPLES)]
            if case.sizes[-1] > 1
            else (y > 0).astype(float)
        )
    # Values that float32 has too, so that every column is about the same point.
    return jax.tree.map(lambda leaf: jnp.asarray(leaf.astype(np.float32), np.float64), (params, x, y))


def _by_hand(net, loss, names, params, x, y):
    """Every signal and gradient by name, from the output to the input."""
    z, cache = net.forward(params, x)
    dz = loss.backward(z, y)
    dparams, _ = net.backward(params, cache, dz)
    edges = dict(zip(names, signals(net, params, cache, dz), strict=True))
    grads = per_example.mean(dparams)
    found = {}
    for name in reversed(names):
        found[name] = edges[name]
        if name.startswith("dZ"):
            for leaf in "Wb":
                position, _ = _parameter(f"dW{name[2:]}")
                found[f"d{leaf}{name[2:]}"] = getattr(grads[position], leaf)
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def _differences(function, start):
    steps = STEP * jnp.eye(start.size).reshape(start.size, *start.shape)
    slope = jax.vmap(lambda step: (function(start + step) - function(start - step)) / (2 * STEP))
    return slope(steps).reshape(start.shape)


def _difference(hand, other):
    other = np.asarray(other, np.float64)
    return float(np.abs(hand - other).max() / (np.abs(other).max() or 1.0))


def _cast(tree, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)
