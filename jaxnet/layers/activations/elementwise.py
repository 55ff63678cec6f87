"""What all activations share: no parameters, and a derivative that is a diagonal."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Bool, Float

from jaxnet.layer import Layer

Signal = Float[Array, "..."]
Mask = Bool[Array, "..."]


def elementwise(forward: Callable[..., Any], backward: Callable[..., Any], second: Callable[..., Any]) -> Layer:
    """The layer of an activation's three functions."""
    return Layer(no_parameters, forward, backward, second, "elementwise")


def no_parameters(key):
    return ()


def nowhere_curved(params: tuple[()], cache: Signal | Mask | tuple[()], da: Signal) -> None:
    """g'' = 0: the function is linear, or linear in pieces."""
