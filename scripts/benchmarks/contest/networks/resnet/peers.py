"""How the other packages build the residual network, all from one list of its layers."""

from itertools import pairwise
from typing import Any

from benchmarks.contest.networks.drawn import channels_first, kernel_channels_first
from benchmarks.contest.networks.resnet.ours import DEPTH, GROUPS, WINDOW, inputs_first


def by_haiku(problem: Any) -> Any:
    """Conv2D and GroupNorm."""
    import haiku as hk
    import jax

    def forward(x):
        given = _weights(problem, hk.initializers.Constant)

        def conv(before, width, stride=1):
            return hk.Conv2D(width, WINDOW, stride, with_bias=False, w_init=next(given))

        def activated(width):
            return hk.GroupNorm(GROUPS), jax.nn.relu

        def block(width):
            branch = hk.Sequential([*activated(width), conv(width, width), *activated(width), conv(width, width)])
            return lambda x: x + branch(x)

        x = hk.Sequential(list(_layers(problem.net, conv, activated, block)))(x)
        return hk.Linear(problem.net.sizes[-1], w_init=next(given))(x.mean((1, 2)))

    return forward


def by_flax(problem: Any) -> Any:
    """Conv and GroupNorm."""
    import jax
    from flax import nnx

    given, rngs = _weights(problem, jax.nn.initializers.constant), nnx.Rngs(0)

    def conv(before, width, stride=1):
        window = WINDOW, WINDOW
        return nnx.Conv(before, width, window, strides=stride, use_bias=False, kernel_init=next(given), rngs=rngs)

    def activated(width):
        return nnx.GroupNorm(width, GROUPS, epsilon=1e-5, rngs=rngs), nnx.relu

    class Block(nnx.Module):
        def __init__(self, width):
            self.branch = nnx.Sequential(*activated(width), conv(width, width), *activated(width), conv(width, width))

        def __call__(self, x):
            return x + self.branch(x)

    class ResNet(nnx.Module):
        def __init__(self):
            self.layers = nnx.Sequential(*_layers(problem.net, conv, activated, Block))
            self.head = nnx.Linear(*problem.net.sizes[-2:], kernel_init=next(given), rngs=rngs)

        def __call__(self, x):
            return self.head(self.layers(x).mean((1, 2)))

    return ResNet()


def by_equinox(problem: Any) -> Any:
    """Conv2d and GroupNorm, channels first, for one example."""
    import equinox as eqx
    import jax

    from benchmarks.contest.by_equinox import filled

    key = jax.random.key(0)

    def conv(before, width, stride=1):
        return eqx.nn.Conv2d(before, width, WINDOW, stride, padding="SAME", use_bias=False, key=key)

    def activated(width):
        return eqx.nn.GroupNorm(GROUPS, width), jax.nn.relu

    class Block(eqx.Module):
        branch: list[Any]

        def __init__(self, width):
            self.branch = [*activated(width), conv(width, width), *activated(width), conv(width, width)]

        def __call__(self, x):
            y = x
            for layer in self.branch:
                y = layer(y)
            return x + y

    class ResNet(eqx.Module):
        layers: list[Any]
        head: Any

        def __init__(self):
            self.layers = list(_layers(problem.net, conv, activated, Block))
            self.head = eqx.nn.Linear(*problem.net.sizes[-2:], key=key)

        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.head(x.mean((1, 2)))

    arrays = [kernel_channels_first(W) if W.ndim == 4 else W for layer in problem.params for W in layer]
    return filled(ResNet(), arrays), channels_first(problem.x)


def by_torch(problem: Any) -> Any:
    """Conv2d and GroupNorm.

    Where a stride of 2 leaves over a position, XLA's 'SAME' adds one behind, and padding=1 one in front. So images and
    windows are mirrored, once and for all, which is the same network with the padding that PyTorch has.
    """
    from torch import nn

    from benchmarks.contest.by_torch import filled

    def conv(before, width, stride=1):
        return nn.Conv2d(before, width, WINDOW, stride, padding=1, bias=False)

    def activated(width):
        return nn.GroupNorm(GROUPS, width), nn.ReLU()

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.branch = nn.Sequential(*activated(width), conv(width, width), *activated(width), conv(width, width))

        def forward(self, x):
            return x + self.branch(x)

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(*_layers(problem.net, conv, activated, Block))
            self.head = nn.Linear(*problem.net.sizes[-2:])

        def forward(self, x):
            return self.head(self.layers(x).mean((2, 3)))

    mirrored = [
        kernel_channels_first(W[:, ::-1, ::-1]) if W.ndim == 4 else W for layer in problem.params for W in layer
    ]
    return filled(ResNet(), mirrored), channels_first(problem.x[:, :, ::-1, ::-1])


def _layers(net, conv, activated, block):
    """All up to the mean over the positions, from a package's own ways to make a layer, in their order."""
    channels, *widths, _ = net.sizes[1:]
    for stage, (before, width) in enumerate(pairwise((channels, *widths))):
        if stage:
            yield from activated(before)
        yield conv(before, width, 2 if stage else 1)
        for _ in range(DEPTH):
            yield block(width)
    yield from activated(widths[-1])


def _weights(problem, given):
    """What starts one convolution after the other, and the head."""
    return iter([given(W) for W, *_ in inputs_first(problem) if W.ndim > 1])
