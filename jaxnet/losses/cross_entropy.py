"""The cross-entropy of several classes with options: smoothed labels, weights of classes, positions left out, means.

All of it is `softmax_cross_entropy` with targets that need not sum to 1. With smoothing s, a class's weight w_k, and c
the number of an example's positions that count, a label y stands for

    t_k = w_k ((1 - s) [k = y] + s / o) / c,          L = -sum_k t_k log a_k,          dz = (sum_k t_k) a - t

(c is 1 where positions are summed), and a label to ignore for t = 0.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, SupportsIndex, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxnet.arguments import shown, whole_number
from jaxnet.losses.loss import Loss, Outputs
from jaxnet.losses.positions import per_position, takes_mean
from jaxnet.losses.refused import Refused, no_sample
from jaxnet.losses.softmax import (
    labelled,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
    softmax_cross_entropy_root_hessian,
    softmax_cross_entropy_with_integer_labels_sample,
)
from jaxnet.losses.targets import integer_labels


class Options(TypedDict, total=False):
    """What `cross_entropy` takes, and is left out where it is the default."""

    label_smoothing: float
    class_weights: np.ndarray[Any, Any]
    ignore: int
    over_positions: str


def cross_entropy_forward(
    z: Float[Array, "m *t o"], y: Shaped[Array, "..."], **options: Unpack[Options]
) -> Float[Array, " m"]:
    """L = -sum_tk t_tk log a_tk with a = softmax(z)."""
    return softmax_cross_entropy_forward(*_outputs_and_targets(z, y, **options))


def cross_entropy_backward(
    z: Float[Array, "m *t o"], y: Shaped[Array, "..."], **options: Unpack[Options]
) -> Float[Array, "m *t o"]:
    """dz = (sum_k t_k) a - t: 0 at positions that do not count."""
    return softmax_cross_entropy_backward(*_outputs_and_targets(z, y, **options))


def cross_entropy_root_hessian(
    z: Float[Array, "m *t o"], y: Shaped[Array, "..."], **options: Unpack[Options]
) -> Float[Array, "v m *t o"]:
    """d2L/dz2 = (sum_k t_k) (diag(a) - a a^T), so S_v = sqrt(a_v sum_k t_k) (e_v - a)."""
    return softmax_cross_entropy_root_hessian(*_outputs_and_targets(z, y, **options))


def cross_entropy_sample(key: jax.Array, z: Outputs) -> Int[Array, " m *t"]:
    """y ~ Categorical(softmax(z)), at every position; `given` puts back which of them do not count."""
    return softmax_cross_entropy_with_integer_labels_sample(key, z)


def cross_entropy_given(ignore: int, drawn: Int[Array, " m *t"], y: Shaped[Array, "..."]) -> Int[Array, " m *t"]:
    """The labels drawn, but `ignore` where y has it."""
    return jnp.where(y == ignore, jnp.asarray(ignore, drawn.dtype), drawn)


def cross_entropy(
    *,
    label_smoothing: float = 0.0,
    class_weights: Any = None,
    ignore: SupportsIndex | None = None,
    over_positions: str = "sum",
) -> Loss:
    """Several classes, labelled by number, with options: L = -sum_t [(1 - s) w_y log a_y + (s / o) sum_k w_k log a_k].

    a = softmax(z) at each position. Without options it is `softmax_cross_entropy_with_integer_labels`. One-hot and soft
    targets are for `softmax_cross_entropy`; `optax.smooth_labels` smooths them.

    Args:
      label_smoothing: s, the share of each label that all o classes have alike, from 0 to 1.
      class_weights: w (o,), numbers of at least 0; None for 1 each.
      ignore: a label that does not count, such as that of padded positions: loss and derivative are 0 there, whatever
        z holds. An example of which nothing counts has a loss of 0. None where every label counts.
      over_positions: "sum", or "mean": over an example's own positions that count, each of them alike. Losses that
        divide by a batch's number of positions mix examples.

    Returns:
      A loss of z (m, *t, o) and labels y (m, *t), from 0 to o - 1 or `ignore`. Others are refused, and under jit, where
      values are unknown, loss and derivative are NaN. Its `root_hessian` is exact. With smoothing, weights or a mean it
      is no log-likelihood, so that `sample` is refused by name.

    Raises:
      ValueError: when an option is out of its range; when traced, if class_weights are not o numbers, or y's type has
        no place for `ignore`.

    Source: Szegedy et al., Rethinking the inception architecture for computer vision, 2015, section 7 (smoothing);
    `torch.nn.CrossEntropyLoss` with reduction="none", summed over positions.

    Example:
      >>> loss = jn.losses.cross_entropy(label_smoothing=0.1, ignore=-1)
      >>> loss(z, jnp.array([0, -1]))
      Array([0.23, 0.  ], dtype=float32)
      >>> loss.backward(z, jnp.array([0, -1]))
      Array([[-0.07,  0.07],
             [ 0.  ,  0.  ]], dtype=float32)
    """
    options = _required(label_smoothing, class_weights, ignore, over_positions)
    parts = cross_entropy_forward, cross_entropy_backward, cross_entropy_root_hessian
    sample: Callable[..., Any] | Refused = cross_entropy_sample
    if options.keys() - {"ignore"}:
        sample = no_sample("cross_entropy", "with label_smoothing, class_weights or a mean it is no log-likelihood")
    given = None if ignore is None else partial(cross_entropy_given, options["ignore"])
    forward, backward, root_hessian = (partial(part, **options) for part in parts)
    return Loss(forward, backward, root_hessian, sample, given)


def _required(label_smoothing, class_weights, ignore, over_positions) -> Options:
    """The options that are not the defaults, in their ranges."""
    options: Options = {}
    smoothing = float(label_smoothing) if hasattr(label_smoothing, "__float__") else -1.0
    if not 0 <= smoothing <= 1:
        raise ValueError(f"cross_entropy: expected label_smoothing from 0 to 1, got {shown(label_smoothing)}")
    if smoothing:
        options["label_smoothing"] = smoothing
    if class_weights is not None:
        weights = np.asarray(class_weights, np.float64)
        if weights.ndim != 1 or not (np.isfinite(weights) & (weights >= 0)).all():
            got = shown(weights) if weights.ndim == 1 else f"shape {weights.shape}"
            raise ValueError(f"cross_entropy: expected class_weights (o,), finite and at least 0, got {got}")
        options["class_weights"] = weights
    if ignore is not None:
        options["ignore"] = whole_number("cross_entropy", "ignore", ignore)
    if takes_mean("cross_entropy", over_positions):
        options["over_positions"] = "mean"
    return options


def _outputs_and_targets(z, y, *, label_smoothing=0.0, class_weights=None, ignore=None, over_positions="sum"):
    """z, with 0 where nothing counts, and t."""
    z, y = integer_labels(z, y, "cross_entropy", ignore)
    classes, at_label = z.shape[-1], labelled(z, y)
    t = (1 - label_smoothing) * at_label.astype(z.dtype) + label_smoothing / classes
    if class_weights is not None:
        if class_weights.shape != (classes,):
            raise ValueError(
                f"cross_entropy: expected class_weights of shape {(classes,)}, one for each class, "
                f"got {class_weights.shape}"
            )
        t = t * jnp.expand_dims(jnp.asarray(class_weights, z.dtype), range(z.ndim - 1))
    # A label out of range shows, where it was not refused.
    t = jnp.where(at_label.any(-1, keepdims=True), t, jnp.nan)
    counts = jnp.ones(y.shape, bool) if ignore is None else y != ignore
    if over_positions == "mean":
        t = t / per_position(counts, z.dtype)[..., None]
    return jnp.where(counts[..., None], z, 0), jnp.where(counts[..., None], t, 0)
