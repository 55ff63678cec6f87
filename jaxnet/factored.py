"""Per-example gradients in factored form: the two forms that a parameter's gradient takes, and their algebra.

A layer's `backward` never multiplies dz by a. For each parameter it returns the two factors, from which the gradient
g_i of every single example could be formed. Sums, norms and inner products of the g_i are contractions of the factors;
what they have in common with the lesson is dW = (1/m) dZ^T A, which is one of them.

Axes: m examples (always the first), then positions t, s, if any, then o outputs or i inputs.
"""

import abc
import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, DTypeLike, Float

from jaxnet.norms import long_type, norm, root, scaled
from jaxnet.weighting import counting, weighted


class Factored(abc.ABC):
    """One parameter's per-example gradients: a leaf of the `dparams` that a backward pass returns.

    Whatever can tell `examples`, `total`, `each` and `add` can be read in every way; the other methods form the
    gradients by `each`, and are overridden where the factors allow for less.
    """

    @property
    @abc.abstractmethod
    def examples(self) -> Any:
        """The number of examples m: an integer, or a symbolic dimension where a function is exported for any m."""

    @abc.abstractmethod
    def total(self, weights: Float[Array, " m"] | None) -> Float[Array, "..."]:
        """sum_i weights_i g_i over the examples' gradients g_i, in the parameter's shape; None stands for ones."""

    @abc.abstractmethod
    def each(self) -> Float[Array, "m ..."]:
        """The g_i themselves, (m, *shape of the parameter)."""

    @abc.abstractmethod
    def add(self, other: "Factored") -> "Factored":
        """The per-example gradients of a parameter that is used twice: those of both uses, added."""

    @property
    def sides(self) -> tuple[int, int] | None:
        """The parameter's axes of outputs and of inputs, where it is a weight, which maps the ones to the others.

        None where it is none, such as a bias or a gain. Axes before both count weights that are stacked.
        """
        return None

    def summed_in(self, dtype: DTypeLike) -> "Factored":
        """The same gradients, with sums, norms and products of them in another type; see `jaxnet.mixed_precision`."""
        return jax.tree.map(
            lambda array: array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array, self
        )

    def counting(self, weights: Float[Array, " m"]) -> "Factored":
        """The same gradients, but 0 for examples of weight 0, whatever their factors hold."""
        return jax.tree.map(partial(counting, weights), self)

    def long(self) -> "Factored":
        """The same gradients, with what is read of them in float32 at least."""
        return self.summed_in(long_type(self.dtype_of_total()))

    def dtype_of_total(self) -> DTypeLike:
        """The type of the parameter's gradient."""
        return jax.eval_shape(lambda leaf: leaf.total(None), self).dtype

    def norms(self, margin: float = 0.0) -> Float[Array, " m"]:
        """|g_i|, however large or small.

        Args:
          margin: how much rounding may change a sum, in units of the sum of its terms' magnitudes. With that added,
            what is returned is at least the length that `total` gives to the example.
        """
        g = self.each()
        return norm(g, tuple(range(1, g.ndim))) * (1 + margin)

    def dot(self, direction: Float[Array, "..."]) -> Float[Array, " m"]:
        """<g_i, direction> with one direction, in the parameter's shape, for all examples."""
        g = self.each()
        return (g * direction[None].astype(g.dtype)).sum(axis=tuple(range(1, g.ndim)))

    def inner(self, other: "Factored") -> Float[Array, "m n"]:
        """<g_i, h_j> for every pair of an example here and an example of the other batch."""
        g, h = self.each(), other.each()
        summed = tuple(range(1, g.ndim))
        return lax.dot_general(g, h, ((summed, summed), ((), ())), out_sharding=_rows_of(g, 2))

    def square_total(self, weights: Float[Array, " m"] | None, columns: str | None = None) -> Float[Array, "..."]:
        """sum_i weights_i g_i^2, element by element, in the parameter's shape.

        Args:
          weights: (m,); None stands for ones.
          columns: the name of a `jax.vmap` axis, over whose members is summed as well.
        """
        squares = self.each() ** 2
        if weights is not None:
            squares = weighted(weights, squares)
        return _over_columns(squares, columns).sum(axis=0)

    def squares(self, columns: str | None = None) -> Float[Array, "m ..."]:
        """g_i^2, element by element, (m, *shape of the parameter); summed over columns as in `square_total`."""
        return _over_columns(self.each() ** 2, columns)

    def block(self, columns: str | None = None) -> Float[Array, "p p"]:
        """sum_i vec(g_i) vec(g_i)^T for a parameter of p numbers, row-major; over columns as in `square_total`."""
        g = self.each()
        g = g.reshape(g.shape[0], -1)
        return _over_columns(jnp.matmul(g.T, g, out_sharding=_nowhere(g)), columns)

    def kronecker_factors(
        self, weights: Float[Array, " m"] | None, columns: str | None = None
    ) -> tuple[Float[Array, "..."], ...]:
        """Matrices whose Kronecker product stands for sum_i weights_i vec(g_i) vec(g_i)^T; here that matrix itself.

        Args:
          weights: (m,), at least 0; None stands for 1/m.
          columns: as in `square_total`.
        """
        if weights is None:
            return (self.block(columns) / self.examples,)
        g = self.each()
        return (Each(weighted(jnp.sqrt(weights), g), g.ndim - 1).block(columns),)

    def matrix_factors(
        self, weights: Float[Array, " m"] | None, columns: str | None = None
    ) -> tuple[Float[Array, "t t"], Float[Array, "d d"]]:
        """For a matrix (t, d) that is no weight: B_ts = sum_d F_tdsd and A_de = sum_t F_tdte / tr F.

        F is the matrix of `kronecker_factors`, with the same arguments. It is not formed: with G_i the gradients
        B = sum_i weights_i G_i G_i^T and A = sum_i weights_i G_i^T G_i / tr B.
        """
        g = self.each()
        g = g / self.examples**0.5 if weights is None else weighted(jnp.sqrt(weights), g)
        among_rows, among_columns = (
            _over_columns(jnp.einsum(axes, g, g, out_sharding=_nowhere(g)), columns)
            for axes in ("mtd,msd->ts", "mtd,mte->de")
        )
        trace = jnp.trace(among_rows)
        # A parameter that gets no gradient has matrices of zeros.
        return among_rows, among_columns / jnp.where(trace > 0, trace, jnp.ones_like(trace))

    def rotated(self, bases: tuple[Float[Array, "..."], ...]) -> "Factored":
        """The gradients in other coordinates: an orthogonal matrix for each of `kronecker_factors`, axes as columns."""
        (basis,) = bases
        g = self.each()
        return Each(g.reshape(g.shape[0], -1) @ basis)


@partial(jax.tree_util.register_dataclass, data_fields=["dz", "a"], meta_fields=["sharding", "dtype"])
@dataclass(frozen=True)
class Outer(Factored):
    """The gradient of a weight matrix: that of example i is the sum over positions t of dz[i, t] a[i, t]^T, (o, i).

    Attributes:
      dz: (m, ..., o), what came back to the outputs.
      a: (m, ..., i), what went forward into the inputs.
      sharding: how the weight is laid out over devices, `jax.typeof(W).sharding`, which its gradient then is as well;
        None leaves that to JAX. A mesh with explicit axes needs it: there, dz^T a over a sharded batch is ambiguous.
      dtype: of what is read; None for that of the factors. The sum over examples takes the factors as they are.
    """

    dz: Float[Array, "m *t o"]
    a: Float[Array, "m *t i"]
    sharding: jax.sharding.Sharding | None = None
    dtype: Any = None

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

    def add(self, other: Factored) -> "Outer":
        if not isinstance(other, Outer):
            raise ValueError(f"Outer.add: expected another Outer, got {type(other).__name__}")
        # Each use is a further position: the sum over positions adds them.
        (dz, a), (more_dz, more_a) = self._with_positions(), other._with_positions()
        return Outer(jnp.concatenate([dz, more_dz], axis=1), jnp.concatenate([a, more_a], axis=1), self.sharding)

    def summed_in(self, dtype: DTypeLike) -> "Outer":
        return replace(self, dtype=jnp.dtype(dtype))

    def norms(self, margin: float = 0.0) -> Float[Array, " m"]:
        """|dz_i| |a_i|; with positions the root of sum_ts <dz_it, dz_is> <a_it, a_is>, or |g_i| where that is smaller.

        Positions may cancel: the margin is of sum_t |dz_it| |a_it|, and under the root of its square.
        """
        dz, a = self._with_positions()
        if self._positions() == 1:
            return norm(dz, (1, 2)) * norm(a, (1, 2)) * (1 + margin)
        if not self._is_small(2 * self._positions() ** 2):
            return super().norms() + margin * (norm(dz, (2,)) * norm(a, (2,))).sum(1)
        (dz, dz_scale), (a, a_scale) = scaled(dz, (1, 2)), scaled(a, (1, 2))
        rows = _rows_of(dz, 3)
        among_dz = jnp.einsum("mto,mso->mts", dz, dz, out_sharding=rows)
        among_a = jnp.einsum("mti,msi->mts", a, a, out_sharding=rows)
        terms = (norm(dz, (2,)) * norm(a, (2,))).sum(1)
        squares = jnp.maximum((among_dz * among_a).sum((1, 2)), 0) + margin * terms**2
        return root(squares) * (dz_scale * a_scale).squeeze((1, 2))

    def dot(self, direction: Float[Array, "o i"]) -> Float[Array, " m"]:
        """sum_t dz_it^T D a_it."""
        self._check()
        dz, a = self._long(self.dz), self._long(self.a)
        dz_d = jnp.matmul(dz, direction.astype(dz.dtype), out_sharding=jax.typeof(a).sharding)
        return (dz_d * a).sum(axis=tuple(range(1, a.ndim)))

    def inner(self, other: Factored) -> Float[Array, "m n"]:
        """<dz_i, dz'_j> <a_i, a'_j>; with positions the sum over pairs of them, or <g_i, h_j> where that is smaller."""
        self._check()
        if not isinstance(other, Outer) or not self._is_small(2 * self._positions() * other._positions()):
            return super().inner(other)
        (dz, a), (other_dz, other_a) = self._with_positions(), other._with_positions()
        rows = _rows_of(dz, 4)
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
        return self._product(_over_columns(dz_dz, columns), a_a)

    def squares(self, columns: str | None = None) -> Float[Array, "m o i"]:
        self._check()
        if self._positions() > 1:
            return super().squares(columns)
        dz, a = self._with_positions()
        return Outer(_over_columns(dz**2, columns), a**2, self.sharding).each()

    def kronecker_factors(
        self, weights: Float[Array, " m"] | None, columns: str | None = None
    ) -> tuple[Float[Array, "o o"], Float[Array, "i i"]]:
        """sum_it weights_i dz_it dz_it^T and (1/T) sum_it weights_i a_it a_it^T, T positions: KFAC-expand."""
        dz, a = self._with_positions()
        among_outputs, among_inputs = (
            jnp.einsum("mto,mtp->op", s if weights is None else weighted(weights, s), s, out_sharding=_nowhere(s))
            for s in (dz, a)
        )
        examples = self.examples if weights is None else 1
        return _over_columns(among_outputs, columns) / examples, among_inputs / (examples * self._positions())

    def rotated(self, bases: tuple[Float[Array, "..."], ...]) -> "Outer":
        outputs_basis, inputs_basis = bases
        return Outer(self._long(self.dz) @ outputs_basis, self._long(self.a) @ inputs_basis, self.sharding)

    def _product(self, dz, a):
        """dz^T a over all axes but the last."""
        summed = tuple(range(dz.ndim - 1))
        layout = {"out_sharding": self.sharding, "preferred_element_type": self.dtype}
        return lax.dot_general(dz, a, ((summed, summed), ((), ())), **layout)

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

    def _sharding_of_each(self):
        if not isinstance(self.sharding, NamedSharding):
            return None
        rows, *_ = _rows_of(self.dz, 1).spec
        return NamedSharding(self.sharding.mesh, PartitionSpec(rows, *(*self.sharding.spec, None, None)[:2]))

    def _check(self):
        if self.dz.ndim < 2 or self.dz.shape[:-1] != self.a.shape[:-1]:
            raise ValueError(
                "Outer: expected dz (m, ..., o) and a (m, ..., i) with the same examples and positions, "
                f"got {self.dz.shape} and {self.a.shape}"
            )


@partial(jax.tree_util.register_dataclass, data_fields=["g"], meta_fields=["ndim"])
@dataclass(frozen=True)
class Each(Factored):
    """The gradient of any other parameter, as it is: that of example i is g[i], summed over positions.

    Attributes:
      g: (m, ..., *shape of the parameter); the axes between are positions.
      ndim: how many axes the parameter has: 1 for a bias or a gain, 0 for a scalar.
    """

    g: Float[Array, "m ..."]
    ndim: int = field(default=1)

    @property
    def examples(self) -> Any:
        return self.g.shape[0]

    def total(self, weights: Float[Array, " m"] | None) -> Float[Array, "..."]:
        self._check()
        g = self.g if weights is None else weighted(weights, self.g)
        return g.sum(axis=tuple(range(g.ndim - self.ndim)))

    def each(self) -> Float[Array, "m ..."]:
        self._check()
        return self.g.sum(axis=tuple(range(1, self.g.ndim - self.ndim)))

    def norms(self, margin: float = 0.0) -> Float[Array, " m"]:
        """|g_i|; positions may cancel: the margin is of sum_t |g_it|."""
        self._check()
        positions = tuple(range(1, self.g.ndim - self.ndim))
        if not positions:
            return super().norms(margin)
        of_terms = norm(self.g, tuple(range(self.g.ndim - self.ndim, self.g.ndim)))
        return super().norms() + margin * of_terms.sum(positions)

    def add(self, other: Factored) -> "Each":
        if not isinstance(other, Each):
            raise ValueError(f"Each.add: expected another Each, got {type(other).__name__}")
        return Each(self.each() + other.each(), self.ndim)

    def _check(self):
        if self.g.ndim < 1 + self.ndim:
            raise ValueError(
                f"Each: expected g (m, ..., *parameter) for a parameter with {self.ndim} axes, got shape "
                f"{self.g.shape}; ndim says how many axes the parameter has"
            )


def map_leaves(read: Any, dparams: Any, *others: Any) -> Any:
    """`jax.tree.map` that takes each parameter's factored gradients as one leaf, or what else of them can be added."""
    return jax.tree.map(read, dparams, *others, is_leaf=lambda leaf: hasattr(leaf, "add"))


def _over_columns(values, columns):
    # What lax.psum says, in two steps: with explicit mesh axes, psum over a vmap axis fails in JAX 0.10.
    return values if columns is None else lax.all_gather(values, columns).sum(axis=0)


def _nowhere(signal):
    """The layout of a matrix that every device has."""
    return NamedSharding(jax.typeof(signal).sharding.mesh, PartitionSpec(None, None))


def _rows_of(signal, ndim):
    """The layout, with so many axes, in which only the examples are spread, as those of the signal are."""
    sharding = jax.typeof(signal).sharding
    rows = (*sharding.spec, None)[0]
    return NamedSharding(sharding.mesh, PartitionSpec(rows, *(None,) * (ndim - 1)))
