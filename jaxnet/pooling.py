"""Windows over positions, as pools have them: what was asked for, and where on given positions the windows lie."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, SupportsIndex, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Shaped

from jaxnet.arguments import integers, shown
from jaxnet.arrays import require_floating

Padding: TypeAlias = str | Sequence[Sequence[int]]


class Pooling(NamedTuple):
    """A pool's windows on positions of given lengths, with an entry for each axis of positions.

    Attributes:
      window: how many positions a window has.
      stride: how many lie between the beginnings of neighbours.
      padding: (before, after), how many positions are added.
      positions: how many there are, without padding.
    """

    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    positions: tuple[int, ...]

    @property
    def windows(self) -> tuple[int, ...]:
        """How many windows there are."""
        return tuple(
            (size + sum(pads) - width) // step + 1
            for size, pads, width, step in zip(self.positions, self.padding, self.window, self.stride, strict=True)
        )

    @property
    def tiles(self) -> bool:
        """Whether each position is in one window at most, and neighbours touch."""
        return self.window == self.stride

    def padded(self, x: Array, value: float) -> Array:
        """x (m, *positions, c) with its padding."""
        if not any(map(any, self.padding)):
            return x
        return lax.pad(x, jnp.asarray(value, x.dtype), [(0, 0, 0), *((*pads, 0) for pads in self.padding), (0, 0, 0)])

    def members(self, padded: Array) -> Iterator[Array]:
        """(m, *windows, c) for each place in a window, in row-major order: what every window has there."""
        for place in itertools.product(*map(range, self.window)):
            last = (start + (n - 1) * step + 1 for start, n, step in zip(place, self.windows, self.stride, strict=True))
            limits = (padded.shape[0], *last, padded.shape[-1])
            yield lax.slice(padded, (0, *place, 0), limits, (1, *self.stride, 1))

    def back_from(self, member: Array, place: tuple[int, ...]) -> Array:
        """(m, *positions, c) with what every window has at a place where that lies, and 0 elsewhere."""
        widths = []
        for axis, start in enumerate(place):
            # On the padded axis first, then without the padding: negative widths take away.
            before, after = self.padding[axis]
            covered = start + (self.windows[axis] - 1) * self.stride[axis] + 1
            after_covered = self.positions[axis] + before + after - covered
            widths.append((start - before, after_covered - after, self.stride[axis] - 1))
        return lax.pad(member, jnp.zeros((), member.dtype), [(0, 0, 0), *widths, (0, 0, 0)])

    def untiled(self, tiles: Array, sharding: Any) -> Array:
        """(m, *positions, c) of windows that tile, (m, n_1, w_1, n_2, w_2, ..., c); 0 where no window reaches."""
        reached = tuple(n * width for n, width in zip(self.windows, self.window, strict=True))
        joined = jnp.reshape(tiles, (tiles.shape[0], *reached, tiles.shape[-1]), out_sharding=sharding)
        widths = [
            (-before, size + before - n, 0)
            for n, size, (before, _) in zip(reached, self.positions, self.padding, strict=True)
        ]
        return lax.pad(joined, jnp.zeros((), joined.dtype), [(0, 0, 0), *widths, (0, 0, 0)])

    def apart(self, of_windows: Array) -> Array:
        """(m, n_1, 1, n_2, 1, ..., c) of (m, *windows, c): an axis for the places of each window."""
        return jnp.expand_dims(of_windows, range(2, 2 * len(self.window) + 1, 2))


def pooling(
    where: str,
    x: Shaped[Array, "..."],
    window: tuple[int, ...],
    stride: tuple[int, ...] | None,
    padding: str | tuple[tuple[int, int], ...],
) -> Pooling:
    """The windows on x (m, *positions, c), checked when traced."""
    where = f"{where}({window})"
    require_floating(where, x)
    if x.ndim != len(window) + 2:
        axes = "axis" if len(window) == 1 else "axes"
        raise ValueError(
            f"{where}: expected x (m, positions, channels) with {len(window)} {axes} of positions, got {x.shape}"
        )
    step, positions = window if stride is None else stride, x.shape[1:-1]
    pairs = lax.padtype_to_pads(positions, window, step, padding) if isinstance(padding, str) else padding
    known = Pooling(window, step, tuple((int(before), int(after)) for before, after in pairs), positions)
    if min(known.windows) < 1:
        raise ValueError(f"{where}: expected at least as many positions as a window has, got x of shape {x.shape}")
    return known


def pooling_options(where: str, window: Sequence[SupportsIndex], stride: Any, padding: Padding) -> dict[str, Any]:
    """What a pool was asked for, as keywords of its forward pass, without what is the default anyway.

    Raises:
      ValueError: in the name of `where`.
    """
    sizes = integers(window)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{where}: expected window to be positive lengths, such as (2, 2), got {shown(window)}")
    steps = sizes if stride is None else integers(stride) or integers((stride,) * len(sizes))
    if steps is None or len(steps) != len(sizes) or min(steps) < 1:
        raise ValueError(
            f"{where}: expected stride to be a positive integer or {len(sizes)} of them, got {shown(stride)}"
        )
    pads = padding if isinstance(padding, str) and padding in ("VALID", "SAME") else _pairs(padding, sizes)
    if pads is None:
        raise ValueError(
            f"{where}: expected padding to be 'VALID', 'SAME' or {len(sizes)} pairs (before, after), each less than "
            f"the window, got {shown(padding)}"
        )
    options: dict[str, Any] = {"window": sizes}
    return options | ({} if steps == sizes else {"stride": steps}) | ({} if pads == "VALID" else {"padding": pads})


def counts(known: Pooling) -> np.ndarray:
    """How many positions that are there each window has, (1, *windows, 1)."""
    along = []
    axes = zip(known.windows, known.stride, known.window, known.padding, known.positions, strict=True)
    for n, step, width, (before, _), size in axes:
        begin = np.arange(n) * step - before
        along.append(np.minimum(begin + width, size) - np.maximum(begin, 0))
    product = np.ones(())
    for of_axis in along:
        product = product[..., None] * of_axis
    return product[None, ..., None]


def _pairs(padding, sizes):
    """None where they are none, or a window could lie in padding alone."""
    if isinstance(padding, str) or not hasattr(padding, "__iter__"):
        return None
    pairs = tuple(integers(pair) or () for pair in padding)
    if len(pairs) != len(sizes) or not all(len(pair) == 2 for pair in pairs):
        return None
    inside = all(0 <= pad < size for pair, size in zip(pairs, sizes, strict=True) for pad in pair)
    return pairs if inside else None
