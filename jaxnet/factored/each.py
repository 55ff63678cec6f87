"""The gradient of a parameter that is no weight, as it is: a bias's, a gain's; or a weight's, formed."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from jaxnet.factored.form import Factored
from jaxnet.factored.pytrees import registered, remade
from jaxnet.factored.sums import sum_over_first
from jaxnet.norms import long_type


@registered(arrays=("g",), metadata=("ndim", "dtype"))
@dataclass(frozen=True)
class Each(Factored):
    """The gradient of any parameter, as it is: that of example i is g[i], summed over positions.

    Positions are summed when it is made, in float32 at least: what waits for a reading are m gradients, of whatever
    length the examples are.

    Attributes:
      g: (m, ..., *shape of the parameter); the axes between are positions, and are gone once it is made.
      ndim: how many axes the parameter has: 1 for a bias or a gain, 0 for a scalar.
      dtype: of what is read; None for that of g.

    Example:
      >>> form = jn.per_example.Each(jnp.ones((6, 5, 4)))  # of a bias (4,), at 5 positions
      >>> form.g.shape, form.g[0]
      ((6, 4), Array([5., 5., 5., 5.], dtype=float32))
    """

    g: Float[Array, "m ..."]
    ndim: int = 1
    dtype: Any = None

    def __post_init__(self) -> None:
        if self.g.ndim < 1 + self.ndim:
            raise ValueError(
                f"Each: expected g (m, ..., *parameter) for a parameter with {self.ndim} axes, got shape "
                f"{self.g.shape}; ndim says how many axes the parameter has"
            )
        positions = tuple(range(1, self.g.ndim - self.ndim))
        if positions:
            dtype, long = self._dtype(), long_type(self.g.dtype)
            object.__setattr__(self, "g", self.g.astype(long).sum(positions))
            object.__setattr__(self, "dtype", None if dtype == long else dtype)

    @property
    def examples(self) -> Any:
        return self.g.shape[0]

    def total(self, weights: Float[Array, " m"] | None) -> Float[Array, "..."]:
        return sum_over_first(self.g, weights).astype(self._dtype())

    def each(self) -> Float[Array, "m ..."]:
        return self.g.astype(self._dtype())

    def merged(self, other: Factored) -> "Each | None":
        if not isinstance(other, Each):
            return None
        long = jnp.promote_types(self.g.dtype, other.g.dtype)
        return Each(self.g.astype(long) + other.g.astype(long), self.ndim, self._dtype())

    def over_uses(self) -> "Each":
        dtype, long = self._dtype(), long_type(self.g.dtype)
        return remade(self, g=sum_over_first(self.g.astype(long)), dtype=None if dtype == long else dtype)

    def summed_in(self, dtype: DTypeLike) -> "Each":
        return remade(self, g=self.g.astype(dtype), dtype=None)

    def paired_by_factors(self, other: Factored) -> Float[Array, " m"]:
        return other.along(self.each())

    def formed(self) -> "Each":
        return self

    def _dtype(self):
        return self.g.dtype if self.dtype is None else self.dtype
