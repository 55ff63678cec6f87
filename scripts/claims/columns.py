"""The lesson's own form, samples as columns, in plain NumPy; and that it gives the numbers of our rows."""

from typing import Any

import jax
import numpy as np

from jaxnet import losses, per_example
from jaxnet.compose import chain, signals
from jaxnet.layers import activations
from jaxnet.layers.dense import dense

EXAMPLES = 200


def shallow_network_in_columns(
    W1: np.ndarray, b1: np.ndarray, W2: np.ndarray, b2: np.ndarray, X: np.ndarray, Y: np.ndarray
) -> dict[str, Any]:
    """S3, S8 and S9 as the lesson writes them: samples as columns, X (n_x, m), b (n, 1); tanh, then sigmoid."""
    m = X.shape[1]
    Z1 = W1 @ X + b1
    A1 = np.tanh(Z1)
    Z2 = W2 @ A1 + b2
    A2 = 1 / (1 + np.exp(-Z2))
    J = -np.mean(Y * np.log(A2) + (1 - Y) * np.log(1 - A2))
    dA2 = (A2 - Y) / (A2 * (1 - A2))
    dZ2 = A2 - Y
    dW2 = dZ2 @ A1.T / m
    db2 = dZ2.sum(axis=1, keepdims=True) / m
    dA1 = W2.T @ dZ2
    dZ1 = dA1 * (1 - A1**2)
    dW1 = dZ1 @ X.T / m
    db1 = dZ1.sum(axis=1, keepdims=True) / m
    return {
        "Z1": Z1, "A1": A1, "Z2": Z2, "A2": A2, "J": J, "dA2": dA2, "dZ2": dZ2, "dW2": dW2,
        "db2": db2, "dA1": dA1, "dZ1": dZ1, "dW1": dW1, "db1": db1,
    }  # fmt: skip


def shallow_network_in_rows(params: Any, x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    """The same names from `chain(dense, tanh, dense, sigmoid)`: samples as rows, x (m, n_x), y (m, 1), b (n,)."""
    (first, _, second, _) = params
    hidden, output = (dense(layer.W.shape[1], layer.W.shape[0]) for layer in (first, second))
    net, loss = chain(hidden, activations.tanh, output, activations.sigmoid), losses.binary_cross_entropy
    A2, cache = net.forward(params, x)
    _, A1, _, _ = cache
    dA2 = loss.backward(A2, y)
    dparams, _ = net.backward(params, cache, dA2)
    _, dZ1, dA1, dZ2, _ = signals(net, params, cache, dA2)
    dfirst, _, dsecond, _ = per_example.mean(dparams)
    return {
        "Z1": hidden(first, x), "A1": cache[2], "Z2": output(second, A1), "A2": A2,
        "J": loss.forward(A2, y).mean(), "dA2": dA2, "dZ2": dZ2, "dW2": dsecond.W, "db2": dsecond.b,
        "dA1": dA1, "dZ1": dZ1, "dW1": dfirst.W, "db1": dfirst.b,
    }  # fmt: skip


def in_rows(name: str, value: Any) -> Any:
    """A value of the columns form as rows: parameters W keep their layout, b loses an axis, all else is transposed."""
    if name[-2:-1] == "W":
        return value
    return value[:, 0] if name[-2:-1] == "b" else value.T


def compare(seeds: int) -> dict[str, float]:
    """The largest difference between the two forms, relative to the value's largest number, for each name."""
    apart: dict[str, float] = {}
    with jax.enable_x64(True):
        for seed in range(seeds):
            keys = jax.random.split(jax.random.key(seed), 3)
            net = chain(dense(3, 4), activations.tanh, dense(4, 1), activations.sigmoid)
            params = net.init(keys[0])
            x = jax.random.normal(keys[1], (EXAMPLES, 3))
            y = jax.random.bernoulli(keys[2], 0.5, (EXAMPLES, 1)).astype(x.dtype)
            rows = jax.device_get(shallow_network_in_rows(params, x, y))
            (W1, b1), _, (W2, b2), _ = jax.tree.map(np.asarray, params)
            columns = shallow_network_in_columns(W1, b1[:, None], W2, b2[:, None], np.asarray(x).T, np.asarray(y).T)
            for name, value in columns.items():
                off = np.abs(in_rows(name, value) - rows[name]).max() / np.abs(value).max()
                apart[name] = max(apart.get(name, 0.0), float(off))
    return apart
