"""What is drawn for the residual network, what it costs, and how jaxnet and plain JAX build it."""

from itertools import islice, pairwise
from typing import Any

import numpy as np

from benchmarks.contest.networks import drawn

WINDOW, DEPTH, GROUPS = 3, 2, 8


def draw(net: Any, rng: Any) -> Any:
    """As `jn.resnet` starts, in its order; labels by a linear map of the numbers of an image."""
    side, channels, *widths, outputs = net.sizes
    params: list[Any] = []

    def norm(width):
        return drawn.ones(width), drawn.zeros(width)

    for stage, (before, width) in enumerate(pairwise((channels, *widths))):
        params += [norm(before)] * (stage > 0) + [(drawn.he(rng, (width, WINDOW, WINDOW, before)),)]
        for _ in range(DEPTH):
            first, second = (drawn.he(rng, (width, WINDOW, WINDOW, width)) for _ in range(2))
            params += [norm(width), (first,), norm(width), (second / np.float32((DEPTH * len(widths)) ** 0.5),)]
    params += [norm(widths[-1]), (drawn.lecun(rng, (outputs, widths[-1])), drawn.zeros(outputs))]
    x = drawn.inputs(rng, (net.batches, net.batch, side, side, channels))
    return tuple(params), x, drawn.labels(rng, x.reshape(*x.shape[:2], -1), outputs)


def products(net: Any) -> list[int]:
    """2 m i o for each place and offset of a window."""
    side, channels, *widths, outputs = net.sizes
    counts = []
    for stage, (before, width) in enumerate(pairwise((channels, *widths))):
        places = (side // 2**stage) ** 2 * WINDOW**2
        counts += [places * before * width] + [places * width * width] * 2 * DEPTH
    return [2 * net.batch * n for n in (*counts, widths[-1] * outputs)]


def by_jaxnet(problem: Any) -> Any:
    """`jn.resnet`, whose blocks of a stage are one scan, with their parameters stacked."""
    import jaxnet as jn

    side, channels, *widths, outputs = problem.net.sizes
    network = jn.resnet((side, side, channels), outputs, channels=widths, depth=DEPTH, groups=GROUPS)
    layers, arrays = iter(problem.params), []
    for stage in range(len(widths)):
        arrays += drawn.arrays(islice(layers, 2 if stage else 1))
        arrays += drawn.stacked([list(islice(layers, 4)) for _ in range(DEPTH)])
    return network, [*arrays, *drawn.arrays(layers)]


def by_jax(problem: Any) -> Any:
    """`lax.conv_general_dilated`, `jax.nn.standardize` over a group's positions and channels, `jax.nn.relu`."""
    import jax
    from jax import lax

    def activated(x, gain, bias):
        apart = x.reshape(*x.shape[:-1], GROUPS, -1)
        return jax.nn.relu(jax.nn.standardize(apart, axis=(1, 2, 4), epsilon=1e-5).reshape(x.shape) * gain + bias)

    def conv(x, W, stride=1):
        return lax.conv_general_dilated(x, W, (stride,) * 2, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def apply(params, x):
        layers = iter(params)
        for stage in range(len(problem.net.sizes) - 3):
            x = activated(x, *next(layers)) if stage else x
            (W,) = next(layers)
            x = conv(x, W, 2 if stage else 1)
            for _ in range(DEPTH):
                a = conv(activated(x, *next(layers)), *next(layers))
                x = x + conv(activated(a, *next(layers)), *next(layers))
        x = activated(x, *next(layers)).mean((1, 2))
        W, b = next(layers)
        return x @ W + b

    return apply, inputs_first(problem)


def inputs_first(problem):
    """The parameters with weights (*window, i, o)."""
    return tuple(tuple(np.ascontiguousarray(np.moveaxis(W, 0, -1)) for W in layer) for layer in problem.params)
