"""What training leaves out at random: numbers, or whole branches of an example.

    y = x * mask / keep,  dx = dy * mask / keep,  with mask ~ Bernoulli(keep) and keep = 1 - rate

so that the expectation of y is x. The mask is drawn by a key that `bind` gives; without one y = x, as after training.
It is the same on every mesh of devices. The cache is the mask, a byte for each number.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float

from jaxnet.arguments import shown
from jaxnet.description import name_of
from jaxnet.layer import Decoder, Layer

Signal = Float[Array, "m *t"]
Kept = Bool[Array, "m ..."] | tuple[()]


def dropout_forward(rate: float, params: tuple[()], x: Signal, *, key: jax.Array | None = None) -> tuple[Signal, Kept]:
    """y = x * mask / keep, a number kept by itself with probability keep = 1 - rate; without a key y = x."""
    _check_input("dropout", rate, x)
    if key is None:
        return x, ()
    mask = jax.random.bernoulli(key, 1 - rate, x.shape, out_sharding=jax.typeof(x).sharding)
    return _masked(rate, mask, x), mask


def drop_path_forward(
    rate: float, params: tuple[()], x: Signal, *, key: jax.Array | None = None
) -> tuple[Signal, Kept]:
    """y = x * mask / keep, an example kept as a whole with probability keep = 1 - rate; without a key y = x."""
    _check_input("drop_path", rate, x)
    if key is None:
        return x, ()
    sharding = jax.typeof(x).sharding
    rows = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:1], *(None,) * (x.ndim - 1)))
    mask = jax.random.bernoulli(key, 1 - rate, (x.shape[0], *(1,) * (x.ndim - 1)), out_sharding=rows)
    return _masked(rate, mask, x), mask


def masked_backward(rate: float, params: tuple[()], mask: Kept, dy: Signal) -> tuple[tuple[()], Signal]:
    """dx = dy * mask / keep; without a mask dx = dy."""
    return params, dy if isinstance(mask, tuple) else _masked(rate, mask, dy)


def masked_second(params: tuple[()], mask: Kept, dy: Signal) -> None:
    """y is linear in x."""


def refuse_masks(forward: Any, length: int) -> Decoder:
    """A mask is drawn for all positions at once, and not as they come."""
    raise ValueError(
        f"decoder: expected a network that is not bound, got {name_of(forward)} with a key; it goes without"
    )


def dropout(rate: float) -> Layer:
    """Dropout: in training each number is 0 with a probability, and else larger by so much that the mean stays.

    y = x * mask / (1 - rate), with a mask of its own for every number and step. Unbound, as after training, y = x.
    `make_step`, `make_epoch` and `make_steps` bind what they train; by hand it is `bind(net, key)`.

    Args:
      rate: the probability of 0, in [0, 1).

    Raises:
      ValueError: when the rate is not in [0, 1); when traced, if x has no axis of examples.

    Source: Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014.

    Example:
      >>> layer = jn.dropout(0.5)
      >>> layer((), jnp.ones((1, 4)))
      Array([[1., 1., 1., 1.]], dtype=float32)
      >>> jn.bind(layer, key)((), jnp.ones((1, 4)))
      Array([[0., 0., 2., 2.]], dtype=float32)
    """
    return _masking(dropout_forward, _checked("dropout", rate))


def drop_path(rate: float) -> Layer:
    """Stochastic depth: in training an example skips what stands before this layer, with a probability.

    y = x * mask / (1 - rate), with one number of the mask for an example. It stands last inside a skip connection,
    `residual(chain(block, drop_path(0.1)))`, where an example that skips the block goes on as it is.

    Args:
      rate: the probability of skipping, in [0, 1).

    Raises:
      ValueError: when the rate is not in [0, 1); when traced, if x has no axis of examples.

    Source: Huang et al., Deep Networks with Stochastic Depth, 2016.

    Example:
      >>> layer = jn.bind(jn.drop_path(0.5), key)
      >>> layer((), jnp.ones((4, 2)))
      Array([[0., 0.],
             [0., 0.],
             [2., 2.],
             [2., 2.]], dtype=float32)
    """
    return _masking(drop_path_forward, _checked("drop_path", rate))


def _masking(forward, rate, **bound: Any):
    return Layer(
        _no_parameters,
        partial(forward, rate, **bound),
        partial(masked_backward, rate),
        masked_second,
        "elementwise",
        # With a rate of 0 there is nothing to draw.
        partial(_keyed, forward, rate) if rate else None,
        decoder=partial(refuse_masks, forward) if bound else None,
    )


def _keyed(forward, rate, key):
    return _masking(forward, rate, key=key)


def _masked(rate, mask, signal):
    return jnp.where(mask, signal / (1 - rate), jnp.zeros_like(signal))


def _no_parameters(key):
    return ()


def _checked(name, rate):
    if not (hasattr(rate, "__float__") and 0 <= rate < 1):
        raise ValueError(f"{name}: expected a rate in [0, 1), got {shown(rate)}")
    return float(rate)


def _check_input(name, rate, x):
    if not getattr(x, "shape", ()):
        got = "()" if hasattr(x, "shape") else f"a {type(x).__name__}"
        raise ValueError(f"{name}({rate:g}): expected x of shape (m, ...), the examples first, got {got}")
