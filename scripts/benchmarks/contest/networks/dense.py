"""Layers of neurons one after another. Sizes: inputs, neurons of each hidden layer, outputs."""

from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.contest.networks import drawn


def draw(net: Any, rng: Any) -> Any:
    """He's weights W (o, i), biases of 0, and labels by a linear map of the inputs."""
    params = tuple((drawn.he(rng, (o, i)), drawn.zeros(o)) for i, o in pairwise(net.sizes))
    x = drawn.inputs(rng, (net.batches, net.batch, net.sizes[0]))
    if "softmax" in net.loss:
        return params, x, drawn.labels(rng, x, net.sizes[-1])
    scores = x @ rng.standard_normal((net.sizes[0], net.sizes[-1]), np.float32)
    return params, x, (scores > 0).astype(np.float32)


def products(net: Any) -> list[int]:
    """2 m i o for each layer."""
    return [2 * net.batch * i * o for i, o in pairwise(net.sizes)]


def by_jaxnet(problem: Any) -> Any:
    """`jn.mlp`."""
    import jaxnet as jn

    net = problem.net
    return jn.mlp(net.sizes, getattr(jn.activations, net.activation)), drawn.arrays(problem.params)


def by_jax(problem: Any) -> Any:
    """Products, biases and `jax.nn`'s activation."""
    import jax

    activation = getattr(jax.nn, problem.net.activation)

    def apply(params, x):
        *hidden, (W, b) = params
        for V, c in hidden:
            x = activation(x @ V.T + c)
        return x @ W.T + b

    return apply, problem.params


def by_haiku(problem: Any) -> Any:
    """A Sequential of Linear layers."""
    import haiku as hk
    import jax

    activation, given = getattr(jax.nn, problem.net.activation), hk.initializers.Constant

    def forward(x):
        layers = [layer for W, _ in problem.params for layer in (hk.Linear(len(W), w_init=given(W.T)), activation)]
        return hk.Sequential(layers[:-1])(x)

    return forward


def by_flax(problem: Any) -> Any:
    """Linear layers with an activation between them."""
    import jax
    from flax import nnx

    given = jax.nn.initializers.constant

    class Perceptron(nnx.Module):
        def __init__(self):
            self.activation = getattr(jax.nn, problem.net.activation)
            sizes, rngs = pairwise(problem.net.sizes), nnx.Rngs(0)
            self.layers = nnx.List(
                nnx.Linear(i, o, kernel_init=given(W.T), rngs=rngs)
                for (i, o), (W, _) in zip(sizes, problem.params, strict=True)
            )

        def __call__(self, x):
            *hidden, last = self.layers
            for layer in hidden:
                x = self.activation(layer(x))
            return last(x)

    return Perceptron()


def by_equinox(problem: Any) -> Any:
    """Linear layers with activations between them, for one example."""
    import equinox as eqx
    import jax

    from benchmarks.contest.by_equinox import filled

    net = problem.net

    class Perceptron(eqx.Module):
        layers: list[Any]

        def __init__(self):
            key, activation = jax.random.key(0), getattr(jax.nn, net.activation)
            pairs = ((eqx.nn.Linear(i, o, key=key), activation) for i, o in pairwise(net.sizes))
            self.layers = [layer for pair in pairs for layer in pair][:-1]

        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    return filled(Perceptron(), drawn.arrays(problem.params)), problem.x


def by_torch(problem: Any) -> Any:
    """A Sequential of Linear layers."""
    from torch import nn

    from benchmarks.contest.by_torch import filled

    activation = {"tanh": nn.Tanh, "relu": nn.ReLU}[problem.net.activation]
    layers = [layer for i, o in pairwise(problem.net.sizes) for layer in (nn.Linear(i, o), activation())]
    return filled(nn.Sequential(*layers[:-1]), drawn.arrays(problem.params)), problem.x
