"""The gradient of a weight matrix, in its two factors: what came back, and what went forward."""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, DTypeLike, Float

from jaxnet.factored.diagonal import Diagonal
from jaxnet.factored.form import Factored
from jaxnet.factored.layouts import nowhere, over_columns, rows_of
from jaxnet.factored.pytrees import registered
from jaxnet.factored.sums import sum_of_outer_products
from jaxnet.factored.worth import worth_forming
from jaxnet.norms import norm, scaled, with_margin
from jaxnet.weighting import weighted


@registered(arrays=("dz", "a"), metadata=("sharding", "dtype", "uses_first"))
@dataclass(frozen=True)
class Outer(Factored):
    """The gradient of a weight matrix: that of example i is the sum over positions t of dz[i, t] a[i, t]^T, (o, i).

    Attributes:
      dz: (m, ..., o), what came back to the outputs.
      a: (m, ..., i), what went forward into the inputs.
      sharding: how the weight is laid out over devices, `jax.typeof(W).sharding`, which its gradient then is as well;
        None leaves that to JAX. A mesh with explicit axes needs it: there, dz^T a over a sharded batch is ambiguous.
      dtype: of what is read; None for that of the factors. The sum over examples takes the factors as they are.
      uses_first: whether the factors are what a scan stacked, turned round: the sum over examples and positions then
        takes them as they were stacked, where XLA would copy them.

    Example:
      >>> form = jn.per_example.Outer(jnp.ones((6, 4)), jnp.ones((6, 3)))
      >>> form.total(None).shape, form.each().shape
      ((4, 3), (6, 4, 3))
    """

    dz: Float[Array, "m *t o"]
    a: Float[Array, "m *t i"]
    sharding: jax.sharding.Sharding | None = None
    dtype: Any = None
    uses_first: bool = False

    @property
    def examples(self) -> Any:
        return self.dz.shape[0]

    @property
    def sides(self) -> tuple[int, int]:
        return 0, 1

    def total(self, weights: Float[Array, " m"] | None) -> Float[Array, "o i"]:
        self._check()
        if weights is None:
            return self._product(self.dz, self.a)
        dz, a = self.dz, self.a
        if self.dtype is not None and jnp.finfo(dz.dtype).tiny > jnp.finfo(self.dtype).tiny:
            # Weights have the long type's range, and what they meet needs it: float16's is not enough, bfloat16's is.
            dz, a = self._long(dz), self._long(a)
        return self._product(weighted(weights, dz), a)

    def each(self) -> Float[Array, "m o i"]:
        dz, a = self._with_positions()
        return jnp.einsum("mto,mti->moi", dz, a, out_sharding=self._sharding_of_each())

    def merged(self, other: Factored) -> "Outer | None":
        if not isinstance(other, Outer):
            return None
        # Each use is a further position: the sum over positions adds them.
        (dz, a), (more_dz, more_a) = self._with_positions(), other._with_positions()
        return Outer(jnp.concatenate([dz, more_dz], axis=1), jnp.concatenate([a, more_a], axis=1), self.sharding)

    def over_uses(self) -> "Outer":
        # Each use is a further position.
        return replace(self, dz=jnp.swapaxes(self.dz, 0, 1), a=jnp.swapaxes(self.a, 0, 1), uses_first=True)

    def summed_in(self, dtype: DTypeLike) -> "Outer":
        return replace(self, dtype=jnp.dtype(dtype))

    def norms(self, margin: float = 0.0) -> Float[Array, " m"]:
        """|dz_i| |a_i|; with positions the root of <g_i, g_i> in pairs of them, or |g_i| where that is cheaper.

        Positions may cancel: the margin is of `terms`.
        """
        if self._positions() == 1:
            dz, a = self._with_positions()
            return norm(dz, (1, 2)) * norm(a, (1, 2)) * (1 + margin)
        if self._factors_are_large():
            return super().terms() + margin * self.terms()
        unit, scale = self.scaled()
        return with_margin(unit.paired(unit), margin, unit.terms()) * scale

    def terms(self) -> Float[Array, " m"]:
        """sum_t |dz_it| |a_it|."""
        dz, a = self._with_positions()
        return (norm(dz, (2,)) * norm(a, (2,))).sum(1)

    def scaled(self) -> tuple["Outer", Float[Array, " m"]]:
        (dz, dz_scale), (a, a_scale) = (scaled(signal, (1, 2)) for signal in self._with_positions())
        return Outer(dz, a, self.sharding), (dz_scale * a_scale).squeeze((1, 2))

    def paired_by_factors(self, other: Factored) -> Float[Array, " m"] | None:
        """sum_ts <dz_it, dz'_is> <a_it, a'_is>, the Gram matrices of the positions."""
        if not isinstance(other, Outer):
            return None
        (o, i), t, s = self._shape(), self._positions(), other._positions()
        if t * s * (o + i) > (t + s) * o * i:
            return None
        (dz, a), (other_dz, other_a) = self._with_positions(), other._with_positions()
        rows = rows_of(dz, 3)
        between_dz = jnp.einsum("mto,mso->mts", dz, other_dz, out_sharding=rows)
        between_a = jnp.einsum("mti,msi->mts", a, other_a, out_sharding=rows)
        return (between_dz * between_a).sum((1, 2))

    def along(self, directions: Float[Array, "m o i"]) -> Float[Array, " m"]:
        """sum_t dz_it^T D_i a_it."""
        dz, a = self._with_positions()
        dz_d = jnp.einsum("mto,moi->mti", dz, directions.astype(dz.dtype), out_sharding=rows_of(a, 3))
        return (dz_d * a).sum((1, 2))

    def dot(self, direction: Float[Array, "o i"]) -> Float[Array, " m"]:
        """sum_t dz_it^T D a_it."""
        self._check()
        dz, a = self._long(self.dz), self._long(self.a)
        dz_d = jnp.matmul(dz, direction.astype(dz.dtype), out_sharding=jax.typeof(a).sharding)
        return (dz_d * a).sum(axis=tuple(range(1, a.ndim)))

    def dots(self, directions: Float[Array, "n o i"]) -> Float[Array, "m n"]:
        """Each sum_t dz_it^T D_j a_it; or of g_i formed, where that is fewer numbers, and T times fewer operations."""
        small = self._positions() * len(directions) < self._shape()[0]
        return self.dots_one_by_one(directions) if small else super().dots(directions)

    def inner(self, other: Factored) -> Float[Array, "m n"]:
        """<dz_i, dz'_j> <a_i, a'_j>; with positions the sum over pairs of them, or <g_i, h_j> where that is smaller."""
        self._check()
        if not isinstance(other, Outer) or not self._is_small(2 * self._positions() * other._positions()):
            return super().inner(other)
        (dz, a), (other_dz, other_a) = self._with_positions(), other._with_positions()
        rows = rows_of(dz, 4)
        between_dz = jnp.einsum("mto,nso->mtns", dz, other_dz, out_sharding=rows)
        between_a = jnp.einsum("mti,nsi->mtns", a, other_a, out_sharding=rows)
        return (between_dz * between_a).sum((1, 3))

    def square_total(self, weights: Float[Array, " m"] | None, columns: str | None = None) -> Float[Array, "o i"]:
        """(dz^2)^T a^2; with positions sum_i (dz_it dz_is)^T (a_it a_is), or g_i^2 where that is smaller."""
        self._check()
        if self._positions() > 1 and not self._is_small(self._positions() ** 2 * sum(self._shape())):
            return super().square_total(weights, columns)
        dz_dz, a_a = (signal[:, :, None] * signal[:, None] for signal in self._with_positions())
        if weights is not None:
            dz_dz = weighted(weights, dz_dz)
        # The sum over columns comes before the product, which then is one and not one for each.
        return self._product(over_columns(dz_dz, columns), a_a)

    def squares(self, columns: str | None = None, weights: Float[Array, " m"] | None = None) -> Float[Array, "m o i"]:
        self._check()
        if self._positions() > 1:
            return super().squares(columns, weights)
        dz, a = self._with_positions()
        dz_dz = dz**2 if weights is None else weighted(weights, dz**2)
        return Outer(over_columns(dz_dz, columns), a**2, self.sharding).each()

    def kronecker_factors(
        self, weights: Float[Array, " m"] | None, columns: str | None = None, reduce: bool = False
    ) -> tuple[Float[Array, "o o"], Float[Array, "i i"]]:
        """sum_it weights_i dz_it dz_it^T and (1/T) sum_it weights_i a_it a_it^T, T positions: KFAC-expand.

        KFAC-reduce is the same of sum_t dz_it and (1/T) sum_t a_it, as of one position.
        """
        if reduce:
            return self._pooled().kronecker_factors(weights, columns)
        dz, a = self._with_positions()
        among_outputs, among_inputs = (
            sum_of_outer_products(s if weights is None else weighted(weights, s), s, out_sharding=nowhere(s))
            for s in (dz, a)
        )
        examples = self.examples if weights is None else 1
        return over_columns(among_outputs, columns) / examples, among_inputs / (examples * self._positions())

    def rotated(self, bases: tuple[Any, ...]) -> "Outer":
        """Each factor in its own basis; unit vectors stay what they are."""
        dz, a = (
            self._long(signal) if isinstance(basis, Diagonal) else self._long(signal) @ basis
            for signal, basis in zip((self.dz, self.a), bases, strict=True)
        )
        return Outer(dz, a, self.sharding)

    def price(self, moments: bool = False) -> int | None:
        """o i numbers for an example, but none where the factors, or their pairs, hold as many.

        Norms and a total are those of `worth_forming`. A second moment of pairs takes T times that of what is formed.
        """
        (o, i), t = self._shape(), self._positions()
        if t == 1 or not (moments or worth_forming(t, o, i)):
            return None
        free = t**2 * (o + i) > o * i if moments else self._factors_are_large()
        return 0 if free else o * i

    def _pooled(self):
        dz, a = self._with_positions()
        return Outer(dz.sum(1), a.mean(1), self.sharding)

    def _product(self, dz, a):
        """dz^T a over all axes but the last."""
        if self.uses_first:
            dz, a = (jnp.swapaxes(signal, 0, 1) for signal in (dz, a))
        return sum_of_outer_products(dz, a, out_sharding=self.sharding, preferred_element_type=self.dtype)

    def _with_positions(self):
        """dz and a in the type of what is read, with one axis of positions, of length 1 where there are none."""
        self._check()
        signals = self._long(self.dz), self._long(self.a)
        return tuple(s.reshape(s.shape[0], math.prod(s.shape[1:-1]), s.shape[-1]) for s in signals)

    def _long(self, signal):
        return signal if self.dtype is None else signal.astype(self.dtype)

    def _positions(self):
        return math.prod(self.dz.shape[1:-1])

    def _shape(self):
        return self.dz.shape[-1], self.a.shape[-1]

    def _is_small(self, numbers):
        """Whether so many numbers, for each example or pair, are no more than its gradient has."""
        return numbers <= math.prod(self._shape())

    def _factors_are_large(self):
        """Whether a gradient formed takes no more operations than pairs of positions, nor numbers than its factors."""
        (o, i), t = self._shape(), self._positions()
        return t * (o + i) >= o * i

    def _sharding_of_each(self):
        if not isinstance(self.sharding, NamedSharding):
            return None
        rows, *_ = rows_of(self.dz, 1).spec
        return NamedSharding(self.sharding.mesh, PartitionSpec(rows, *(*self.sharding.spec, None, None)[:2]))

    def _check(self):
        if self.dz.ndim < 2 or self.dz.shape[:-1] != self.a.shape[:-1]:
            raise ValueError(
                "Outer: expected dz (m, ..., o) and a (m, ..., i) with the same examples and positions, "
                f"got {self.dz.shape} and {self.a.shape}"
            )
