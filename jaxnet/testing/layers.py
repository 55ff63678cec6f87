"""A layer, by itself: its backward, and its second derivative where it has one."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import per_example
from jaxnet.bend import Bend
from jaxnet.layer import Layer
from jaxnet.testing.closeness import assert_close, is_floating
from jaxnet.testing.contract import check_contract, start
from jaxnet.testing.declared import check_declared
from jaxnet.testing.kinks import check_kinks, special_points
from jaxnet.testing.points import examples_of, float64, generator, moved_params
from jaxnet.testing.questions import TOLERANCE, check_rule
from jaxnet.testing.rule import Rule, floating_only
from jaxnet.testing.short_types import SHORT_TYPES, required_short_types
from jaxnet.weighting import weighted


def check_layer(
    layer: Layer,
    x: Any,
    key: jax.Array,
    *,
    tolerance: float = TOLERANCE,
    zero_gradients: bool = False,
    short_types: Sequence[str] = SHORT_TYPES,
) -> None:
    """Asserts that a layer's backward is the derivative of its forward, for parameters and input.

    First that forward and backward return what the contract says, for examples that do not depend on one another; the
    message names the commonest mistakes and their remedy. Then all that `check_vjp` asserts of `layer.apply`, for
    parameters moved off their start. The per-example gradients are read with a weight of its own for each example, so
    that mixed-up examples, which a sum would hide, show. Where the layer has `second`, that is the second derivative:
    what backward changes by along x, and along params by nothing. What it says of itself by `kind` and `made` must be
    so. A layer without parameters that keeps its input's shape, such as an activation, is asked at special points too,
    as `check_loss` asks.

    Args:
      layer: any layer or network, yours as well; its examples must not depend on one another.
      x: an input (m, ..., features), or a pytree of arrays with the examples first; away from kinks.
      key: from which parameters, cotangents and weights are drawn.
      tolerance, zero_gradients, short_types: as for `check_vjp`.

    Raises:
      AssertionError: as `check_vjp` does.
      ValueError: for a short type of another name.

    Example:
      >>> jn.testing.check_layer(jn.dense(3, 2), jnp.ones((2, 3)), key, short_types=())  # no message: it is right
    """
    name = f"check_layer: {layer.name}"
    short_types = required_short_types("check_layer", short_types)
    with jax.enable_x64(True):
        rng = generator(key)
        params = moved_params(start(name, layer, key), rng)
        apply = jax.jit(layer.apply)
        check_contract(name, layer, apply, params, float64(x))
        # Powers of two, so that dividing and multiplying by them is exact in every type.
        pullback = partial(_pullback, rng.choice([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0], examples_of(x)))
        rule = Rule(name, apply, partial(pullback, layer), (params, x), ("dparams", "dx"))
        case = check_rule(rule, rng, tolerance=tolerance, zero_gradients=zero_gradients, short_types=short_types)
        if layer.second is not None:
            _check_second(layer, params, float64(x), rng, tolerance)
        check_declared(name, layer, case, pullback, rng)
        if not jax.tree.leaves(params) and _is_one_array_of_the_same_shape(layer, params, float64(x)):
            _check_kinks(layer, params, x, rng)


def _is_one_array_of_the_same_shape(layer, params, x):
    y = jax.eval_shape(layer.apply, params, x)
    return hasattr(x, "shape") and is_floating(x) and getattr(y, "shape", None) == x.shape


def _pullback(weights, layer, params, x, dy):
    """With a weight of its own for each example, which the readings undo."""
    y, cache = layer.forward(params, x)
    dparams, dx = layer.backward(params, cache, _weighted(1 / weights, dy))
    total = per_example.total(dparams, jnp.asarray(weights, jax.tree.leaves(dy)[0].dtype))
    return y, (total, _weighted(weights, dx))


def _check_second(layer, params, x, rng, tolerance):
    """How the pullback of dy changes along a random direction, in x and in params."""

    def pullback(params, x, dy):
        _, vjp = jax.vjp(layer.apply, params, x)
        return vjp(dy)

    def by_autodiff(params, x, dy, along_params, along_x):
        _, (bend_of_params, _) = jax.jvp(lambda params: pullback(params, x, dy), (params,), (along_params,))
        tangent = jax.tree.map(lambda leaf, d: np.zeros(leaf.shape, jax.dtypes.float0) if d is None else d, x, along_x)
        _, (_, bend) = jax.jvp(lambda x: pullback(params, x, dy), (x,), (tangent,))
        return {"second": floating_only(layer.name, x, bend), "second derivative by params": bend_of_params}

    def by_hand(params, x, dy, along_params, along_x):
        _, cache = layer.forward(params, x)
        bend = _along(layer.second(params, cache, dy), along_x)
        return {"second": bend, "second derivative by params": jax.tree.map(jnp.zeros_like, params)}

    def draw(like):
        return jnp.asarray(rng.standard_normal(like.shape))

    dy = jax.tree.map(draw, jax.eval_shape(layer.apply, params, x))
    # Integers do not move.
    along_x = jax.tree.map(lambda leaf: draw(leaf) if is_floating(leaf) else None, x)
    arguments = params, x, dy, jax.tree.map(draw, params), along_x
    actual, expected = jax.jit(lambda *arguments: (by_hand(*arguments), by_autodiff(*arguments)))(*arguments)
    assert_close(f"check_layer: {layer.name}, float64", actual, expected, lambda _, __: tolerance)


def _along(bend, d):
    """How backward changes along d, as `second` tells it."""
    if isinstance(bend, Bend):
        return bend.along(d)
    return jax.tree.map(jnp.zeros_like, d) if bend is None else jax.tree.map(jnp.multiply, bend, d)


def _check_kinks(layer, params, x, rng):
    """Of what looks like an activation: a layer without parameters that keeps its input's shape."""

    def value(x, dy):
        return (dy * layer.apply(params, x)).sum(tuple(range(1, x.ndim)))

    def slope(x, dy):
        return layer.backward(params, layer.forward(params, x)[1], dy)[1]

    def curvature(x, dy, d):
        return _along(layer.second(params, layer.forward(params, x)[1], dy), d)

    points, _, coordinates = special_points(x)
    dy = rng.standard_normal(points.shape)
    bend, words = None if layer.second is None else curvature, ("forward", "backward", "second")
    check_kinks(f"check_layer: {layer.name}", value, slope, bend, points, dy, coordinates, words=words)


def _weighted(weights, signal):
    return jax.tree.map(lambda leaf: weighted(jnp.asarray(weights, leaf.dtype), leaf), signal)
