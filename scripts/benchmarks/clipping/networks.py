"""What all ways of clipping are given: the networks, and the same parameters and examples for all."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

import jaxnet as jn

Kind = Literal["dense", "cnn", "resnet", "transformer", "gru"]
LOSS = jn.losses.softmax_cross_entropy_with_integer_labels
MAX_NORM = 1.0


class Net(NamedTuple):
    """A network and the batches it is measured at.

    Attributes:
      kind: of which the other packages have one, too.
      sizes: its numbers, see `BUILDERS`.
      batches: examples at a time.
    """

    kind: Kind
    sizes: dict[str, Any]
    batches: tuple[int, ...] = ()


class Problem(NamedTuple):
    """What a process is given.

    Attributes:
      net: whose batches are not asked for.
      examples: how many.
      max_norm: C.
    """

    net: Net
    examples: int
    max_norm: float = MAX_NORM


def of_json(net: list[Any], examples: int, max_norm: float) -> Problem:
    """The problem, of what JSON makes of it."""
    kind, sizes, batches = net
    sizes = {name: tuple(size) if isinstance(size, list) else size for name, size in sizes.items()}
    return Problem(Net(kind, sizes, tuple(batches)), examples, max_norm)


NETS = {
    "dense 784-512-512-10": Net("dense", {"layers": (784, 512, 512, 10)}, (128, 1024)),
    "CNN 28x28, 32 and 64 channels": Net(
        "cnn", {"shape": (28, 28, 1), "channels": (32, 64), "hidden": (128,), "classes": 10}, (32, 128)
    ),
    "ResNet 32x32, 16, 32 and 64 channels": Net(
        "resnet", {"shape": (32, 32, 3), "channels": (16, 32, 64), "depth": 2, "groups": 8, "classes": 10}, (16, 64)
    ),
    "transformer, d 128, T 64": Net(
        "transformer", {"vocabulary": 65, "width": 128, "heads": 4, "depth": 4, "times": 64}, (8, 32)
    ),
    "transformer, d 128, T 256": Net(
        "transformer", {"vocabulary": 65, "width": 128, "heads": 4, "depth": 4, "times": 256}, (4, 16)
    ),
    "GRU, 128 units, T 32": Net("gru", {"inputs": 64, "hidden": 128, "classes": 10, "times": 32}, (32, 128)),
    "GRU, 128 units, T 64": Net("gru", {"inputs": 64, "hidden": 128, "classes": 10, "times": 64}, (32, 128)),
}


def of_kinds(kinds: Sequence[str]) -> dict[str, Net]:
    """Of the networks those of some kinds."""
    return {name: net for name, net in NETS.items() if net.kind in kinds}


# Of each kind one that is small, on which the gradients of all are compared.
SMALL: dict[Kind, Net] = {
    "dense": Net("dense", {"layers": (6, 5, 4)}),
    "cnn": Net("cnn", {"shape": (8, 8, 2), "channels": (4, 6), "hidden": (5,), "classes": 3}),
    "resnet": Net("resnet", {"shape": (8, 8, 2), "channels": (4, 8), "depth": 1, "groups": 2, "classes": 3}),
    "transformer": Net("transformer", {"vocabulary": 7, "width": 8, "heads": 2, "depth": 2, "times": 6}),
    "gru": Net("gru", {"inputs": 3, "hidden": 4, "classes": 3, "times": 5}),
}


# Blocks are a chain and not a scan, whose body the compiler would count once.
BUILDERS: dict[Kind, Callable[..., jn.Layer]] = {
    "dense": lambda layers: jn.mlp(layers, jn.relu),
    "cnn": lambda shape, channels, hidden, classes: jn.cnn(shape, classes, channels=channels, hidden=hidden),
    "resnet": lambda shape, channels, depth, groups, classes: jn.resnet(
        shape, classes, channels=channels, depth=depth, groups=groups, repeat=False
    ),
    "transformer": lambda vocabulary, width, heads, depth, times: jn.transformer(
        vocabulary, width=width, heads=heads, depth=depth, length=times, repeat=False
    ),
    # Without biases, of which PyTorch has two in place of one, so that norms would differ.
    "gru": lambda inputs, hidden, classes, times: jn.chain(
        jn.gru(inputs, hidden, last=True, bias=False), jn.dense(hidden, classes)
    ),
}


def build(net: Net) -> jn.Layer:
    """Ours."""
    return BUILDERS[net.kind](**net.sizes)


def scans(net: Net) -> bool:
    """Whether it goes through time by a scan, whose body the compiler counts once."""
    return net.kind == "gru"


def parameters(net: Net) -> Any:
    """Always the same."""
    return jax.jit(build(net).init)(jax.random.key(0))


def examples(net: Net, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Always the same inputs, channels last, and labels; of a transformer ids and those that follow."""
    rng, sizes = np.random.default_rng(1), net.sizes
    if net.kind == "transformer":
        ids = rng.integers(0, sizes["vocabulary"], (number, sizes["times"] + 1), np.int32)
        return ids[:, :-1], ids[:, 1:]
    shape = {
        "dense": lambda: (sizes["layers"][0],),
        "gru": lambda: (sizes["times"], sizes["inputs"]),
    }.get(net.kind, lambda: tuple(sizes["shape"]))()
    classes = sizes["layers"][-1] if net.kind == "dense" else sizes["classes"]
    return rng.standard_normal((number, *shape), np.float32), rng.integers(0, classes, number, np.int32)
