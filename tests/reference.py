"""Forward passes, losses and the lesson's backward pass in plain NumPy, independent of the code under test."""

import numpy as np

ACTIVATIONS = {
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": lambda z: (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z)),
    "relu": lambda z: np.where(z > 0, z, 0.0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "identity": lambda z: z,
}


def forward_by_neuron(params, activations, x):
    """Each sample, each layer, each neuron in a loop of its own: a_j = g(w_j . x + b_j)."""
    outputs = []
    for sample in np.asarray(x):
        a = sample
        for (W, b), g in zip(params, activations, strict=True):
            z = [sum(w * value for w, value in zip(row, a, strict=True)) + bias for row, bias in zip(W, b, strict=True)]
            a = g(np.array(z))
        outputs.append(a)
    return np.array(outputs)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def shallow_network_in_columns(W1, b1, W2, b2, X, Y):
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
