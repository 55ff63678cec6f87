"""The gradient of a parameter that is used in unlike ways: g + h, each in its own form."""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from jaxnet.factored.diagonal import Diagonal
from jaxnet.factored.each import Each
from jaxnet.factored.form import Factored
from jaxnet.factored.layouts import laid_out, nowhere, over_columns
from jaxnet.factored.pytrees import registered
from jaxnet.factored.rows import Rows
from jaxnet.factored.sums import sum_of_outer_products
from jaxnet.factored.windows import Windows
from jaxnet.norms import with_margin
from jaxnet.weighting import weighted


@registered(arrays=("forms",))
@dataclass(frozen=True)
class Sum(Factored):
    """The per-example gradients of one parameter, added up from several uses of it.

    What is linear in g_i is read of each form and added; |g_i|^2 is the sum of <g_i, h_i> over pairs of forms. Squares
    of single numbers take the sum formed, and so do its Kronecker factors, which are one, the whole block; or two, as
    `matrix_factors` has them, where one use looks up rows, so that there is nothing of (v d)^2 numbers.

    Attributes:
      forms: of unlike kinds; `add` merges those that are alike.

    Example:
      >>> rows = jn.per_example.Rows(jnp.ones((1, 3, 2)), jnp.array([[1, 1, 0]]), 4)
      >>> form = jn.per_example.add(rows, jn.per_example.Outer(jnp.ones((1, 4)), jnp.ones((1, 2))))
      >>> type(form).__name__, isinstance(form, jn.per_example.Factored)
      ('Sum', True)
      >>> form.each()[0]
      Array([[2., 2.],
             [3., 3.],
             [1., 1.],
             [1., 1.]], dtype=float32)
    """

    forms: tuple[Factored, ...]

    @property
    def examples(self) -> Any:
        return self.forms[0].examples

    @property
    def sides(self) -> tuple[int, int] | None:
        """Those on which all uses agree."""
        first, *others = (form.sides for form in self.forms)
        return first if all(sides == first for sides in others) else None

    def total(self, weights: Float[Array, " m"] | None) -> Float[Array, "..."]:
        return _sum([form.total(weights) for form in self.forms])

    def each(self) -> Float[Array, "m ..."]:
        return _sum([form.each() for form in self.forms])

    def add(self, other: Factored) -> "Sum":
        forms = list(self.forms)
        for more in other.forms if isinstance(other, Sum) else (other,):
            merged = ((k, both) for k, form in enumerate(forms) if (both := form.merged(more)) is not None)
            place, form = next(merged, (len(forms), more))
            forms[place : place + 1] = [form]
        return Sum(tuple(forms))

    def over_uses(self) -> "Sum":
        return Sum(tuple(form.over_uses() for form in self.forms))

    def summed_in(self, dtype: DTypeLike) -> "Sum":
        return Sum(tuple(form.summed_in(dtype) for form in self.forms))

    def counting(self, weights: Float[Array, " m"]) -> "Sum":
        return Sum(tuple(form.counting(weights) for form in self.forms))

    def norms(self, margin: float = 0.0) -> Float[Array, " m"]:
        """The root of sum_kl <g_ik, g_il> over the forms k and l. They may cancel: the margin is of `terms`."""
        units, scales = zip(*(form.scaled() for form in self.forms), strict=True)
        largest = jnp.stack(scales).max(0)
        shares = [scale / largest for scale in scales]
        with_shares = list(zip(shares, units, strict=True))
        squares = [(share * unit.norms()) ** 2 for share, unit in with_shares]
        squares += [2 * s * r * g.paired(h) for (s, g), (r, h) in combinations(with_shares, 2)]
        terms = _sum([share * unit.terms() for share, unit in with_shares])
        return with_margin(_sum(squares), margin, terms) * largest

    def terms(self) -> Float[Array, " m"]:
        return _sum([form.terms() for form in self.forms])

    def paired_by_factors(self, other: Factored) -> Float[Array, " m"]:
        return _sum([form.paired(other) for form in self.forms])

    def along(self, directions: Float[Array, "m ..."]) -> Float[Array, " m"]:
        return _sum([form.along(directions) for form in self.forms])

    def dot(self, direction: Float[Array, "..."]) -> Float[Array, " m"]:
        return _sum([form.dot(direction) for form in self.forms])

    def dots(self, directions: Float[Array, "n ..."]) -> Float[Array, "m n"]:
        return _sum([form.dots(directions) for form in self.forms])

    def inner(self, other: Factored) -> Float[Array, "m n"]:
        others = other.forms if isinstance(other, Sum) else (other,)
        return _sum([form.inner(of_other) for form in self.forms for of_other in others])

    def kronecker_factors(
        self, weights: Float[Array, " m"] | None, columns: str | None = None, reduce: bool = False
    ) -> tuple[Any, ...]:
        if self._has_rows():
            return self.matrix_factors(weights, columns)
        return super().kronecker_factors(weights, columns, reduce)

    def rotated(self, bases: tuple[Any, ...]) -> Factored:
        return Sum(tuple(form.rotated(bases) for form in self.forms)) if len(bases) == 2 else super().rotated(bases)

    def matrix_factors(
        self, weights: Float[Array, " m"] | None, columns: str | None = None
    ) -> tuple[Any, Float[Array, "d d"]]:
        """As of any matrix; but where one use looks up rows, of which there are many, their factor is its diagonal.

        Windows that go over positions several times are as of one that has all their places.
        """
        if all(isinstance(form, Windows) for form in self.forms):
            return _of_all_places(self.forms, weights, columns)
        if not self._has_rows():
            return super().matrix_factors(weights, columns)
        g = self.each()
        g = g / self.examples**0.5 if weights is None else weighted(jnp.sqrt(weights), g)
        of_rows = over_columns(laid_out(_squares_of_rows, nowhere(g, 1))(g), columns)
        among_columns = over_columns(sum_of_outer_products(g, g, out_sharding=nowhere(g)), columns)
        trace = of_rows.sum()
        return Diagonal(of_rows), among_columns / jnp.where(trace > 0, trace, jnp.ones_like(trace))

    def price(self, moments: bool = False) -> int | None:
        """None more where one use is formed already: the sum takes its place, and pairs cost what forming does."""
        if any(isinstance(form, Each) for form in self.forms):
            return 0
        prices = [price for form in self.forms if (price := form.price(moments)) is not None]
        return max(prices, default=None)

    def _has_rows(self):
        return any(isinstance(form, Rows) for form in self.forms)


def _sum(terms):
    return sum(terms[1:], start=terms[0])


def _of_all_places(forms, weights, columns):
    """Sums of what came back; of what went forward, which each form divides by its places, the mean over all."""
    places = [math.prod(form.dz.shape[1:-1]) for form in forms]
    of_uses = [form.kronecker_factors(weights, columns) for form in forms]
    forward = 0 if forms[0].spreads else 1
    factors = [_sum([factors[side] for factors in of_uses]) for side in (0, 1)]
    factors[forward] = _sum([n / sum(places) * factors[forward] for n, factors in zip(places, of_uses, strict=True)])
    return tuple(factors)


def _squares_of_rows(g):
    return (g**2).sum((0, 2))
