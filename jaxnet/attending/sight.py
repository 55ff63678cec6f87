"""Who looks at whom: queries at positions t, keys at positions s, and what dropout leaves of the probabilities."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("lengths", "key"),
    meta_fields=("causal", "window", "dropout"),
)
@dataclass(frozen=True)
class Sight:
    """What `attention` was told.

    Attributes:
      causal, window: as there.
      lengths: of each example (m,), or None; keys from there on are nobody's.
      dropout: the rate.
      key: of what dropout draws; None where it draws nothing.
    """

    causal: bool
    window: int | None
    lengths: Int[Array, " m"] | None
    dropout: float
    key: jax.Array | None

    @property
    def partial(self) -> bool:
        """Whether some keys are hidden from some queries."""
        return self.causal or self.window is not None or self.lengths is not None


def masked(
    sight: Sight,
    z: Float[Array, "m k g t s"],
    rows: Int[Array, " t"],
    columns: Int[Array, " s"],
    end: int | None = None,
) -> Float[Array, "m k g t s"]:
    """Scores with -inf where t does not see s; from the end on there are no keys."""
    if not sight.partial and end is None:
        return z
    # How far back s is from t; each position looks at itself at least, where there is one.
    back = rows[:, None] - columns[None]
    seen = back >= 0 if sight.causal else jnp.ones_like(back, bool)
    if sight.window is not None:
        seen &= jnp.abs(back) < sight.window
    if end is not None:
        seen &= columns[None] < end
    seen = seen[None, None, None]
    if sight.lengths is not None:
        seen = seen & (columns[None] < sight.lengths[:, None].astype(columns.dtype))[:, None, None, None]
    return jnp.where(seen, z, -jnp.inf)


def thinned(
    sight: Sight, p: Float[Array, "m k g t s"], rows: Int[Array, " t"], columns: Int[Array, " s"]
) -> Float[Array, "m k g t s"]:
    """p * mask / keep, and the way back of it; p where dropout draws nothing."""
    if sight.key is None:
        return p
    return jnp.where(_mask(sight, p, rows, columns), p / (1 - sight.dropout), jnp.zeros_like(p))


def divisor(total: Array) -> Array:
    """1 for the sum of a row that sees nothing, whose probabilities, and output, are 0."""
    return jnp.where(total == 0, jnp.ones_like(total), total)


def _mask(sight, p, rows, columns) -> Bool[Array, "m k g t s"]:
    """By a key for each t and s: the same whatever the blocks, and on every mesh of devices."""
    sharding = jax.typeof(p).sharding
    heads = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:3]))

    def of_pair(of_row, s):
        key = jax.random.fold_in(of_row, s)
        return jax.random.bernoulli(key, 1 - sight.dropout, p.shape[:3], out_sharding=heads)

    def of_row(t):
        return jax.vmap(of_pair, (None, 0), -1)(jax.random.fold_in(sight.key, t), columns)

    return jax.vmap(of_row, 0, -2)(rows)
