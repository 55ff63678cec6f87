"""Numbers of examples, in memory or on disk: read by the row, in the shape that an example has."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

# Of a block that is looked at, and of a piece of it that is scaled at a time: in float64 the latter fits a processor's
# cache.
BLOCK_NUMBERS = 2**23
PIECE_NUMBERS = 2**16
ALIGNMENT = 64


@runtime_checkable
class Change(Protocol):
    """From some raw examples, (k, ...), to as many of the same shape."""

    def __call__(self, x: np.ndarray, /) -> np.ndarray: ...


@runtime_checkable
class Source(Protocol):
    """Examples (m, ...), of which nobody needs to know where they are.

    Attributes:
      shape: (m, ...), the shape of an example after their number.
      on_disk: whether they are read each time anew, as what is larger than memory must be.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def on_disk(self) -> bool: ...

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray | slice, dtype: Any) -> np.ndarray:
        """The examples at these places, in an array that nobody writes to again: JAX may keep it."""
        ...

    def at(self, rows: np.ndarray) -> "Source":
        """Some of the examples, without the others."""
        ...

    def scaled(self, scaling: Change) -> "Source":
        """These raw examples, changed."""
        ...

    def shaped(self, example: tuple[int, ...]) -> "Source":
        """The same numbers in the same order, with each example in another shape."""
        ...


@dataclasses.dataclass(frozen=True)
class InMemory:
    """A `Source` of an array (m, ...)."""

    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def on_disk(self) -> bool:
        return False

    def __len__(self) -> int:
        return len(self.values)

    def read(self, rows: np.ndarray | slice, dtype: Any) -> np.ndarray:
        return self.values[rows].astype(dtype, copy=False)

    def at(self, rows: np.ndarray) -> "InMemory":
        return InMemory(self.values[rows])

    def scaled(self, scaling: Change) -> "InMemory":
        return InMemory(scaling(self.values))

    def shaped(self, example: tuple[int, ...]) -> "InMemory":
        return InMemory(self.values.reshape(len(self), *example))


@dataclasses.dataclass(frozen=True)
class OnDisk:
    """A `Source` of an array that is read, and scaled, when its rows are asked for.

    Attributes:
      stored: (examples, ...), mapped into memory.
      rows: (m,), which of its examples these are.
      example: the shape that each has when it is read.
      scaling: from raw to scaled examples, unless they are raw.
    """

    stored: np.ndarray
    rows: np.ndarray
    example: tuple[int, ...]
    scaling: Change | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), *self.example

    @property
    def on_disk(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: np.ndarray | slice, dtype: Any) -> np.ndarray:
        places = self.rows[rows]
        read = _aligned((len(places), *self.stored.shape[1:]), dtype)
        many = max(1, PIECE_NUMBERS // max(1, math.prod(self.example)))
        for start in range(0, len(places), many):
            piece = self.stored[places[start : start + many]]
            with np.errstate(over="ignore", invalid="ignore"):
                read[start : start + many] = piece if self.scaling is None else self.scaling(piece)
        return read.reshape(len(places), *self.example)

    def at(self, rows: np.ndarray) -> "OnDisk":
        return dataclasses.replace(self, rows=self.rows[rows])

    def scaled(self, scaling: Change) -> "OnDisk":
        return dataclasses.replace(self, scaling=scaling)

    def shaped(self, example: tuple[int, ...]) -> "OnDisk":
        return dataclasses.replace(self, example=example)


def stays_on_disk(stored: np.ndarray) -> OnDisk:
    """All examples of an array (m, ...) that is mapped into memory."""
    # A plain view: an index of `np.memmap` costs more.
    return OnDisk(np.asarray(stored), np.arange(len(stored)), stored.shape[1:])


def in_blocks(x: Source, rows: np.ndarray | None = None, *, shared: bool = False) -> Iterator[tuple[int, np.ndarray]]:
    """(start, values) of some 64 MiB each: the examples of x, or those given, as vectors (k, features) in float64.

    With `shared`, each of a run's processes gets other blocks.
    """
    many = max(1, BLOCK_NUMBERS // max(1, math.prod(x.shape[1:])))
    starts = range(0, len(x) if rows is None else len(rows), many)
    for start in starts[jax.process_index() :: jax.process_count()] if shared else starts:
        at = slice(start, start + many)
        values = x.read(at if rows is None else rows[at], np.float64)
        yield start, values.reshape(len(values), -1)


def _aligned(shape, dtype):
    """Fresh memory that JAX takes as it is on a CPU; what is not aligned so is copied."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
