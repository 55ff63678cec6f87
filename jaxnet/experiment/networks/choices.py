"""What options of networks choose from: activations, and how weights start."""

from collections.abc import Callable
from typing import Any, Literal

from jaxnet import activations, initializers
from jaxnet.layer import Layer

Activation = Literal["relu", "leaky_relu", "tanh", "sigmoid", "softplus", "identity"]
Init = Literal["auto", "zeros", "small-normal", "he", "glorot"]

ACTIVATIONS: dict[str, Layer] = {
    "relu": activations.relu,
    "leaky_relu": activations.leaky_relu(),
    "tanh": activations.tanh,
    "sigmoid": activations.sigmoid,
    "softplus": activations.softplus,
    "identity": activations.identity,
}
# With auto each layer has what suits it.
INITIALIZERS: dict[str, Callable[..., Any] | None] = {
    "auto": None,
    "zeros": initializers.zeros,
    "small-normal": initializers.small_normal,
    "he": initializers.he,
    "glorot": initializers.glorot,
}
