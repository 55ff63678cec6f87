"""How a window is asked to go over positions, before there are any: one, two or three axes of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
from jax import lax

from jaxnet.arguments import positive_integer, shown
from jaxnet.factored import Window

Padding: TypeAlias = str | Sequence[Sequence[SupportsIndex]]


class Sliding(NamedTuple):
    """A window with an entry for each axis of positions; see `Window`, which it becomes where there are positions.

    Attributes:
      size, stride, dilation: as for `Window`.
      padding: 'SAME' for as many places as positions, over the stride, rounded up; 'VALID' for none; or pairs.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    def on(self, where: str, positions: tuple[int, ...]) -> Window:
        """The window on so many positions.

        Raises:
          ValueError: when it has no place there, in the name of `where`.
        """
        window = Window(self.size, self.stride, (), self.dilation)
        padding = self.padding
        if isinstance(padding, str):
            pairs = lax.padtype_to_pads(np.array(positions), np.array(window.span), np.array(self.stride), padding)
            padding = tuple((int(before), int(after)) for before, after in pairs)
        window = window._replace(padding=padding)
        if min(window.places(positions)) < 1:
            raise ValueError(
                f"{where}: expected positions, with padding {padding}, of at least the {window.span} that the window "
                f"spans, got {positions}"
            )
        return window

    def back_from(self, where: str, places: tuple[int, ...]) -> tuple[tuple[int, ...], Window]:
        """So many positions that the window has these places on them, and the window there.

        With a stride there are several such numbers: as many times the places as the stride with 'SAME', else the
        least.

        Raises:
          ValueError: when there are none, in the name of `where`.
        """
        steps = list(zip(places, self.stride, strict=True))
        if self.padding == "SAME":
            positions = tuple(n * step for n, step in steps)
        else:
            span = Window(self.size, self.stride, (), self.dilation).span
            pairs = ((0, 0),) * len(places) if isinstance(self.padding, str) else self.padding
            each = zip(steps, span, pairs, strict=True)
            positions = tuple((n - 1) * step + reach - before - after for (n, step), reach, (before, after) in each)
        if min(positions) < 1:
            raise ValueError(f"{where}: expected padding to leave at least one position, got {positions}")
        return positions, self.on(where, positions)

    def options(self) -> list[str]:
        """What differs from the defaults, as it was given."""
        shown_defaults = (("stride", (1,) * len(self.size)), ("padding", "SAME"), ("dilation", (1,) * len(self.size)))
        return [f"{name}={getattr(self, name)!r}" for name, default in shown_defaults if getattr(self, name) != default]


def sliding(
    where: str,
    window: Sequence[SupportsIndex],
    stride: SupportsIndex | Sequence[SupportsIndex],
    padding: Padding,
    dilation: SupportsIndex | Sequence[SupportsIndex],
) -> Sliding:
    """What a layer's arguments say, checked in the name of `where`.

    Args:
      where: the function that was called.
      window: one, two or three sizes.
      stride, dilation: one number for all axes, or one for each.
      padding: 'SAME', 'VALID', or a pair (before, after) for each axis.
    """
    if not isinstance(window, Sequence) or not 1 <= len(window) <= 3:
        raise ValueError(f"{where}: expected a window of one, two or three sizes, such as (3, 3), got {shown(window)}")
    size = tuple(positive_integer(where, "each of the window's sizes", one) for one in window)
    return Sliding(
        size,
        _for_each_axis(where, "stride", stride, len(size)),
        _padding(where, padding, len(size)),
        _for_each_axis(where, "dilation", dilation, len(size)),
    )


def _for_each_axis(where, what, value, axes):
    if not isinstance(value, Sequence):
        return (positive_integer(where, what, value),) * axes
    if len(value) != axes:
        raise ValueError(f"{where}: expected {what} to be one number, or one for each of {axes} axes, got {value!r}")
    return tuple(positive_integer(where, what, one) for one in value)


def _padding(where: str, padding: Any, axes: int) -> Any:
    if padding in ("SAME", "VALID"):
        return padding
    pairs: Any = ()
    if not isinstance(padding, str):
        try:
            pairs = tuple((int(before), int(after)) for before, after in padding)
        except (TypeError, ValueError):
            pairs = ()
    if len(pairs) != axes or min(map(min, pairs)) < 0:
        raise ValueError(
            f"{where}: expected padding to be 'SAME', 'VALID' or a pair (before, after) of at least 0 for each of "
            f"{axes} axes, got {padding!r}"
        )
    return pairs
