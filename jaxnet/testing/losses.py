"""A loss: its derivative, its curvature, the points where it may be special, and its samples."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnet.description import name_of
from jaxnet.losses import Loss, Refused
from jaxnet.testing.closeness import assert_close
from jaxnet.testing.kinks import check_kinks, special_points
from jaxnet.testing.points import float64, generator
from jaxnet.testing.questions import TOLERANCE, check_rule
from jaxnet.testing.rule import Rule
from jaxnet.testing.samples import check_samples
from jaxnet.testing.short_types import SHORT_TYPES, required_short_types
from jaxnet.weighting import along_examples


def check_loss(
    loss: Loss,
    z: Any,
    y: Any,
    *,
    tolerance: float = TOLERANCE,
    zero_gradients: bool = False,
    short_types: Sequence[str] = SHORT_TYPES,
) -> None:
    """Asserts that a loss's backward and root Hessian are its first and second derivative, and that samples fit.

    backward: all that `check_vjp` asserts. root_hessian: sum_v S_v S_v^T equals `jax.hessian` of each example's loss.
    Both, and `jax.grad` and `jax.jvp` of forward and backward, are what steps to either side say at special points too:
    at 0.0 and -0.0, at whole numbers, where outputs tie or equal their targets; at a true kink either side is allowed.
    sample: targets of y's shape and kind, under which the mean of backward is zero, as it is for every log-likelihood
    under its own distribution. What a loss refuses, by a `jaxnet.losses.Refused`, is not asked.

    Args:
      loss: any loss, yours as well.
      z: outputs (m, ..., o).
      y: targets, or a pytree of them.
      tolerance, zero_gradients, short_types: as for `check_vjp`.

    Raises:
      AssertionError: with the quantity, the worst index, both values and the relative error.
      ValueError: for a short type of another name.

    Example:
      >>> z, y = jnp.array([[0.5, -1.0]]), jnp.array([[0.0, 1.0]])
      >>> jn.testing.check_loss(jn.losses.half_squared_error, z, y, short_types=())
    """
    name = f"check_loss: {name_of(loss.forward)}"
    short_types = required_short_types("check_loss", short_types)

    def pullback(z, y, dlosses):
        dz = loss.backward(z, y)
        return loss.forward(z, y), (dz * along_examples(dlosses.astype(dz.dtype), dz),)

    @jax.jit
    def hessians(z, y):
        S = loss.root_hessian(z, y).reshape(-1, z.shape[0], z[0].size)
        by_hand = jnp.einsum("vmi,vmj->mij", S, S)
        by_autodiff = jax.vmap(jax.hessian(lambda z, y: loss.forward(*of_one(z, y))[0]))(z, y)
        return {"hessian": by_hand}, {"hessian": by_autodiff.reshape(by_hand.shape)}

    def of_one(z, y):
        return jax.tree.map(lambda leaf: leaf[None], (z, y))

    with jax.enable_x64(True):
        z, y = float64(z), float64(y)
        _require_shapes(name, loss, z, y)
        rule = Rule(name, jax.jit(loss.forward), pullback, (z,), ("dz",), (y,))
        check_rule(rule, generator(None), tolerance=tolerance, zero_gradients=zero_gradients, short_types=short_types)
        if not isinstance(loss.root_hessian, Refused):
            by_hand, expected = hessians(z, y)
            assert_close(f"{name}, float64", by_hand, expected, lambda _, __: tolerance)
        _check_kinks(name, loss, z, y)
        if not isinstance(loss.sample, Refused):
            check_samples(name, loss, z, y, jax.random.key(1))


def _check_kinks(name, loss, z, y):
    def curvature(z, y, d):
        S = loss.root_hessian(z, y)
        along = (S * d[None]).sum(tuple(range(2, S.ndim)), keepdims=True)
        return (S * along).sum(0)

    points, examples, coordinates = special_points(z, y)
    targets = jax.tree.map(lambda leaf: leaf[examples], y)
    by_root = None if isinstance(loss.root_hessian, Refused) else curvature
    check_kinks(name, loss.forward, loss.backward, by_root, points, targets, coordinates)


def _require_shapes(name, loss, z, y):
    losses = jax.eval_shape(loss.forward, z, y)
    if losses.shape != z.shape[:1]:
        raise AssertionError(f"{name}: forward gives shape {losses.shape}, expected {z.shape[:1]}")
    if isinstance(loss.root_hessian, Refused):
        return
    root = jax.eval_shape(loss.root_hessian, z, y)
    if root.shape[1:] != z.shape:
        raise AssertionError(
            f"{name}: root_hessian gives shape {root.shape}, expected (v, {', '.join(map(str, z.shape))}), S with "
            "sum_v S_v S_v^T the second derivative of each example's loss"
        )
