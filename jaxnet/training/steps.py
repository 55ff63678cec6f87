"""Many iterations as one program: a scan over batches."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import lax

from jaxnet import gradient
from jaxnet.arguments import count_examples
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.metrics import Metric
from jaxnet.training.compiled import Compiled, Labels
from jaxnet.training.state import TrainState, check_state
from jaxnet.training.update import check_parts, make_update
from jaxnet.weighting import check_weights


def make_steps(
    net: Layer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    value_and_grad: Callable[..., Callable[..., Any]] = gradient.value_and_grad,
    metrics: dict[str, Metric] | None = None,
) -> Callable[..., tuple[TrainState, dict[str, Any]]]:
    """Many iterations, compiled as a single `lax.scan` over batches that are there already, in their order.

    For data that does not fit on the device: fill one block of batches while another is computed.

    Args:
      net, loss, optimizer, value_and_grad, metrics: as for `make_step`.

    Returns:
      `(state, x, y, weights=None) -> (state, {"loss": J, ...})`, jit-compiled, for k batches of m examples:
      x (k, m, ...), y (k, m, ...), weights (k, m) in place of 1/m, if any, as for `value_and_grad`; J (k,) is each
      batch's loss before its update, and the metrics' values have a leading axis of k too. With weights, each of the
      metrics must take them. The state is consumed, as by `make_step`.

    Raises:
      ValueError: as for `make_step`; when traced, if the weights are not one for each example of each batch, or a
        metric does not take them.

    Example:
      >>> net, optimizer = jn.mlp((3, 4, 1)), optax.sgd(0.1)
      >>> state = jn.TrainState.create(net.init(key), optimizer)
      >>> steps = jn.make_steps(net, jn.losses.half_squared_error, optimizer)
      >>> state, metrics = steps(state, jnp.ones((3, 4, 3)), jnp.zeros((3, 4, 1)))
      >>> metrics["loss"].shape, int(state.step)
      ((3,), 3)
    """
    check_parts("make_steps", net, loss, optimizer, value_and_grad, metrics)
    labels = Labels(loss, axes=2)
    scan = make_scan("make_steps", net, labels.noting, optimizer, value_and_grad, metrics)

    def steps(state, x, y, weights=None):
        check_state("make_steps", optimizer, state)
        count_examples("make_steps", x, y, axes=2)
        if weights is not None:
            check_weights("make_steps", weights, jax.tree.leaves(x)[0].shape[:2])
        return scan(state, x, y, weights)

    return Compiled("make_steps", steps, labels)


def make_scan(where: str, *parts: Any) -> Callable[..., tuple[TrainState, dict[str, Any]]]:
    """`(state, x, y, weights) -> (state, metrics)` for arrays with an axis of batches, which the metrics have too."""
    update = make_update(where, *parts)

    def scan(state, x, y, weights):
        return lax.scan(lambda state, batch: update(state, *batch), state, (x, y, weights))

    return scan
