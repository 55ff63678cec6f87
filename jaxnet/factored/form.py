"""What every form of a parameter's per-example gradients can be asked: by forming them, where it knows no better.

Axes: m examples (always the first), then positions t, s, if any, then o outputs or i inputs.
"""

import abc
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, DTypeLike, Float

from jaxnet.factored.layouts import nowhere, over_columns, rows_of
from jaxnet.factored.sums import sum_of_outer_products, sum_over_first
from jaxnet.norms import long_type, norm, scaled
from jaxnet.weighting import counting, weighted


class Factored(abc.ABC):
    """One parameter's per-example gradients: a leaf of the `dparams` that a backward pass returns.

    Whatever can tell `examples`, `total` and `each` can be read in every way; the other methods form the gradients by
    `each`, and are overridden where the factors allow for less.
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

    def add(self, other: "Factored") -> "Factored":
        """The per-example gradients of a parameter that is used twice: those of both uses, added."""
        from jaxnet.factored.sum import Sum  # a form itself

        both = self.merged(other)
        return Sum((self,)).add(other) if both is None else both

    def merged(self, other: "Factored") -> "Factored | None":
        """Both uses in one form; None where there is none, and a `Sum` holds the two."""
        return None

    def over_uses(self) -> "Factored":
        """Of a form whose arrays have a leading axis of uses of the parameter: the sum over them, example by example.

        Such as over the times of a scan, each of which gave a form. Where a use is a further position, nothing is
        computed.
        """
        from jaxnet.factored.uses import Uses  # a form itself

        return Uses(self)

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
        return self.terms() * (1 + margin)

    def terms(self) -> Float[Array, " m"]:
        """The sum of the magnitudes of what g_i is a sum of, to which its rounding is relative: at least |g_i|."""
        g = self.each()
        return norm(g, tuple(range(1, g.ndim)))

    def scaled(self) -> "tuple[Factored, Float[Array, ' m']]":
        """(g_i / s_i, s_i) with factors whose largest number is 1, so that products neither overflow nor vanish."""
        g = self.each()
        axes = tuple(range(1, g.ndim))
        unit, scale = scaled(g, axes)
        return _plain(unit), scale.squeeze(axes)

    def paired(self, other: "Factored") -> Float[Array, " m"]:
        """<g_i, h_i> of each example here and the same example of another form: the diagonal of `inner`."""
        for form, its_other in ((self, other), (other, self)):
            products = form.paired_by_factors(its_other)
            if products is not None:
                return products
        return self.along(other.each())

    def paired_by_factors(self, other: "Factored") -> Float[Array, " m"] | None:
        """`paired` where this form knows a cheaper way than to form the other's gradients; else None."""
        return None

    def along(self, directions: Float[Array, "m ..."]) -> Float[Array, " m"]:
        """<g_i, d_i> with a direction for each example, in the parameter's shape."""
        g = self.each()
        return (g * directions.astype(g.dtype)).sum(axis=tuple(range(1, g.ndim)))

    def dot(self, direction: Float[Array, "..."]) -> Float[Array, " m"]:
        """<g_i, direction> with one direction, in the parameter's shape, for all examples."""
        g = self.each()
        return (g * direction[None].astype(g.dtype)).sum(axis=tuple(range(1, g.ndim)))

    def dots(self, directions: Float[Array, "n ..."]) -> Float[Array, "m n"]:
        """<g_i, d_j> with many directions, each for all examples: one product of matrices, of what is formed."""
        g = self.each()
        along, summed = directions.astype(g.dtype), tuple(range(1, g.ndim))
        return lax.dot_general(g, along, ((summed, summed), ((), ())), out_sharding=rows_of(g, 2))

    def dots_one_by_one(self, directions: Float[Array, "n ..."]) -> Float[Array, "m n"]:
        """The same as so many times `dot`, all at once."""
        return jax.vmap(self.dot, out_axes=1)(directions)

    def inner(self, other: "Factored") -> Float[Array, "m n"]:
        """<g_i, h_j> for every pair of an example here and an example of the other batch."""
        products = self.inner_by_factors(other)
        if products is not None:
            return products
        products = other.inner_by_factors(self)
        if products is not None:
            return products.T
        g, h = self.each(), other.each()
        summed = tuple(range(1, g.ndim))
        return lax.dot_general(g, h, ((summed, summed), ((), ())), out_sharding=rows_of(g, 2))

    def inner_by_factors(self, other: "Factored") -> Float[Array, "m n"] | None:
        """`inner` where this form knows a cheaper way than to form both; else None."""
        return None

    def square_total(self, weights: Float[Array, " m"] | None, columns: str | None = None) -> Float[Array, "..."]:
        """sum_i weights_i g_i^2, element by element, in the parameter's shape.

        Args:
          weights: (m,); None stands for ones.
          columns: the name of a `jax.vmap` axis, over whose members is summed as well.
        """
        return over_columns(sum_over_first(self.each() ** 2, weights), columns)

    def squares(self, columns: str | None = None, weights: Float[Array, " m"] | None = None) -> Float[Array, "m ..."]:
        """weights_i g_i^2, element by element, (m, *shape of the parameter); over columns as in `square_total`."""
        squares = self.each() ** 2
        return over_columns(squares if weights is None else weighted(weights, squares), columns)

    def block(self, columns: str | None = None, weights: Float[Array, " m"] | None = None) -> Float[Array, "p p"]:
        """sum_i weights_i vec(g_i) vec(g_i)^T for a parameter of p numbers, row-major; columns as in `square_total`."""
        g = self.each()
        g = g.reshape(g.shape[0], -1)
        of_weight = g if weights is None else weighted(weights, g)
        return over_columns(jnp.matmul(of_weight.T, g, out_sharding=nowhere(g)), columns)

    def kronecker_factors(
        self, weights: Float[Array, " m"] | None, columns: str | None = None, reduce: bool = False
    ) -> tuple[Any, ...]:
        """Matrices whose Kronecker product stands for sum_i weights_i vec(g_i) vec(g_i)^T; here that matrix itself.

        Args:
          weights: (m,), at least 0; None stands for 1/m.
          columns: as in `square_total`.
          reduce: of a weight, whether an example counts once, with its signals summed and its inputs averaged over
            positions, in place of once for each position.

        Returns:
          For each factor a matrix, or a `Diagonal`.
        """
        if weights is None:
            return (self.block(columns) / self.examples,)
        return (self.block(columns, weights),)

    def matrix_factors(
        self, weights: Float[Array, " m"] | None, columns: str | None = None
    ) -> tuple[Any, Float[Array, "d d"]]:
        """For a matrix (t, d) that is no weight: B_ts = sum_d F_tdsd and A_de = sum_t F_tdte / tr F.

        F is the matrix of `kronecker_factors`, with the same arguments. It is not formed: with G_i the gradients
        B = sum_i weights_i G_i G_i^T and A = sum_i weights_i G_i^T G_i / tr B.
        """
        g = self.each()
        g = g / self.examples**0.5 if weights is None else weighted(jnp.sqrt(weights), g)
        among_rows, among_columns = (
            over_columns(product(g, g, out_sharding=nowhere(g)), columns)
            for product in (partial(jnp.einsum, "mtd,msd->ts"), sum_of_outer_products)
        )
        trace = jnp.trace(among_rows)
        # A parameter that gets no gradient has matrices of zeros.
        return among_rows, among_columns / jnp.where(trace > 0, trace, jnp.ones_like(trace))

    def rotated(self, bases: tuple[Float[Array, "..."], ...]) -> "Factored":
        """The gradients in other coordinates: an orthogonal matrix for each of `kronecker_factors`, axes as columns."""
        (basis,) = bases
        g = self.each()
        return _plain(g.reshape(g.shape[0], -1) @ basis)

    def price(self, moments: bool = False) -> int | None:
        """What forming g_i costs: numbers of an example beyond the factors'; None where it saves no operations.

        Args:
          moments: whether second moments are read; otherwise it is norms, and after them a total.
        """
        return None

    def formed(self) -> "Factored":
        """The same gradients as an `Each`, in float32 at least: formed here, once for all that is read."""
        g = self.long().each()
        dtype = self.dtype_of_total()
        return _plain(g, None if g.dtype == dtype else dtype)


def map_leaves(read: Any, dparams: Any, *others: Any) -> Any:
    """`jax.tree.map` that takes each parameter's factored gradients as one leaf, or what else of them can be added."""
    return jax.tree.map(read, dparams, *others, is_leaf=lambda leaf: hasattr(leaf, "add"))


def require_forms(where: str, dparams: Any, what: str = "dparams") -> None:
    """Refuses leaves that tell of no example, such as those of a gradient that was summed already."""
    leaves = jax.tree_util.tree_leaves_with_path(dparams, is_leaf=lambda leaf: hasattr(leaf, "add"))
    for path, leaf in leaves:
        if not hasattr(leaf, "add"):
            raise ValueError(
                f"{where}: expected {what} as backward returns them, with a form such as Outer or Each for every "
                f"parameter, got an array of shape {jnp.shape(leaf)} at {what}{jax.tree_util.keystr(path)}"
            )


def _plain(g, dtype=None):
    from jaxnet.factored.each import Each  # a form itself

    return Each(g, g.ndim - 1, dtype)
