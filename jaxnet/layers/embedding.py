"""A table of vectors: its rows looked up by ids, and the other way, how far a vector goes along each of them.

    z_t = W[id_t],             z_td = sum_v [id_t = v] W_vd         embedding
    z_t = W x_t,               z_tv = sum_d W_vd x_td               unembedding

The first is the product with unit vectors of the ids, (z = e W), so that of dW_vd = sum_t [id_t = v] dz_td all that is
kept of the one factor are the ids. Ids are whole numbers: the way back ends there, and dx is None.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxnet import initializers
from jaxnet.arguments import positive_integer, whole_number
from jaxnet.factored import Outer, Rows
from jaxnet.factored.layouts import rows_of
from jaxnet.layer import Layer


class Embedding(NamedTuple):
    """The parameters of `embedding` and of `unembedding`, or whatever has their structure.

    Attributes:
      W: a row for each id (rows, d).
    """

    W: Any


def table_init(rows, d, weight_init, key):
    return Embedding(W=weight_init(key, (rows, d)))


def embedding_forward(
    rows: int, d: int, params: Embedding, x: Int[Array, "*mt"], *, padding: int | None = None
) -> tuple[Float[Array, "*mt d"], Int[Array, "*mt"]]:
    """z_t = W[x_t], and 0 where x_t is the padding. The cache: the ids, those of padding out of range."""
    label = f"embedding({rows}, {d})"
    ids = jnp.asarray(x)
    _check_params(label, rows, d, params)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"{label}: expected x of whole numbers, ids of 0 to {rows - 1}, got {ids.dtype}")
    # A byte could not tell an id out of range from one in it.
    ids = ids.astype(jnp.int32) if jnp.iinfo(ids.dtype).bits < 32 else ids
    # 1. z = the row of the id; of an id out of range there is none, and NaN tells it.
    layout = rows_of(ids, ids.ndim + 1)
    z = params.W.at[ids].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False, out_sharding=layout)
    if padding is None:
        return z, ids
    # 2. z = 0 at the padding
    pads = ids == padding
    return jnp.where(pads[..., None], jnp.zeros_like(z), z), jnp.where(pads, jnp.full_like(ids, rows), ids)


def embedding_backward(
    rows: int, d: int, params: Embedding, ids: Int[Array, "m ..."], dz: Float[Array, "m *t d"]
) -> tuple[Embedding, None]:
    """From z_td = sum_v [id_t = v] W_vd: dW_vd = sum_t [id_t = v] dz_td; nothing goes back to ids."""
    label = f"embedding({rows}, {d})"
    _check_params(label, rows, d, params)
    _check_cotangent(label, ids.shape, (*ids.shape, d), dz)
    # 2. and 1. Ids out of range, where z does not depend on W, are those of no row.
    return Embedding(W=Rows(dz, ids, rows, jax.typeof(params.W).sharding)), None


def unembedding_forward(
    rows: int, d: int, params: Embedding, x: Float[Array, "*mt d"]
) -> tuple[Float[Array, "*mt v"], Float[Array, "*mt d"]]:
    """z = x W^T, for samples as rows. The cache is x."""
    label = f"unembedding({rows}, {d})"
    x = jnp.asarray(x)
    _check_params(label, rows, d, params)
    if x.ndim == 0 or x.shape[-1] != d:
        raise ValueError(f"{label}: expected x of shape (m, ..., {d}), got {x.shape}")
    if x.dtype != params.W.dtype:
        raise ValueError(
            f"{label}: expected x of W's dtype {params.W.dtype}, got {x.dtype}; "
            f"convert it with x.astype('{params.W.dtype}')"
        )
    return x @ params.W.T, x


def unembedding_backward(
    rows: int, d: int, params: Embedding, x: Float[Array, "m *t d"], dz: Float[Array, "m *t v"]
) -> tuple[Embedding, Float[Array, "m *t d"]]:
    """From z_v = sum_d W_vd x_d of each position: dW_vd = dz_v x_d, dx_d = sum_v dz_v W_vd."""
    label = f"unembedding({rows}, {d})"
    _check_params(label, rows, d, params)
    _check_cotangent(label, x.shape[:-1], (*x.shape[:-1], rows), dz)
    dparams = Embedding(W=Outer(dz, x, jax.typeof(params.W).sharding))
    # Laid out as x is: on a mesh with explicit axes, dz W over spread rows is ambiguous.
    return dparams, jnp.matmul(dz, params.W, out_sharding=jax.typeof(x).sharding)


def nothing_curved(params: Embedding, cache: Int[Array, "..."] | Float[Array, "..."], dz: Float[Array, "..."]) -> None:
    """z is linear in W, and in x or in the unit vectors of its ids."""


def embedding(
    rows: SupportsIndex,
    d: SupportsIndex,
    *,
    padding: SupportsIndex | None = None,
    weight_init: Callable[..., Array] = initializers.lecun,
) -> Layer:
    """A table of vectors, looked up by ids: z_t = W[x_t].

    Its gradients are `per_example.Rows`: the signals and the ids. No reading but `each` and its like forms an example's
    table of (rows, d), and its Kronecker factors are the counts of ids, as a `curvature.Diagonal`, and a matrix (d, d).

    Args:
      rows: how many ids there are, at least 1.
      d: the length of each vector, at least 1.
      padding: an id that only fills up shorter examples, in the table or out of it, such as -1: there z = 0, and W gets
        no gradient.
      weight_init: `(key, (rows, d)) -> W`, see `jaxnet.initializers`.

    Returns:
      A layer from ids `x (m, ...)`, whole numbers in [0, rows), to `z (m, ..., d)`, with parameters
      `Embedding(W (rows, d))`. An id out of range gives NaN, and W no gradient. The derivative by x is None.

    Raises:
      ValueError: when a size is not a positive integer, or padding no integer; and, when the layer is traced, if the
        parameters are of other sizes, or x holds no whole numbers.

    Source: Bengio et al., A neural probabilistic language model, 2003.

    Example:
      >>> table = jn.embedding(10, 4, padding=0)
      >>> params = table.init(key)
      >>> jax.tree.map(jnp.shape, params)
      Embedding(W=(10, 4))
      >>> z, cache = table.forward(params, jnp.array([[3, 7, 0]]))
      >>> dparams, dx = table.backward(params, cache, z)
      >>> z.shape, type(dparams.W).__name__, dx
      ((1, 3, 4), 'Rows', None)
    """
    sizes = positive_integer("embedding", "rows", rows), positive_integer("embedding", "d", d)
    pads: dict[str, Any] = {} if padding is None else {"padding": whole_number("embedding", "padding", padding)}
    return Layer(
        partial(table_init, *sizes, weight_init),
        partial(embedding_forward, *sizes, **pads),
        partial(embedding_backward, *sizes),
        nothing_curved,
        decoder="positionwise",
    )


def unembedding(
    rows: SupportsIndex, d: SupportsIndex, *, weight_init: Callable[..., Array] = initializers.lecun
) -> Layer:
    """How far a vector goes along each row of a table: z = x W^T. With the table of `embedding`, see `tied`.

    Args:
      rows: the number of rows, and of outputs, at least 1.
      d: the number of features of `x (m, ..., d)`, at least 1.
      weight_init: `(key, (rows, d)) -> W`, see `jaxnet.initializers`.

    Returns:
      A layer to `z (m, ..., rows)` with parameters `Embedding(W (rows, d))`, as `embedding` has them: a `dense` without
      bias.

    Raises:
      ValueError: when a size is not a positive integer; and, when the layer is traced, if the parameters are of other
        sizes, or x has another number of features or another dtype than W.

    Source: Press and Wolf, Using the output embedding to improve language models, 2017.

    Example:
      >>> head = jn.unembedding(10, 4)
      >>> params = head.init(key)
      >>> jax.tree.map(jnp.shape, params)
      Embedding(W=(10, 4))
      >>> head(params, jnp.ones((2, 3, 4))).shape
      (2, 3, 10)
    """
    sizes = positive_integer("unembedding", "rows", rows), positive_integer("unembedding", "d", d)
    functions = partial(unembedding_forward, *sizes), partial(unembedding_backward, *sizes)
    return Layer(partial(table_init, *sizes, weight_init), *functions, nothing_curved, "linear")


def _check_params(label, rows, d, params):
    if not isinstance(params, Embedding):
        raise ValueError(f"{label}: expected parameters Embedding(W), got a {type(params).__name__}")
    if jnp.shape(params.W) != (rows, d):
        raise ValueError(
            f"{label}: expected parameters W {(rows, d)}, got W {jnp.shape(params.W)}; they are another layer's"
        )


def _check_cotangent(label, examples, expected, dz):
    if not examples:
        raise ValueError(f"{label}: backward needs the examples as the first axis; pass a single example as x[None]")
    if dz.shape != expected:
        raise ValueError(f"{label}: expected dz of shape {expected}, that of z, got {dz.shape}")
