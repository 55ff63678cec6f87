"""Every signal and gradient of a network beside other ways to find it: what `scripts/check_gradients.py` prints."""

import dataclasses
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import activations, losses, per_example
from jaxnet.compose import chain, signals
from jaxnet.experiment.config import Activation
from jaxnet.experiment.errors import BadInput, Failure
from jaxnet.experiment.exact import exact_gradients
from jaxnet.layer import Layer
from jaxnet.layers.dense import dense

EXAMPLES, INPUTS = 5, 3
LESSON = (4,)
DEEPER = ((5, 4), (8, 8, 8))
# float64 rounds at 1.1e-16 and float32 at 6e-8, and a few dozen roundings add up.
BOUNDS = {"float64": 1e-12, "float32": 1e-5}
# A step of 1e-6 leaves 1e-12 of truncation and 1e-10 of rounding, times the curvature.
STEP, DIFFERENCE_BOUND = 1e-6, 1e-6


@dataclasses.dataclass(frozen=True)
class CheckConfig:
    """Check every intermediate of the hand-derived backward pass against jax.grad, differences and exact arithmetic."""

    hidden: tuple[int, ...] | None = None
    """Neurons of each hidden layer; by default the lesson's 4, then a few deeper networks."""
    activation: Activation = "tanh"
    """After each hidden layer."""
    loss: Literal[
        "binary_cross_entropy", "sigmoid_binary_cross_entropy", "softmax_cross_entropy", "half_squared_error"
    ] = "binary_cross_entropy"
    """binary_cross_entropy is the lesson's, behind a sigmoid: it has a dA at the output."""
    dtype: Literal["float64", "float32"] = "float64"
    """Of the hand-derived pass; what it is compared with is in float64, or exact."""
    seed: int = 0
    """Of parameters, inputs and targets."""

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.hidden or ()):
            raise BadInput(f"--hidden: expected widths of at least 1, got {' '.join(map(str, self.hidden or ()))}")
        if self.seed < 0:
            raise BadInput(f"--seed: expected an integer of at least 0, got {self.seed}")


class Row(NamedTuple):
    """A signal or gradient: its name, shape, and relative differences; exact is None where it was not worked out."""

    name: str
    shape: tuple[int, ...]
    autodiff: float
    differences: float
    exact: float | None


def check_gradients(config: CheckConfig) -> None:
    """Prints a table for each network.

    Raises:
      Failure: when a difference is over its bound.
    """
    over = []
    networks = (LESSON, *DEEPER) if config.hidden is None else (config.hidden,)
    for number, hidden in enumerate(networks):
        sizes = (INPUTS, *hidden, 3 if config.loss == "softmax_cross_entropy" else 1)
        # Exact arithmetic is slow: for the lesson's network, and for one that was asked for and is as small.
        exact = number == 0 and sum(hidden) <= 8
        name = f"{'-'.join(map(str, sizes))}, {config.activation}, {config.loss}"
        print(f"{name}, {config.dtype}, {EXAMPLES} examples")
        print(f"{'':8}{'shape':>10}{'jax.grad':>12}{'differences':>14}{'exact':>12}")
        for row in table(config, sizes, exact=exact):
            print(_line(row))
            bound = BOUNDS[config.dtype]
            limits = (bound, max(bound, DIFFERENCE_BOUND), bound)
            worst = zip(row[2:], limits, strict=True)
            over += [f"{row.name} of {name}" for value, limit in worst if value is not None and not value <= limit]
        print()
    if over:
        raise Failure(f"over the bound: {', '.join(dict.fromkeys(over))}")
    print(
        f"all within {BOUNDS[config.dtype]:g} of jax.grad and of exact arithmetic, {DIFFERENCE_BOUND:g} of differences"
    )


def table(config: CheckConfig, sizes: tuple[int, ...], *, exact: bool) -> Iterator[Row]:
    """The rows for one network, from the output to the input."""
    net, names = _network(config, sizes)
    loss = getattr(losses, config.loss)
    with jax.enable_x64(True):
        params, x, y = _draw(config, net, sizes)
        by_hand = _by_hand(net, loss, names, *_cast((params, x, y), config.dtype))
        rest = _Rest(net, loss, names, params, x, y)
        starts = {name: rest.start(name) for name in by_hand}
        # All in one compilation, which takes most of the time.
        # Compiling takes most of the time: all at once, and without optimising what runs once.
        compiled = jax.jit(rest.gradients, compiler_options={"xla_backend_optimization_level": 0})
        by_autodiff, by_differences = compiled(starts)
        exactly = exact_gradients(config.activation, config.loss, params, x, y) if exact else {}
    for name, hand in by_hand.items():
        yield Row(
            name,
            hand.shape,
            _difference(hand, by_autodiff[name]),
            _difference(hand, by_differences[name]),
            _difference(hand, exactly[name]) if exact else None,
        )


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


def _network(config, sizes):
    """The network, and the names of the signals at its edges, from the input to the output."""
    activation = (
        activations.leaky_relu() if config.activation == "leaky_relu" else getattr(activations, config.activation)
    )
    layers, names = [], ["dX"]
    for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        layers.append(dense(inputs, outputs))
        names.append(f"dZ{number}")
        last = number == len(sizes) - 1
        if not last or config.loss == "binary_cross_entropy":
            layers.append(activations.sigmoid if last else activation)
            names.append(f"dA{number}")
    return chain(*layers), tuple(names)


def _parameter(name):
    """Where 'dW2' is: in the third layer of the chain, since an activation follows every dense layer."""
    return 2 * (int(name[2:]) - 1), name[1]


def _draw(config, net, sizes):
    rng = np.random.default_rng(config.seed)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape) / leaf.shape[-1] ** 0.5, shapes)
    x = rng.standard_normal((EXAMPLES, sizes[0]))
    y = rng.standard_normal((EXAMPLES, sizes[-1]))
    if config.loss != "half_squared_error":
        y = np.eye(sizes[-1])[rng.integers(0, sizes[-1], EXAMPLES)] if sizes[-1] > 1 else (y > 0).astype(float)
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


def _line(row):
    exact = "" if row.exact is None else f"{row.exact:.1e}"
    return f"{row.name:8}{row.shape!s:>10}{row.autodiff:>12.1e}{row.differences:>14.1e}{exact:>12}"
