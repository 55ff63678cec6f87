"""Two convolutions, each with ReLU and max pooling, and two dense layers: `jn.cnn` as it is by default.

Sizes: the side of an image, its channels, those of each convolution, hidden neurons, outputs.
"""

from typing import Any

from benchmarks.contest.networks import drawn
from benchmarks.contest.networks.drawn import channels_first, kernel_channels_first

WINDOW = 3


def draw(net: Any, rng: Any) -> Any:
    """He's weights, biases of 0, and labels by a linear map of the numbers of an image."""
    side, channels, first, second, hidden, outputs = net.sizes
    kernels, places = ((first, WINDOW, WINDOW, channels), (second, WINDOW, WINDOW, first)), (side // 4) ** 2
    shapes = *kernels, (hidden, places * second), (outputs, hidden)
    params = tuple((drawn.he(rng, shape), drawn.zeros(shape[0])) for shape in shapes)
    x = drawn.inputs(rng, (net.batches, net.batch, side, side, channels))
    return params, x, drawn.labels(rng, x.reshape(*x.shape[:2], -1), outputs)


def products(net: Any) -> list[int]:
    """2 m i o for each place and offset of a window."""
    side, channels, first, second, hidden, outputs = net.sizes
    convolutions = [side**2 * WINDOW**2 * channels * first, (side // 2) ** 2 * WINDOW**2 * first * second]
    return [2 * net.batch * n for n in (*convolutions, (side // 4) ** 2 * second * hidden, hidden * outputs)]


def by_jaxnet(problem: Any) -> Any:
    """`jn.cnn`."""
    import jaxnet as jn

    side, channels, first, second, hidden, outputs = problem.net.sizes
    network = jn.cnn((side, side, channels), outputs, channels=(first, second), hidden=(hidden,))
    return network, drawn.arrays(problem.params)


def by_jax(problem: Any) -> Any:
    """`lax.conv_general_dilated`, `lax.reduce_window` for the pooling, and weights as JAX's packages have them."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import lax

    def pooled(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def apply(params, x):
        *convolutions, (V, c), (U, d) = params
        for W, b in convolutions:
            z = lax.conv_general_dilated(x, W, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = pooled(jax.nn.relu(z + b))
        x = jax.nn.relu(x.reshape(len(x), -1) @ V + c)
        return x @ U + d

    return apply, tuple((np.ascontiguousarray(np.moveaxis(W, 0, -1)), b) for W, b in problem.params)


def by_haiku(problem: Any) -> Any:
    """Conv2D, max_pool and Linear, one after the other."""
    import haiku as hk
    import jax
    import numpy as np

    first, second, hidden, outputs = problem.net.sizes[2:]
    given = [hk.initializers.Constant(np.moveaxis(W, 0, -1)) for W, _ in problem.params]

    def forward(x):
        return hk.Sequential([
            hk.Conv2D(first, WINDOW, w_init=given[0]),
            jax.nn.relu,
            hk.MaxPool((2, 2, 1), (2, 2, 1), "VALID"),
            hk.Conv2D(second, WINDOW, w_init=given[1]),
            jax.nn.relu,
            hk.MaxPool((2, 2, 1), (2, 2, 1), "VALID"),
            hk.Flatten(),
            hk.Linear(hidden, w_init=given[2]),
            jax.nn.relu,
            hk.Linear(outputs, w_init=given[3]),
        ])(x)  # fmt: skip

    return forward


def by_flax(problem: Any) -> Any:
    """Conv, max_pool and Linear, as in its MNIST tutorial."""
    import jax
    import numpy as np
    from flax import nnx

    side, channels, first, second, hidden, outputs = problem.net.sizes
    given = [jax.nn.initializers.constant(np.moveaxis(W, 0, -1)) for W, _ in problem.params]

    class CNN(nnx.Module):
        def __init__(self):
            rngs, window = nnx.Rngs(0), (WINDOW, WINDOW)
            self.conv1 = nnx.Conv(channels, first, window, kernel_init=given[0], rngs=rngs)
            self.conv2 = nnx.Conv(first, second, window, kernel_init=given[1], rngs=rngs)
            self.linear1 = nnx.Linear((side // 4) ** 2 * second, hidden, kernel_init=given[2], rngs=rngs)
            self.linear2 = nnx.Linear(hidden, outputs, kernel_init=given[3], rngs=rngs)

        def __call__(self, x):
            for conv in (self.conv1, self.conv2):
                x = nnx.max_pool(nnx.relu(conv(x)), window_shape=(2, 2), strides=(2, 2))
            x = nnx.relu(self.linear1(x.reshape(x.shape[0], -1)))
            return self.linear2(x)

    return CNN()


def by_equinox(problem: Any) -> Any:
    """Conv2d, MaxPool2d and Linear, channels first, for one example, as in its MNIST example."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from benchmarks.contest.by_equinox import filled

    side, channels, first, second, hidden, outputs = problem.net.sizes

    class CNN(eqx.Module):
        layers: list[Any]

        def __init__(self):
            key = jax.random.key(0)
            self.layers = [
                eqx.nn.Conv2d(channels, first, WINDOW, padding="SAME", key=key),
                jax.nn.relu,
                eqx.nn.MaxPool2d(2, 2),
                eqx.nn.Conv2d(first, second, WINDOW, padding="SAME", key=key),
                jax.nn.relu,
                eqx.nn.MaxPool2d(2, 2),
                jnp.ravel,
                eqx.nn.Linear((side // 4) ** 2 * second, hidden, key=key),
                jax.nn.relu,
                eqx.nn.Linear(hidden, outputs, key=key),
            ]

        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    return filled(CNN(), _channels_first(problem)), channels_first(problem.x)


def by_torch(problem: Any) -> Any:
    """Conv2d, max_pool2d and Linear in a Sequential."""
    from torch import nn

    from benchmarks.contest.by_torch import filled

    side, channels, first, second, hidden, outputs = problem.net.sizes
    model = nn.Sequential(
        nn.Conv2d(channels, first, WINDOW, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, WINDOW, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear((side // 4) ** 2 * second, hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
    )
    return filled(model, _channels_first(problem)), channels_first(problem.x)


def _channels_first(problem):
    """The parameters for who has channels before places, in what the first dense layer sees too."""
    (W, b), (V, c), (U, d), last = problem.params
    side, second = problem.net.sizes[0] // 4, len(V)
    U = kernel_channels_first(U.reshape(-1, side, side, second)).reshape(len(U), -1)
    return [kernel_channels_first(W), b, kernel_channels_first(V), c, U, d, *last]
