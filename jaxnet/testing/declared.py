"""What a layer says of itself, `kind` and `made`, held against what it does."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.layer import Layer
from jaxnet.testing.points import as_numpy
from jaxnet.testing.rule import Case, first_line, floating_only

# Far above rounding in float64, and far below what a wrong statement makes of random numbers.
TOLERANCE = 1e-9


def check_declared(name: str, layer: Layer, case: Case, pullback: Callable[..., Any], rng: np.random.Generator) -> None:
    """Asserts that dy/dx is of the layer's `kind`, and that `made` makes the layer again.

    Args:
      name: what messages call the layer.
      layer: what is asked, whose backward is right.
      case: how it was asked: its rule, and where.
      pullback: `(layer, params, x, dy) -> (y, (dparams, dx))`, the rule's for any layer.
      rng: of the cotangents.

    Raises:
      AssertionError: naming what is said wrongly.
    """

    def by_hand(dy):
        return as_numpy(case.evaluate(case.point, dy)[0])

    if layer.kind is not None:
        _check_kind(name, layer, case.point[1], case.dy, lambda dy: by_hand(dy)["dx"], rng)
    if layer.made is not None:
        dy = _random(case.dy, rng)
        _check_made(name, layer, pullback, jax.tree.map(jnp.asarray, (*case.point, dy)), by_hand(dy))


def _check_kind(name, layer, x, y, dx_of, rng):
    where = f"{name}: kind is {layer.kind!r}"
    if layer.kind not in ("linear", "elementwise"):
        raise AssertionError(f"{where}, expected 'linear', 'elementwise' or None")
    if not (hasattr(x, "shape") and hasattr(y, "shape")):
        raise AssertionError(f"{where}, which is said of one array alone; leave it out of a layer that takes a tuple")
    if layer.kind == "elementwise":
        dy, kept = _random(y, rng), rng.integers(0, 2, y.shape).astype(y.dtype)
        if x.shape != y.shape or not _alike(dx_of(dy * kept), dx_of(dy) * kept):
            raise AssertionError(f"{where}, but dx depends on dy in other places; leave kind out, or say 'linear'")
        return
    dx = dx_of(np.broadcast_to(rng.standard_normal(y.shape[-1:]), y.shape))
    rows = dx.reshape(-1, dx.shape[-1])
    if not _alike(rows, np.broadcast_to(rows[:1], rows.shape)):
        raise AssertionError(
            f"{where}, but dy/dx is not the same matrix for all examples and positions; leave kind out"
        )


def _check_made(name, layer, pullback, arguments, by_hand):
    params, x, _ = arguments
    where = f"{name}: made() makes another layer"
    try:
        y, (dparams, dx) = pullback(layer.made(), *arguments)
    except Exception as error:
        raise AssertionError(f"{where}, which raises {first_line(error)}; give made every option") from error
    again = {"y": y, "dparams": floating_only(where, params, dparams), "dx": floating_only(where, x, dx)}
    for what, value in again.items():
        ours, theirs = jax.tree.leaves(by_hand[what]), jax.tree.leaves(value)
        if len(ours) != len(theirs) or not all(map(_alike, ours, theirs)):
            raise AssertionError(f"{where}, of another {what}; give made every layer and option")


def _random(y, rng):
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), y)


def _alike(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    size = np.abs(expected).max(initial=0.0)
    return actual.shape == expected.shape and np.allclose(actual, expected, rtol=0, atol=TOLERANCE * size)
