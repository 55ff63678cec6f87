"""Gradients in decimal arithmetic of 80 digits, by differences alone: no derivative is written down here."""

from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

DIGITS = 80
# Central differences err by the step squared: 1e-50.
STEP = Decimal(10) ** -25

Vector = list[Decimal]


def exact_gradients(activation: str, loss: str, params: Any, x: Any, y: Any) -> dict[str, np.ndarray]:
    """Every signal (of m J) and every gradient (of J) of a network of dense layers, by name: 'dZ1', 'dW1', ...

    Args:
      activation: after each hidden layer.
      loss: 'binary_cross_entropy' stands behind a sigmoid; the others take z.
      params: of a chain in which an activation follows each dense layer.
      x, y: inputs and targets (m, ...).
    """
    with localcontext() as context:
        context.prec = DIGITS
        dense = [layer for layer in params if layer != ()]
        values = {f"W{n}": _decimals(layer.W) for n, layer in enumerate(dense, 1)}
        values |= {f"b{n}": _decimals(layer.b) for n, layer in enumerate(dense, 1)}
        inputs, targets = _decimals(x), _decimals(y)
        outcomes = {}
        names = [(name, None) for name in values] + [("X", "signal")]
        for n in range(1, len(dense) + 1):
            names += [(f"Z{n}", "signal")]
            if n < len(dense) or loss == "binary_cross_entropy":
                names += [(f"A{n}", "signal")]
        for name, signal in names:
            shape = values[name].shape if signal is None else (len(inputs), _width(name, values, inputs))
            slopes = np.empty(shape)
            for index in np.ndindex(*shape):
                plus, minus = (
                    _total_loss((name, index, step), activation, loss, values, inputs, targets)
                    for step in (STEP, -STEP)
                )
                slope = (plus - minus) / (2 * STEP)
                slopes[index] = slope if signal else slope / len(inputs)
            outcomes[f"d{name}"] = slopes
    return outcomes


def _width(name, values, inputs):
    return inputs.shape[1] if name == "X" else len(values[f"b{name[1:]}"])


def _total_loss(moved, activation, loss, values, inputs, targets):
    """m J with one number moved: an element of a parameter, or of an intermediate value."""
    name, index, step = moved
    if name in values:
        values = values | {name: values[name].copy()}
        values[name][index] += step
    layers = len(values) // 2
    total = Decimal(0)
    for example, target in enumerate(targets):
        # A change in another example's intermediate value leaves this one's loss as it is, in both directions.
        if name not in values and index[0] != example:
            continue

        def after(what: str, vector: Vector, example: int = example) -> Vector:
            if what == name and index[0] == example:
                vector = [v + step if k == index[1] else v for k, v in enumerate(vector)]
            return vector

        a = after("X", list(inputs[example]))
        for n in range(1, layers + 1):
            W, b = values[f"W{n}"], values[f"b{n}"]
            z = [sum((w * v for w, v in zip(row, a, strict=True)), bias) for row, bias in zip(W, b, strict=True)]
            a = after(f"Z{n}", z)
            if n < layers or loss == "binary_cross_entropy":
                g = ACTIVATIONS[activation if n < layers else "sigmoid"]
                a = after(f"A{n}", [g(v) for v in a])
        total += LOSSES[loss](a, list(target))
    return total


def _decimals(array):
    """The numbers themselves: every binary fraction is a decimal one."""
    array = np.asarray(array, np.float64)
    return np.array([Decimal(float(v)) for v in array.ravel()], dtype=object).reshape(array.shape)


def _sigmoid(z: Decimal) -> Decimal:
    return 1 / (1 + (-z).exp())


def _tanh(z: Decimal) -> Decimal:
    return 2 * _sigmoid(2 * z) - 1


def _softplus(z: Decimal) -> Decimal:
    return (1 + z.exp()).ln()


def _elu(z: Decimal) -> Decimal:
    return z if z > 0 else z.exp() - 1


def _selu(z: Decimal) -> Decimal:
    scale, alpha = map(Decimal.from_float, (1.0507009873554805, 1.6732632423543772))
    return scale * (z if z > 0 else alpha * (z.exp() - 1))


def _gelu(z: Decimal) -> Decimal:
    """z (1/2 + f(z) (z + z^3 / 3 + z^5 / (3 5) + ...)) with the normal density f: all terms have the sign of z."""
    term = total = z
    odd = 1
    while total and abs(term / total) > Decimal(10) ** -DIGITS:
        odd += 2
        term *= z * z / odd
        total += term
    return z * (Decimal("0.5") + total * (-z * z / 2).exp() / (2 * _pi()).sqrt())


def _gelu_tanh(z: Decimal) -> Decimal:
    return z * _sigmoid((8 / _pi()).sqrt() * (z + Decimal.from_float(0.044715) * z**3))


def _pi() -> Decimal:
    """16 arctan(1/5) - 4 arctan(1/239). Source: Machin, 1706."""

    def arctan(n):
        terms = (Decimal((-1) ** k) / ((2 * k + 1) * Decimal(n) ** (2 * k + 1)) for k in range(DIGITS))
        return sum(terms, Decimal(0))

    return 16 * arctan(5) - 4 * arctan(239)


ACTIVATIONS: dict[str, Callable[[Decimal], Decimal]] = {
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "relu": lambda z: max(z, Decimal(0)),
    "leaky_relu": lambda z: z if z > 0 else z * Decimal.from_float(0.01),
    "elu": _elu,
    "selu": _selu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": lambda z: z * _sigmoid(z),
    "softplus": _softplus,
    "hard_tanh": lambda z: max(Decimal(-1), min(Decimal(1), z)),
    "softsign": lambda z: z / (1 + abs(z)),
    "log_sigmoid": lambda z: -_softplus(-z),
    "identity": lambda z: z,
}


def _binary_cross_entropy(a: Vector, y: Vector) -> Decimal:
    return -sum((t * v.ln() + (1 - t) * (1 - v).ln() for v, t in zip(a, y, strict=True)), Decimal(0))


def _softmax_cross_entropy(z: Vector, y: Vector) -> Decimal:
    normaliser = sum((v.exp() for v in z), Decimal(0)).ln()
    return sum((t * (normaliser - v) for v, t in zip(z, y, strict=True)), Decimal(0))


LOSSES: dict[str, Callable[[Vector, Vector], Decimal]] = {
    "binary_cross_entropy": _binary_cross_entropy,
    "sigmoid_binary_cross_entropy": lambda z, y: _binary_cross_entropy([_sigmoid(v) for v in z], y),
    "softmax_cross_entropy": _softmax_cross_entropy,
    "half_squared_error": lambda z, y: sum(((v - t) ** 2 / 2 for v, t in zip(z, y, strict=True)), Decimal(0)),
}
