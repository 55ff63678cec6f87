"""A Kronecker factor that is a diagonal matrix, kept as its diagonal."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet.factored.pytrees import registered


@registered(arrays=("values",))
@dataclass(frozen=True)
class Diagonal:
    """The matrix diag(values), such as that of how often each row of a table is looked up: never (n, n) numbers.

    Attributes:
      values: (n,), with a leading axis for each that the parameter is stacked by.

    Example:
      >>> jn.curvature.Diagonal(jnp.array([2.0, 3.0])).values
      Array([2., 3.], dtype=float32)
    """

    values: Float[Array, "*stack n"]

    def matrix(self) -> Float[Array, "*stack n n"]:
        """The same, formed: for small n."""
        return jnp.vectorize(jnp.diag, signature="(n)->(n,n)")(self.values)
