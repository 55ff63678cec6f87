"""Every signal and gradient of a network beside other ways to find it: what `jaxnet check` prints."""

import dataclasses
from typing import Literal

import numpy as np

from jaxnet.experiment.commands.derivatives import EXAMPLES, Case, Row, derivatives
from jaxnet.experiment.console import packages
from jaxnet.experiment.console.errors import BadInput, Failure
from jaxnet.experiment.console.screen import fill, table
from jaxnet.experiment.networks.choices import Activation
from jaxnet.experiment.options.parse import parse

INPUTS = 3
MEANING = "max |by hand - other| / max |other|, other being"
LESSON = (4,)
DEEPER = ((5, 4), (8, 8, 8))
# float64 rounds at 1.1e-16 and float32 at 6e-8, and a few dozen roundings add up.
BOUNDS = {"float64": 1e-12, "float32": 1e-5}
# A step of 1e-6 leaves 1e-12 of truncation and 1e-10 of rounding, times the curvature.
DIFFERENCE_BOUND = 1e-6
# dZ of layer {0}, the last one, by the loss.
OUTPUTS = {
    "binary_cross_entropy": "dA{0} * A{0} (1 - A{0}), which is A{0} - Y",
    "sigmoid_binary_cross_entropy": "sigmoid(Z{0}) - Y",
    "softmax_cross_entropy": "softmax(Z{0}) - Y",
    "half_squared_error": "Z{0} - Y",
}


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
    values: bool = False
    """Print the numbers themselves too, of the first network, by hand and by jax.grad."""

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.hidden or ()):
            raise BadInput(f"--hidden: expected widths of at least 1, got {' '.join(map(str, self.hidden or ()))}")
        if self.seed < 0:
            raise BadInput(f"--seed: expected an integer of at least 0, got {self.seed}")


def main() -> None:
    """`check_gradients`, with this process's command line."""
    check_gradients(parse(CheckConfig))


def check_gradients(config: CheckConfig) -> None:
    """Prints a table for each network.

    Raises:
      Failure: when a difference is over its bound.
    """
    packages.require("rich")
    over = []
    bound = BOUNDS[config.dtype]
    limits = (bound, max(bound, DIFFERENCE_BOUND), bound)
    networks = (LESSON, *DEEPER) if config.hidden is None else (config.hidden,)
    for number, hidden in enumerate(networks):
        sizes = (INPUTS, *hidden, 3 if config.loss == "softmax_cross_entropy" else 1)
        # Exact arithmetic is slow: for the lesson's network, and for one that was asked for and is as small.
        exact = number == 0 and sum(hidden) <= 8
        name = f"{'-'.join(map(str, sizes))}, {config.activation}, {config.loss}"
        print(fill(f"{name}, {config.dtype}, {EXAMPLES} examples", hanging=2))
        case = Case(sizes, config.activation, config.loss, config.dtype, config.seed)
        rows = derivatives(case, exact=exact)
        if config.values and number == 0:
            _print_values(case, rows)
        print(fill(MEANING))
        print(f"{table(('', 'shape', 'jax.grad', 'differences', 'exact'), list(map(_cells, rows)), texts=2)}\n")
        for row in rows:
            worst = zip(row.off(), limits, strict=True)
            over += [f"{row.name} of {name}" for value, limit in worst if value is not None and not value <= limit]
    if over:
        raise Failure(f"over the bound: {', '.join(dict.fromkeys(over))}")
    print(fill(f"all within {bound:g} of jax.grad and of exact arithmetic, {DIFFERENCE_BOUND:g} of differences"))


def _cells(row):
    return row.name, str(row.hand.shape), *("" if value is None else f"{value:.1e}" for value in row.off())


def _print_values(case: Case, rows: list[Row]) -> None:
    """Every number of every row, by hand beside jax.grad."""
    print()
    print(fill("dA, dZ and dX are for each example, without 1/m, beside jax.grad of m J; dW and db beside that of J."))
    print(fill("difference: by hand - jax.grad, of the numbers as they are"))
    for row in rows:
        equation = _equation(row.name, case)
        print(f"\n{fill(f'{row.name} {row.hand.shape}: {equation}', hanging=2)}")
        numbers = [(list(index), row.hand[index], row.autodiff[index]) for index in np.ndindex(row.hand.shape)]
        cells = [(str(at), f"{hand:.12f}", f"{other:.12f}", f"{hand - other:.1e}") for at, hand, other in numbers]
        print(table(("", "by hand", "jax.grad", "difference"), cells))
    print()


def _equation(name, case):
    """As the lesson has it."""
    if name == "dX":
        return "dZ1 W1"
    kind, k = name[1], int(name[2:])
    if kind == "W":
        return f"(1/m) dZ{k}^T {f'A{k - 1}' if k > 1 else 'X'}"
    if kind == "b":
        return f"(1/m) sum of dZ{k} over the examples"
    if k < len(case.sizes) - 1:
        return f"dZ{k + 1} W{k + 1}" if kind == "A" else f"dA{k} * g'(Z{k})"
    return f"(A{k} - Y) / (A{k} (1 - A{k}))" if kind == "A" else OUTPUTS[case.loss].format(k)
