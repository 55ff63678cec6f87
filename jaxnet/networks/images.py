"""What networks for images, sounds and volumes are asked for."""

from collections.abc import Sequence
from typing import Any, SupportsIndex

from jaxnet.arguments import integers, positive_integer, shown


def shape_of_example(where: str, shape: Any) -> tuple[int, ...]:
    """(*positions, channels) of one example, with one, two or three axes of positions."""
    sizes = integers(shape)
    if sizes is None or len(sizes) not in (2, 3, 4) or min(sizes) < 1:
        raise ValueError(f"{where}: expected the shape of an example, such as (28, 28, 1), got {shown(shape)}")
    return sizes


def numbers_of(where: str, what: str, values: Sequence[SupportsIndex], least: int) -> tuple[int, ...]:
    """Sizes of layers, at least so many of them."""
    sizes = integers(values)
    if sizes is None or len(sizes) < least or any(size < 1 for size in sizes):
        raise ValueError(f"{where}: expected {what} to be positive integers, such as (32, 64), got {shown(values)}")
    return sizes


def groups_of(where: str, groups: SupportsIndex, channels: tuple[int, ...]) -> int:
    """How many groups of channels are normalised, each by itself."""
    number = positive_integer(where, "groups", groups)
    if any(size % number for size in channels):
        raise ValueError(f"{where}: expected groups to divide each of the channels {channels}, got {groups}")
    return number
