"""The gradient of a convolution's weight, in its two factors: what came back, and what went forward."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, DTypeLike, Float

from jaxnet.factored import window_products
from jaxnet.factored.form import Factored
from jaxnet.factored.layouts import automatic, parts_along, rows_and, rows_of
from jaxnet.factored.outer import Outer
from jaxnet.factored.pytrees import registered, remade
from jaxnet.factored.stacked import Stacked
from jaxnet.factored.window import Window, grouped
from jaxnet.factored.worth import worth_forming
from jaxnet.norms import norm, scaled
from jaxnet.weighting import weighted


@registered(arrays=("dz", "x"), metadata=("window", "groups", "sharding", "dtype", "spreads"))
@dataclass(frozen=True)
class Windows(Factored):
    """The gradient of a weight (o, *window, i / groups) that goes over positions, one matrix for each group.

    That of example i is the sum over the window's places of dz there times what of x it covers. The latter, the
    patches, are put together for pairs of places and for Kronecker factors only: they take as many numbers as x for
    each offset. With T places and K numbers in a patch, costs are those of an `Outer` (o / groups, K) for each group.

    Attributes:
      dz: (m, *places, o), what came back to the outputs.
      x: (m, *positions, i), what went forward into the inputs.
      window: how it goes over the positions.
      groups: outputs and inputs are so many parts, each mapped by itself.
      sharding, dtype: as for `Outer`.
      spreads: dz is what went forward and x what came back, as in `conv_transpose`, whose outputs are the last axis.

    Example:
      >>> layer = jn.conv(1, 2, (3, 3))
      >>> params = layer.init(key)
      >>> z, cache = layer.forward(params, jnp.ones((2, 4, 4, 1)))
      >>> dparams, dx = layer.backward(params, cache, z)
      >>> type(dparams.W).__name__, dparams.W.dz.shape, dparams.W.x.shape
      ('Windows', (2, 4, 4, 2), (2, 4, 4, 1))
    """

    dz: Float[Array, "m *p o"]
    x: Float[Array, "m *q i"]
    window: Window
    groups: int = 1
    sharding: jax.sharding.Sharding | None = None
    dtype: Any = None
    spreads: bool = False

    def __post_init__(self) -> None:
        examples, *positions, _ = self.x.shape
        fits = len(positions) == len(self.window.size)
        fits = fits and self.dz.shape[:-1] == (examples, *self.window.places(tuple(positions)))
        if not fits or self.dz.shape[-1] % self.groups or self.x.shape[-1] % self.groups:
            raise ValueError(
                f"Windows: expected dz (m, *places, o) and x (m, *positions, i) with the places that a {self.window} "
                f"has, and o and i that {self.groups} groups divide, got {self.dz.shape} and {self.x.shape}"
            )

    @property
    def examples(self) -> Any:
        return self.dz.shape[0]

    @property
    def sides(self) -> tuple[int, int]:
        last = len(self.window.size) + 1
        return (last, 0) if self.spreads else (0, last)

    def total(self, weights: Float[Array, " m"] | None) -> Float[Array, "o *k c"]:
        dz, x = self.dz, self.x
        if weights is not None:
            if self.dtype is not None and jnp.finfo(dz.dtype).tiny > jnp.finfo(self.dtype).tiny:
                dz, x = self._long(dz), self._long(x)  # for the weights' range, as in `Outer`
            dz = weighted(weights, dz)
        return automatic(self._products(window_products.of_all), dz, x, out_sharding=self.sharding)

    def each(self) -> Float[Array, "m o *k c"]:
        dz, x, sharding = self._long(self.dz), self._long(self.x), rows_and(self.dz, self.sharding)
        return automatic(self._products(window_products.of_each), dz, x, out_sharding=sharding)

    def summed_in(self, dtype: DTypeLike) -> "Windows":
        return remade(self, dtype=jnp.dtype(dtype))

    def norms(self, margin: float = 0.0) -> Float[Array, " m"]:
        """Those of pairs of places, or |g_i| where that is cheaper; they may cancel: the margin is of `terms`."""
        (o, k), t = self._shape(), self._places()
        if t == 1 or t * (o + k) < o * k:
            return self._outer().norms(margin)
        return super().terms() + margin * self.terms()

    def terms(self) -> Float[Array, " m"]:
        """sum_t |dz_it| |patch_it|, of each group, whose gradients stand beside one another."""
        dz, x = self._long(self.dz), self._long(self.x)

        def read(dz, x):
            *positions, channels = x.shape[1:]
            lengths = norm(x.reshape(x.shape[0], *positions, self.groups, channels // self.groups), (x.ndim,))
            of_patches = norm(jnp.stack(self.window.slices(lengths)), (0,))
            of_dz = norm(grouped(dz, self.groups), (3,))
            return norm((of_dz * of_patches.reshape(of_dz.shape)).sum(1), (1,))

        return automatic(read, dz, x, out_sharding=rows_of(dz, 1))

    def scaled(self) -> tuple["Windows", Float[Array, " m"]]:
        axes = tuple(range(1, self.x.ndim))
        (dz, dz_scale), (x, x_scale) = (scaled(self._long(signal), axes) for signal in (self.dz, self.x))
        return remade(self, dz=dz, x=x, dtype=None), (dz_scale * x_scale).squeeze(axes)

    def paired_by_factors(self, other: Factored) -> Float[Array, " m"] | None:
        """sum_ts <dz_it, dz'_is> <patch_it, patch'_is>, the Gram matrices of the places."""
        if not isinstance(other, Windows) or other.groups != self.groups:
            return None
        (o, k), t, s = self._shape(), self._places(), other._places()
        return None if t * s * (o + k) > (t + s) * o * k else self._outer().paired(other._outer())

    def dot(self, direction: Float[Array, "o *k c"]) -> Float[Array, " m"]:
        """sum_t <dz_it, D patch_it>: the convolution by D, along dz."""
        dz, x = self._long(self.dz), self._long(self.x)

        def read(dz, x, direction):
            z = self.window.products(x, direction.astype(x.dtype), self.groups)
            return (dz * z).sum(axis=tuple(range(1, dz.ndim)))

        return automatic(read, dz, x, direction, out_sharding=rows_of(dz, 1))

    def dots(self, directions: Float[Array, "n o *k c"]) -> Float[Array, "m n"]:
        small = self._places() * len(directions) < self._shape()[1]
        return self.dots_one_by_one(directions) if small else super().dots(directions)

    def inner(self, other: Factored) -> Float[Array, "m n"]:
        """As that of `Outer`: the sum over pairs of places, or <g_i, h_j> where that is smaller."""
        if not isinstance(other, Windows) or other.groups != self.groups:
            return super().inner(other)
        small = 2 * self._places() * other._places() <= math.prod(self._shape())
        return self._outer().inner(other._outer()) if small else super().inner(other)

    def square_total(self, weights: Float[Array, " m"] | None, columns: str | None = None) -> Float[Array, "o *k c"]:
        """As that of `Outer`: sums of products of pairs of places, or g_i^2 where that is smaller."""
        (o, k), t = self._shape(), self._places()
        if self.spreads or (t > 1 and t**2 * (o + k) > o * k):
            return super().square_total(weights, columns)
        squares = self._outer().square_total(weights, columns)
        return automatic(lambda squares: squares.reshape(self._of_weight()), squares, out_sharding=self.sharding)

    def kronecker_factors(
        self, weights: Float[Array, " m"] | None, columns: str | None = None, reduce: bool = False
    ) -> tuple[Float[Array, "..."], ...]:
        """As those of `Outer`, among a group's outputs and in a patch; of several groups, with a leading axis."""
        outer = self._outer(came_back_first=True)
        factors = outer.kronecker_factors(weights, columns, reduce)
        return factors[::-1] if self.spreads else factors

    def rotated(self, bases: tuple[Float[Array, "..."], ...]) -> Factored:
        turned = self._outer().rotated(bases)
        return turned.formed() if self.spreads else turned

    def price(self, moments: bool = False) -> int | None:
        """As that of `Outer`, for all groups: o K numbers, but none where the factors, or their pairs, hold as many."""
        (o, k), t, numbers = self._shape(), self._places(), math.prod(self._of_weight())
        if t == 1 or not (moments or worth_forming(t, o, k)):
            return None
        held = math.prod(self.dz.shape[1:]) + math.prod(self.x.shape[1:])
        return 0 if held >= numbers or (moments and t**2 * (o + k) > o * k) else numbers

    def of_patches(self) -> Outer | Stacked:
        """The same gradients with the patches put together, each place a position: those of `kronecker_factors`."""
        return self._outer(came_back_first=True)

    def _outer(self, came_back_first: bool = False) -> Outer | Stacked:
        """The same gradients as of matrices (o / g, K), or (K, o / g); stacked where there are several groups."""
        dz, x = self._long(self.dz), self._long(self.x)

        def read(dz, x):
            signals = grouped(dz, self.groups), self.window.patches(x, self.groups)
            return tuple(jnp.moveaxis(signal, 2, 0) for signal in signals)

        rows = rows_of(dz, 3)
        layout = NamedSharding(rows.mesh, PartitionSpec(None, *rows.spec))
        whole = None if self.sharding is None else NamedSharding(rows.mesh, PartitionSpec(None, None))
        dz, patches = automatic(read, dz, x, out_sharding=(layout, layout))
        of_groups = Outer(patches, dz, whole) if came_back_first and self.spreads else Outer(dz, patches, whole)
        return jax.tree.map(lambda array: array[0], of_groups) if self.groups == 1 else Stacked(of_groups)

    def _products(self, of):
        return partial(of, self.window, self.groups, self.dtype, parts_along(self.dz, 0))

    def _long(self, signal):
        return signal if self.dtype is None else signal.astype(self.dtype)

    def _places(self):
        return math.prod(self.dz.shape[1:-1])

    def _shape(self):
        return self.dz.shape[-1] // self.groups, math.prod(self._of_weight()[1:])

    def _of_weight(self):
        return self.dz.shape[-1], *self.window.size, self.x.shape[-1] // self.groups
