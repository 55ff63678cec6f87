"""What options of networks choose from: activations, and how weights start."""

from collections.abc import Callable
from typing import Any, Literal

from jaxnet import activations, initializers
from jaxnet.layer import Layer

Activation = Literal[
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "gelu_tanh",
    "silu",
    "softplus",
    "tanh",
    "hard_tanh",
    "softsign",
    "sigmoid",
    "log_sigmoid",
    "identity",
]
Init = Literal["auto", "zeros", "small-normal", "he", "glorot", "lecun"]

ACTIVATIONS: dict[str, Layer] = {
    "relu": activations.relu,
    "leaky_relu": activations.leaky_relu(),
    "elu": activations.elu(),
    "selu": activations.selu,
    "gelu": activations.gelu,
    "gelu_tanh": activations.gelu_tanh,
    "silu": activations.silu,
    "softplus": activations.softplus,
    "tanh": activations.tanh,
    "hard_tanh": activations.hard_tanh,
    "softsign": activations.softsign,
    "sigmoid": activations.sigmoid,
    "log_sigmoid": activations.log_sigmoid,
    "identity": activations.identity,
}
# With auto each layer has what suits it.
INITIALIZERS: dict[str, Callable[..., Any] | None] = {
    "auto": None,
    "zeros": initializers.zeros,
    "small-normal": initializers.small_normal,
    "he": initializers.he,
    "glorot": initializers.glorot,
    "lecun": initializers.lecun,
}
