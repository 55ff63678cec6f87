"""Layers such as users write."""

import jaxnet as jn


def tied(width):
    """y = W tanh(W x + b) + b: one dense layer used at two places."""
    layer = jn.dense(width, width)

    def forward(params, x):
        z, first = layer.forward(params, x)
        a, squashed = jn.tanh.forward((), z)
        y, second = layer.forward(params, a)
        return y, (first, squashed, second)

    def backward(params, cache, dy):
        first, squashed, second = cache
        again, da = layer.backward(params, second, dy)
        _, dz = jn.tanh.backward((), squashed, da)
        once, dx = layer.backward(params, first, dz)
        return jn.per_example.add(once, again), dx

    return jn.Layer(layer.init, forward, backward)
