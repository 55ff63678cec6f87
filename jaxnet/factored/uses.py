"""The gradient of a parameter that is used several times alike, where no form holds all uses in one."""

import math
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, DTypeLike, Float

from jaxnet.factored.form import Factored
from jaxnet.factored.pytrees import registered
from jaxnet.factored.sums import sum_over_first


@registered(arrays=("form",))
@dataclass(frozen=True)
class Uses(Factored):
    """The sum over uses of a parameter, such as those of a convolution at each time.

    Attributes:
      form: of each use, whose arrays have a leading axis of them.
    """

    form: Factored

    @property
    def examples(self) -> Any:
        return jax.tree.map(lambda leaf: leaf[0], self.form).examples

    @property
    def sides(self) -> tuple[int, int] | None:
        return self.form.sides

    def total(self, weights: Float[Array, " m"] | None) -> Float[Array, "..."]:
        return sum_over_first(jax.vmap(lambda use: use.total(weights))(self.form))

    def each(self) -> Float[Array, "m ..."]:
        return sum_over_first(jax.vmap(lambda use: use.each())(self.form))

    def summed_in(self, dtype: DTypeLike) -> "Uses":
        return Uses(self.form.summed_in(dtype))

    def over_uses(self) -> "Uses":
        return Uses(Uses(self.form))

    def counting(self, weights: Float[Array, " m"]) -> "Uses":
        return Uses(jax.vmap(lambda use: use.counting(weights))(self.form))

    def norms(self, margin: float = 0.0) -> Float[Array, " m"]:
        """|g_i|, formed. Uses may cancel: the margin is of `terms`."""
        return super().terms() + margin * self.terms()

    def terms(self) -> Float[Array, " m"]:
        return jax.vmap(lambda use: use.terms())(self.form).sum(0)

    def along(self, directions: Float[Array, "m ..."]) -> Float[Array, " m"]:
        return jax.vmap(lambda use: use.along(directions))(self.form).sum(0)

    def dot(self, direction: Float[Array, "..."]) -> Float[Array, " m"]:
        return jax.vmap(lambda use: use.dot(direction))(self.form).sum(0)

    def kronecker_factors(
        self, weights: Float[Array, " m"] | None, columns: str | None = None, reduce: bool = False
    ) -> tuple[Any, ...]:
        """As of an `Outer` with a position for each use: products of two uses' signals are left out."""
        if reduce and self.sides is not None:
            # A use tells its factors, and not the sum of its signals.
            raise ValueError(
                "curvature: expected positions to be 'expand' for a weight that is used at several times and at "
                "several positions of each, got 'reduce'"
            )
        factors = jax.vmap(lambda use: use.kronecker_factors(weights, columns))(self.form)
        if len(factors) != 2:
            return super().kronecker_factors(weights, columns)
        among_outputs, among_inputs = factors
        return among_outputs.sum(0), among_inputs.mean(0)

    def rotated(self, bases: tuple[Any, ...]) -> Factored:
        if len(bases) != 2:
            return super().rotated(bases)
        return Uses(jax.vmap(lambda use: use.rotated(bases))(self.form))

    def price(self, moments: bool = False) -> int | None:
        """What its gradients hold: norms form them, and a total would go through all uses once more."""
        return math.prod(jax.eval_shape(lambda form: form.total(None), self).shape)
