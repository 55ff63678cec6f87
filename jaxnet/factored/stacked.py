"""The gradients of a parameter that is stacked, as those of `jaxnet.repeat` are."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from jaxnet.factored.form import Factored
from jaxnet.factored.pytrees import registered
from jaxnet.norms import norm


@registered(arrays=("layers",))
@dataclass(frozen=True)
class Stacked(Factored):
    """The per-example gradients of a stacked parameter, (n, *shape): a form for each of the n layers.

    Attributes:
      layers: a form whose arrays have a leading axis of n.
    """

    layers: Factored

    @property
    def examples(self) -> Any:
        return self._first().examples

    @property
    def sides(self) -> tuple[int, int] | None:
        if self.layers.sides is None:
            return None
        outputs, inputs = self.layers.sides
        return outputs + 1, inputs + 1

    def total(self, weights: Float[Array, " m"] | None) -> Float[Array, "n ..."]:
        if weights is None:
            return jax.vmap(lambda layer: layer.total(None))(self.layers)
        # With weights of its own a layer's sum is one product of many. Of weights that all share, XLA's CPU compiler
        # makes one product for all layers, and copies their gradients for it.
        of_layers = jnp.broadcast_to(weights, (len(jax.tree.leaves(self.layers)[0]), *weights.shape))
        return jax.vmap(lambda layer, weights: layer.total(weights))(self.layers, of_layers)

    def each(self) -> Float[Array, "m n ..."]:
        return jax.vmap(lambda layer: layer.each(), out_axes=1)(self.layers)

    def merged(self, other: Factored) -> "Stacked | None":
        if not isinstance(other, Stacked):
            return None
        return Stacked(jax.vmap(lambda layer, more: layer.add(more))(self.layers, other.layers))

    def over_uses(self) -> "Stacked":
        # The layers' axis is behind that of the uses.
        return Stacked(jax.vmap(lambda layer: layer.over_uses(), in_axes=1)(self.layers))

    def summed_in(self, dtype: DTypeLike) -> "Stacked":
        return Stacked(self.layers.summed_in(dtype))

    def counting(self, weights: Float[Array, " m"]) -> "Stacked":
        return Stacked(jax.vmap(lambda layer: layer.counting(weights))(self.layers))

    def norms(self, margin: float = 0.0) -> Float[Array, " m"]:
        return norm(jax.vmap(lambda layer: layer.norms(margin))(self.layers), (0,))

    def terms(self) -> Float[Array, " m"]:
        return norm(jax.vmap(lambda layer: layer.terms())(self.layers), (0,))

    def paired_by_factors(self, other: Factored) -> Float[Array, " m"] | None:
        if not isinstance(other, Stacked):
            return None
        return jax.vmap(lambda layer, of_other: layer.paired(of_other))(self.layers, other.layers).sum(axis=0)

    def along(self, directions: Float[Array, "m n ..."]) -> Float[Array, " m"]:
        return jax.vmap(lambda layer, of_layer: layer.along(of_layer), (0, 1))(self.layers, directions).sum(axis=0)

    def dot(self, direction: Float[Array, "n ..."]) -> Float[Array, " m"]:
        return jax.vmap(lambda layer, along: layer.dot(along))(self.layers, direction).sum(axis=0)

    def dots(self, directions: Float[Array, "k n ..."]) -> Float[Array, "m k"]:
        return jax.vmap(lambda layer, along: layer.dots(along), (0, 1))(self.layers, directions).sum(axis=0)

    def inner(self, other: Factored) -> Float[Array, "m n"]:
        if not isinstance(other, Stacked):
            return super().inner(other)
        return jax.vmap(lambda layer, of_other: layer.inner(of_other))(self.layers, other.layers).sum(axis=0)

    def square_total(self, weights: Float[Array, " m"] | None, columns: str | None = None) -> Float[Array, "n ..."]:
        return jax.vmap(lambda layer: layer.square_total(weights, columns))(self.layers)

    def squares(self, columns: str | None = None, weights: Float[Array, " m"] | None = None) -> Float[Array, "m n ..."]:
        return jax.vmap(lambda layer: layer.squares(columns, weights), out_axes=1)(self.layers)

    def kronecker_factors(
        self, weights: Float[Array, " m"] | None, columns: str | None = None, reduce: bool = False
    ) -> tuple[Any, ...]:
        """Those of each layer, stacked: (B (n, o, o), A (n, i, i)) for weights (n, o, i)."""
        return jax.vmap(lambda layer: layer.kronecker_factors(weights, columns, reduce))(self.layers)

    def rotated(self, bases: tuple[Any, ...]) -> "Stacked":
        return Stacked(jax.vmap(lambda layer, of_layer: layer.rotated(of_layer))(self.layers, bases))

    def price(self, moments: bool = False) -> int | None:
        of_layer = self._first().price(moments)
        return None if of_layer is None else of_layer * jax.tree.leaves(self.layers)[0].shape[0]

    def formed(self) -> "Stacked":
        return Stacked(jax.vmap(lambda layer: layer.formed())(self.layers))

    def _first(self):
        return jax.tree.map(lambda leaf: leaf[0], self.layers)
