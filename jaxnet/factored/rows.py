"""The gradient of a table whose rows are looked up by ids: what came back to each id, and the ids."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Int

from jaxnet.factored.diagonal import Diagonal
from jaxnet.factored.form import Factored
from jaxnet.factored.layouts import laid_out, nowhere, over_columns, rows_of
from jaxnet.factored.outer import Outer
from jaxnet.factored.pytrees import registered
from jaxnet.factored.sums import sum_of_outer_products
from jaxnet.norms import long_type, norm, scaled
from jaxnet.weighting import weighted


@registered(arrays=("dz", "ids"), metadata=("size", "sharding", "dtype"))
@dataclass(frozen=True)
class Rows(Factored):
    """The gradient of a table: that of example i has the sum of dz[i, t] over positions t with ids[i, t] = v in row v.

    It is e_v dz_t^T for the unit vector of an id: an `Outer` whose one factor is known by a number. No example's table
    is formed but where `each` or the like asks for it. Ids out of range stand for no row.

    Attributes:
      dz: (m, ..., d), what came back to the rows that were looked up.
      ids: (m, ...), which rows.
      size: how many rows the table has.
      sharding: how the table is laid out over devices, `jax.typeof(W).sharding`, as for `Outer`.
      dtype: of what is read; None for that of dz.

    Example:
      >>> form = jn.per_example.Rows(jnp.ones((1, 3, 2)), jnp.array([[1, 1, 0]]), 4)
      >>> form.each()[0]
      Array([[1., 1.],
             [2., 2.],
             [0., 0.],
             [0., 0.]], dtype=float32)
    """

    dz: Float[Array, "m *t d"]
    ids: Int[Array, "m ..."]
    size: int
    sharding: jax.sharding.Sharding | None = None
    dtype: Any = None

    @property
    def examples(self) -> Any:
        return self.dz.shape[0]

    @property
    def sides(self) -> tuple[int, int]:
        """Of its transpose, which maps unit vectors of ids to rows: as of `unembedding`, with the same table."""
        return 0, 1

    def total(self, weights: Float[Array, " m"] | None) -> Float[Array, "v d"]:
        self._check()
        dz = self._long()
        # The ids as they are: what is out of range is dropped.
        return self._in_rows(dz if weights is None else weighted(weights, dz), self.ids).astype(self._dtype())

    def each(self) -> Float[Array, "m v d"]:
        return self._each(*self._with_positions()).astype(self._dtype())

    def merged(self, other: Factored) -> "Rows | None":
        if not isinstance(other, Rows):
            return None
        # Each use is a further position: the sum over positions adds them.
        dz, ids = (
            jnp.concatenate([one, more.astype(one.dtype)], axis=1)
            for one, more in zip(self._with_positions(), other._with_positions(), strict=True)
        )
        return Rows(dz, ids, self.size, self.sharding, None if dz.dtype == self._dtype() else self._dtype())

    def over_uses(self) -> "Rows":
        # Each use is a further position.
        return replace(self, dz=jnp.swapaxes(self.dz, 0, 1), ids=jnp.swapaxes(self.ids, 0, 1))

    def summed_in(self, dtype: DTypeLike) -> "Rows":
        return replace(self, dtype=jnp.dtype(dtype))

    def norms(self, margin: float = 0.0) -> Float[Array, " m"]:
        """The norm of the rows. Positions with one id may cancel: the margin is of `terms`."""
        return norm(self._by_row()[0], (1, 2)) + margin * self.terms()

    def terms(self) -> Float[Array, " m"]:
        """sum_t |dz_it|."""
        dz, _ = self._with_positions()
        return norm(dz, (2,)).sum(1)

    def scaled(self) -> "tuple[Rows, Float[Array, ' m']]":
        dz, ids = self._with_positions()
        unit, scale = scaled(dz, (1, 2))
        return Rows(unit, ids, self.size, self.sharding), scale.squeeze((1, 2))

    def paired_by_factors(self, other: Factored) -> Float[Array, " m"] | None:
        """sum_ts <dz_it, dz'_is> of pairs of one id; with an `Outer` sum_ts dz'_is[id_it] <a'_is, dz_it>.

        None where the positions of one are more than the table has rows, which then are fewer numbers.
        """
        (dz, ids), rows = self._with_positions(), rows_of(self.dz, 3)
        if isinstance(other, Rows) and other._positions() <= self.size:
            other_dz, other_ids = other._with_positions()
            share = ids[:, :, None] == other_ids[:, None].astype(ids.dtype)
        elif isinstance(other, Outer) and self._positions() <= self.size:
            of_outputs, other_dz = other._with_positions()
            share = laid_out(_entries, rows)(of_outputs, ids)
        else:
            return None
        between = jnp.einsum("mtd,msd->mts", dz, other_dz.astype(dz.dtype), out_sharding=rows)
        return (share.astype(dz.dtype) * between).sum((1, 2))

    def inner_by_factors(self, other: Factored) -> Float[Array, "m n"] | None:
        """As `paired`, for all pairs of examples, where pairs of positions are no more than the table has rows."""
        if not isinstance(other, Rows | Outer) or self._positions() * math.prod(other.dz.shape[1:-1]) > self.size:
            return None
        (dz, ids), rows = self._with_positions(), rows_of(self.dz, 4)
        if isinstance(other, Rows):
            other_dz, other_ids = other._with_positions()
            share = laid_out(_with_one_id, rows)(ids, other_ids)
        else:
            of_outputs, other_dz = other._with_positions()
            share = laid_out(_entries_of_all, rows)(of_outputs, ids)
        between = jnp.einsum("mtd,nsd->mtns", dz, other_dz.astype(dz.dtype), out_sharding=rows)
        return (share.astype(dz.dtype) * between).sum((1, 3))

    def along(self, directions: Float[Array, "m v d"]) -> Float[Array, " m"]:
        """sum_t <dz_it, D_i[id_it]>."""
        dz, ids = self._with_positions()
        looked_up = laid_out(jax.vmap(_looked_up), rows_of(dz, 3))(directions, ids)
        return (dz * looked_up.astype(dz.dtype)).sum((1, 2))

    def dot(self, direction: Float[Array, "v d"]) -> Float[Array, " m"]:
        """sum_t <dz_it, D[id_it]>."""
        dz, ids = self._with_positions()
        return (dz * laid_out(_looked_up, rows_of(dz, 3))(direction, ids).astype(dz.dtype)).sum((1, 2))

    def dots(self, directions: Float[Array, "n v d"]) -> Float[Array, "m n"]:
        return self.dots_one_by_one(directions)

    def square_total(self, weights: Float[Array, " m"] | None, columns: str | None = None) -> Float[Array, "v d"]:
        sums, rows = self._by_row()
        squares = sums**2 if weights is None else weighted(weights, sums**2)
        return self._in_rows(over_columns(squares, columns), rows)

    def squares(self, columns: str | None = None, weights: Float[Array, " m"] | None = None) -> Float[Array, "m v d"]:
        sums, rows = self._by_row()
        squares = sums**2 if weights is None else weighted(weights, sums**2)
        return self._each(over_columns(squares, columns), rows)

    def kronecker_factors(
        self, weights: Float[Array, " m"] | None, columns: str | None = None, reduce: bool = False
    ) -> tuple[Diagonal, Float[Array, "d d"]]:
        """(1/T) sum_it weights_i [id_it = v], and sum_it weights_i dz_it dz_it^T: KFAC-expand of unit vectors.

        KFAC-reduce averages an example's unit vectors: of that factor the diagonal, sum_i weights_i (n_iv / T)^2 for n
        positions with the id v. The other is that of sum_t dz_it.
        """
        dz, _ = self._with_positions()
        dz = dz.sum(1, keepdims=True) if reduce else dz
        examples = self.examples if weights is None else 1
        among_outputs = sum_of_outer_products(
            dz if weights is None else weighted(weights, dz), dz, out_sharding=nowhere(dz)
        )
        shares, ids = self._shares(reduce)
        counts = self._in_rows(shares if weights is None else weighted(weights, shares), ids, nowhere(dz))
        return Diagonal(counts[:, 0] / examples), over_columns(among_outputs, columns) / examples

    def matrix_factors(
        self, weights: Float[Array, " m"] | None, columns: str | None = None
    ) -> tuple[Diagonal, Float[Array, "d d"]]:
        return self.kronecker_factors(weights, columns)

    def rotated(self, bases: tuple[Any, ...]) -> "Rows":
        """The unit vectors of ids stay, as the eigenvectors of a diagonal are."""
        _, basis = bases
        dz, ids = self._with_positions()
        return Rows(dz @ basis, ids, self.size, self.sharding)

    def _by_row(self):
        """(sums, rows): dz added up over positions of one id, each at one of them; 0 at the others.

        Where the table has no more rows than there are positions, all its rows.
        """
        (dz, ids), positions = self._with_positions(), self._positions()
        if positions <= 1:
            return dz, ids
        if self.size <= positions:
            return self._each(dz, ids), jnp.broadcast_to(jnp.arange(self.size)[None], (dz.shape[0], self.size))
        first = jnp.argmax(ids[:, :, None] == ids[:, None], axis=-1)
        return laid_out(jax.vmap(partial(_added_up, positions)), rows_of(dz, 3))(dz, first), ids

    def _shares(self, reduce):
        """What each position adds to the factor among ids: 1/T, or, once for an id in an example, (n / T)^2."""
        ones, positions = jnp.ones_like(self._long()[..., :1]), self._positions()
        if not reduce:
            return ones / positions, self.ids
        sums, rows = replace(self, dz=ones)._by_row()
        return (sums / positions) ** 2, rows

    def _in_rows(self, values, ids, sharding=None):
        """Added up in the rows of a table, over examples and positions."""
        flat = values.shape[-1]

        def added_up(values, ids):
            return _added_up(self.size, values.reshape(-1, flat), ids.reshape(-1))

        return laid_out(added_up, sharding or self.sharding or nowhere(self.dz))(values, ids)

    def _each(self, values, ids):
        return laid_out(jax.vmap(partial(_added_up, self.size)), rows_of(self.dz, 3))(values, ids)

    def _with_positions(self):
        """dz, in float32 at least, and the ids; both 0 where an id is out of range; with one axis of positions."""
        self._check()
        ids, kept = self.ids.reshape(self.ids.shape[0], -1), self._in_range()
        dz = self._long().reshape(*ids.shape, self.dz.shape[-1])
        return jnp.where(kept[:, :, None], dz, jnp.zeros_like(dz)), jnp.where(kept, ids, jnp.zeros_like(ids))

    def _long(self):
        return self.dz.astype(long_type(self._dtype()))

    def _in_range(self):
        ids = self.ids.reshape(self.ids.shape[0], -1)
        return (ids >= 0) & (ids < self.size)

    def _positions(self):
        return math.prod(self.ids.shape[1:])

    def _dtype(self):
        return self.dz.dtype if self.dtype is None else self.dtype

    def _check(self):
        if self.dz.ndim < 2 or self.dz.shape[:-1] != self.ids.shape:
            raise ValueError(
                "Rows: expected dz (m, ..., d) and ids (m, ...) with the same examples and positions, "
                f"got {self.dz.shape} and {self.ids.shape}"
            )


def _added_up(size, values, places):
    return (
        jnp.zeros((size, values.shape[-1]), values.dtype)
        .at[places]
        .add(values, mode="drop", wrap_negative_indices=False)
    )


def _looked_up(table, ids):
    return table[ids]


def _entries(of_outputs, ids):
    """(m, s, v) at ids (m, t): (m, t, s)."""
    return jnp.swapaxes(jnp.take_along_axis(of_outputs, ids[:, None], axis=2), 1, 2)


def _entries_of_all(of_outputs, ids):
    """(n, s, v) at ids (m, t), every example's at every other's: (m, t, n, s)."""
    return jnp.moveaxis(of_outputs[:, :, ids], (0, 1), (2, 3))


def _with_one_id(ids, other_ids):
    return ids[:, :, None, None] == other_ids[None, None].astype(ids.dtype)
