"""Groups of an example's channels moved to mean 0 and variance 1 over all positions, then scaled and shifted.

Every group's statistics are of one example. Batch norm mixes examples, so that an example's gradient does not exist,
and there is no such layer here: `group_norm` is what to use in its place.
"""

import math
from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from jaxnet.arguments import positive_integer, positive_number
from jaxnet.arrays import require_cotangent, require_features, require_parameters
from jaxnet.bend import Bend
from jaxnet.factored.layouts import parts_along
from jaxnet.layer import Layer
from jaxnet.standardised import EPSILON, bend_of_standardised, laid_out, of_features, standardised


class GroupNorm(NamedTuple):
    """The parameters of `group_norm` and `instance_norm`, or whatever has their structure.

    Attributes:
      gain: (channels,), what each channel is multiplied by; 1 at the start.
      bias: (channels,), what is added to it; 0 at the start. None for a layer without one.
    """

    gain: Any
    bias: Any = None


def group_norm_init(channels, bias, key):
    return GroupNorm(gain=jnp.ones(channels), bias=jnp.zeros(channels) if bias else None)


def group_norm_forward(
    groups: int,
    channels: int,
    params: GroupNorm,
    x: Float[Array, "m *t c"],
    *,
    epsilon: float = EPSILON,
    bias: bool = True,
) -> tuple[Float[Array, "m *t c"], tuple[Float[Array, "m *t c"], Float[Array, "m *_ 1"]]]:
    """y = n * gain + bias with n = (x - mean x) r, over positions and a group's channels. The cache is n and r."""
    return _forward(_label("group_norm", (groups, channels), bias), groups, channels, params, x, epsilon, bias)


def group_norm_backward(
    groups: int,
    channels: int,
    params: GroupNorm,
    cache: tuple[Float[Array, "m *t c"], Float[Array, "m *_ 1"]],
    dy: Float[Array, "m *t c"],
    *,
    bias: bool = True,
) -> tuple[GroupNorm, Float[Array, "m *t c"]]:
    """dgain_j = dy_j n_j, dbias_j = dy_j, dn_j = dy_j gain_j; then from n to x, as `standardised` derives it."""
    return _backward(_label("group_norm", (groups, channels), bias), groups, channels, params, cache, dy, bias)


def instance_norm_forward(
    channels: int, params: GroupNorm, x: Float[Array, "m *t c"], *, epsilon: float = EPSILON, bias: bool = True
) -> tuple[Float[Array, "m *t c"], tuple[Float[Array, "m *t c"], Float[Array, "m *_ 1"]]]:
    """y = n * gain + bias with n = (x - mean x) r, over each channel's positions. The cache is n and r."""
    return _forward(_label("instance_norm", (channels,), bias), channels, channels, params, x, epsilon, bias)


def instance_norm_backward(
    channels: int,
    params: GroupNorm,
    cache: tuple[Float[Array, "m *t c"], Float[Array, "m *_ 1"]],
    dy: Float[Array, "m *t c"],
    *,
    bias: bool = True,
) -> tuple[GroupNorm, Float[Array, "m *t c"]]:
    """As `group_norm_backward`, with a group for each channel."""
    return _backward(_label("instance_norm", (channels,), bias), channels, channels, params, cache, dy, bias)


def group_norm_second(
    groups: int,
    params: GroupNorm,
    cache: tuple[Float[Array, "m *t c"], Float[Array, "m *_ 1"]],
    dy: Float[Array, "m *t c"],
) -> Bend:
    """How dx changes with x: a column for each number, and three for each group."""
    kept, scale = cache
    dnormed = dy.astype(scale.dtype) * jnp.expand_dims(params.gain, range(dy.ndim - 1)).astype(scale.dtype)
    normed, dnormed = (_apart(laid_out(signal, jax.typeof(kept).sharding), groups) for signal in (kept, dnormed))
    bend = bend_of_standardised(normed.astype(scale.dtype), scale, dnormed, _axes(normed)).astype(dy.dtype)
    return bend._replace(S=bend.S.reshape(-1, *dy.shape))


def _forward(where, groups, channels, params, x, epsilon, bias):
    x = jnp.asarray(x)
    require_parameters(where, GroupNorm, (channels,), params, () if bias else ("bias",))
    require_features(where, channels, x, params.gain.dtype)
    if x.ndim < 2 or math.prod(x.shape[1:]) == groups:
        raise ValueError(
            f"{where}: expected x of shape (m, ..., {channels}) with more than one number in a group, got {x.shape}"
        )
    # 1. x apart by groups, (m, ..., groups, channels of a group)
    apart = _apart(x, groups)
    # 2. n = c r with c = x - mean x
    centred, scale = standardised(apart, _axes(apart), epsilon)
    normed = laid_out((centred * scale).reshape(x.shape), jax.typeof(x).sharding)
    # 3. y = n * gain + bias, as c (r gain) + bias: a group's numbers are multiplied once
    gain = _apart(jnp.expand_dims(params.gain, range(x.ndim - 1)).astype(scale.dtype), groups)
    y = laid_out((centred * (scale * gain)).reshape(x.shape), jax.typeof(x).sharding)
    if bias:
        y = y + jnp.expand_dims(params.bias, range(x.ndim - 1)).astype(y.dtype)
    return y.astype(x.dtype), (normed.astype(x.dtype), scale)


def _backward(where, groups, channels, params, cache, dy, bias):
    kept, scale = cache
    require_parameters(where, GroupNorm, (channels,), params, () if bias else ("bias",))
    require_cotangent(where, kept.shape, dy)
    normed, long_dy = kept.astype(scale.dtype), dy.astype(scale.dtype)
    # 3. y = n * gain + bias
    positions = tuple(range(1, dy.ndim - 1))
    of_bias, of_gain = (terms.sum(positions, keepdims=True) for terms in (long_dy, long_dy * normed))
    dparams = GroupNorm(
        gain=of_features(params.gain, of_gain), bias=of_features(params.bias, of_bias) if bias else None
    )
    # 2. n = (x - mean x) r, and dx = r (dn - n mean(dn n) - mean dn), whose means are sums of gradients with gains
    gain = _apart(jnp.expand_dims(params.gain, range(dy.ndim - 1)).astype(scale.dtype), groups)
    normed, long_dy = _apart(normed, groups), _apart(laid_out(long_dy, jax.typeof(kept).sharding), groups)
    numbers = math.prod(normed.shape[1:-2]) * normed.shape[-1]
    mean_dn, mean_dn_n = (
        (_apart(terms, groups) * gain).sum(-1, keepdims=True) / numbers for terms in (of_bias, of_gain)
    )
    dapart = long_dy * (scale * gain) - normed * (scale * mean_dn_n) - scale * mean_dn
    # 1. x apart by groups
    dx = dapart.reshape(dy.shape).astype(dy.dtype)
    return dparams, laid_out(dx, jax.typeof(kept).sharding)


def _apart(signal, groups):
    """(m, ..., groups, channels of a group): where an explicit mesh would cut a group, with all on every device."""
    if groups % parts_along(signal, -1):
        sharding = jax.typeof(signal).sharding
        signal = laid_out(signal, sharding.update(spec=PartitionSpec(*sharding.spec[:-1], None)))
    return signal.reshape(*signal.shape[:-1], groups, signal.shape[-1] // groups)


def _axes(apart):
    """Positions, and the channels of a group."""
    return (*range(1, apart.ndim - 2), apart.ndim - 1)


def group_norm(groups: SupportsIndex, channels: SupportsIndex, *, epsilon: float = EPSILON, bias: bool = True) -> Layer:
    """Group normalisation: y = (x - mean x) / sqrt(var x + epsilon) * gain + bias, over a group's channels.

    Mean and variance are over all positions, too, and of one example. Batch norm mixes examples, so that an example's
    gradient does not exist: use this in its place.

    Args:
      groups: how many groups of neighbouring channels there are: 1 for all in one, at most `channels`, of which it is a
        divisor.
      channels: the number of features of `x (m, ..., channels)`; the axes between are positions.
      epsilon: added to the variance, in its units, above 0. Numbers that are all equal give the bias.
      bias: whether there is one. Without it y = (x - mean x) / sqrt(var x + epsilon) * gain.

    Returns:
      A layer with parameters `GroupNorm(gain (channels,), bias (channels,))`; without a bias it is None. Gradients take
      2 channels numbers for an example, however many positions it has. Mean and variance are taken in float32 at least.
      It keeps n = (x - mean x) / sqrt(var x + epsilon), of x's size and type, and a number for each group.

    Raises:
      ValueError: when groups or channels is not a positive integer, groups no divisor of channels, or epsilon not a
        positive number; and, when the layer is traced, if the parameters are of another size, x has another number of
        features or another dtype than they, or a group has a single number.

    Source: Wu and He, Group normalization, 2018, equation 7.

    Example:
      >>> norm = jn.group_norm(2, 4)
      >>> params = norm.init(key)
      >>> jax.tree.map(jnp.shape, params)
      GroupNorm(gain=(4,), bias=(4,))
      >>> norm(params, jnp.array([[1.0, 3.0, 10.0, 30.0]]))
      Array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    groups = positive_integer("group_norm", "groups", groups)
    channels = positive_integer("group_norm", "channels", channels)
    if channels % groups:
        raise ValueError(f"group_norm: expected groups to divide the {channels} channels, got {groups}")
    options, of_both = _options("group_norm", epsilon, bias)
    forward = partial(group_norm_forward, groups, channels, **options, **of_both)
    backward = partial(group_norm_backward, groups, channels, **of_both)
    second = partial(group_norm_second, groups)
    return Layer(partial(group_norm_init, channels, bias), forward, backward, second)


def instance_norm(channels: SupportsIndex, *, epsilon: float = EPSILON, bias: bool = True) -> Layer:
    """Instance normalisation: `group_norm` with a group for each channel, whose statistics are over its positions.

    Args:
      channels: the number of features of `x (m, ..., channels)`, which has positions.
      epsilon, bias: as for `group_norm`.

    Returns:
      A layer with parameters `GroupNorm(gain (channels,), bias (channels,))`, at the costs of `group_norm`.

    Raises:
      ValueError: as `group_norm` does; x without positions, too.

    Source: Ulyanov, Vedaldi and Lempitsky, Instance normalization, 2016, equation 2.

    Example:
      >>> norm = jn.instance_norm(1)
      >>> y = norm(norm.init(key), jnp.array([1.0, 3.0]).reshape(1, 2, 1))
      >>> y[0, :, 0]
      Array([-1.,  1.], dtype=float32)
    """
    channels = positive_integer("instance_norm", "channels", channels)
    options, of_both = _options("instance_norm", epsilon, bias)
    forward = partial(instance_norm_forward, channels, **options, **of_both)
    backward, second = partial(instance_norm_backward, channels, **of_both), partial(group_norm_second, channels)
    return Layer(partial(group_norm_init, channels, bias), forward, backward, second)


def _options(where, epsilon, bias) -> tuple[dict[str, Any], dict[str, Any]]:
    epsilon = positive_number(where, "epsilon", epsilon)
    return {} if epsilon == EPSILON else {"epsilon": epsilon}, {} if bias else {"bias": False}


def _label(name, sizes, bias):
    return f"{name}({', '.join(map(str, sizes))}{'' if bias else ', bias=False'})"
