"""Any loss with positions that do not count, such as padded ones: targets come with a mask.

With a mask of 0 and 1, and the loss l of a single position, L = sum_t mask_t l(z_t, y_t) / c, where c is 1 or, for a
mean, the number of positions that count. What does not count is replaced by 0 before it is computed, and its derivative
by 0 afterwards: zero times NaN is NaN.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxnet.arguments import instance_of
from jaxnet.losses.loss import Loss, Outputs
from jaxnet.losses.positions import per_position, takes_mean
from jaxnet.losses.refused import Refused, no_sample

Masked = tuple[Shaped[Array, "..."], Shaped[Array, "..."]]


def masked_forward(
    loss: Loss, z: Float[Array, "m *t o"], y: Masked, *, over_positions: str = "sum"
) -> Float[Array, " m"]:
    """L = sum_t mask_t l(z_t, y_t), or the mean of those that count."""
    z, of_loss, counts = _required(z, y)
    # Every position for itself, as an example.
    places = math.prod(counts.shape)
    alone = z.reshape(places, z.shape[-1]), of_loss.reshape(places, *of_loss.shape[counts.ndim :])
    losses = jnp.where(counts, loss.forward(*alone).reshape(counts.shape), 0)
    if over_positions == "mean":
        losses = losses / per_position(counts, z.dtype)
    return losses.sum(tuple(range(1, losses.ndim)))


def masked_backward(
    loss: Loss, z: Float[Array, "m *t o"], y: Masked, *, over_positions: str = "sum"
) -> Float[Array, "m *t o"]:
    """dz_t = mask_t dl(z_t, y_t), over c for a mean."""
    z, y, counts = _required(z, y)
    dz = jnp.where(counts[..., None], loss.backward(z, y), 0)
    return dz / per_position(counts, z.dtype)[..., None] if over_positions == "mean" else dz


def masked_root_hessian(
    loss: Loss, z: Float[Array, "m *t o"], y: Masked, *, over_positions: str = "sum"
) -> Float[Array, "v m *t o"]:
    """d2L/dz2 is mask_t d2l at position t, and 0 between positions: S_v is the loss's own times sqrt(mask_t / c)."""
    z, y, counts = _required(z, y)
    S = jnp.where(counts[None, ..., None], loss.root_hessian(z, y), 0)
    return S / jnp.sqrt(per_position(counts, z.dtype))[None, ..., None] if over_positions == "mean" else S


def masked_sample(loss: Loss, key: jax.Array, z: Outputs) -> Masked:
    """What the loss draws, with a mask in which every position counts; `given` puts back the one that y has."""
    return loss.sample(key, z), jnp.ones(z.shape[:-1], bool)


def masked_given(loss: Loss, drawn: Masked, y: Masked) -> Masked:
    """What was drawn, with y's own mask."""
    (of_loss, _), (given, counts) = drawn, y
    return of_loss if loss.given is None else loss.given(of_loss, given), counts


def masked(loss: Loss, *, over_positions: str = "sum") -> Loss:
    """A loss of some of the positions: L = sum_t mask_t l(z_t, y_t), for targets (y, mask).

    Args:
      loss: l, a sum over positions z_t (o,) of a function of each position alone, as every loss of `jaxnet.losses` is.
      over_positions: "sum", or "mean": over an example's own positions that count, each of them alike.

    Returns:
      A loss of z (m, *t, o) and targets (y, mask), with y as the loss takes it and mask (m, *t) of booleans, True where
      a position counts. Where it is False loss and derivative are 0, whatever z and y hold; an example of which nothing
      counts has a loss of 0. For labels by number there is `cross_entropy(ignore=...)`, too. A mean is no
      log-likelihood, so that `sample` is refused by name.

    Raises:
      ValueError: when the loss is none, or over_positions something else; when traced, if the targets are no such pair.

    Example:
      >>> loss = jn.losses.masked(jn.losses.half_squared_error)
      >>> loss(z, (jnp.zeros((2, 2)), jnp.array([True, False])))
      Array([2., 0.], dtype=float32)
    """
    instance_of(Loss, "masked", "loss to be a Loss", loss, "jaxnet.losses.half_squared_error")
    mean = takes_mean("masked", over_positions)
    options: dict[str, Any] = {"over_positions": "mean"} if mean else {}
    forward, backward = (partial(part, loss, **options) for part in (masked_forward, masked_backward))
    sample: Any = partial(masked_sample, loss)
    if isinstance(loss.sample, Refused):
        sample = loss.sample
    elif mean:
        sample = no_sample("masked", "a mean over positions is no log-likelihood")
    of_loss = loss.root_hessian
    root_hessian = of_loss if isinstance(of_loss, Refused) else partial(masked_root_hessian, loss, **options)
    return Loss(forward, backward, root_hessian, sample, partial(masked_given, loss))


def _required(z, y):
    """z and y with 0 where nothing counts, and the mask."""
    if not isinstance(y, tuple) or len(y) != 2:
        raise ValueError(f"masked: expected targets (y, mask), got a {type(y).__name__}")
    z, (y, counts) = jnp.asarray(z), map(jnp.asarray, y)
    if counts.dtype != bool or counts.shape != z.shape[:-1]:
        raise ValueError(
            f"masked: expected a mask of booleans of shape {z.shape[:-1]}, the outputs' without the last axis, "
            f"got {counts.dtype} of shape {counts.shape}"
        )
    if y.shape[: counts.ndim] != counts.shape:
        raise ValueError(f"masked: expected y of shape {counts.shape} and more, got {y.shape}")
    of_y = jnp.expand_dims(counts, tuple(range(counts.ndim, y.ndim)))
    return jnp.where(counts[..., None], z, 0), jnp.where(of_y, y, jnp.zeros_like(y)), counts
