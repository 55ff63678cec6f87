"""What a layer says of itself, `kind` and `made`, held against what it does."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import per_example
from jaxnet.layer import Layer
from jaxnet.testing.rule import first_line

# Far above rounding in float64, and far below what a wrong statement makes of random numbers.
TOLERANCE = 1e-9


def check_declared(name: str, layer: Layer, params: Any, x: Any, rng: np.random.Generator) -> None:
    """Asserts that dy/dx is of the layer's `kind`, and that `made` makes the layer again.

    Args:
      name: what messages call the layer.
      layer: what is asked, whose backward is right.
      params, x: where, in float64.
      rng: of the cotangents.

    Raises:
      AssertionError: naming what is said wrongly.
    """
    y, cache = layer.forward(params, x)
    if layer.kind is not None:
        _check_kind(name, layer, x, y, lambda dy: layer.backward(params, cache, dy)[1], rng)
    if layer.made is not None:
        _check_made(name, layer, params, x, _random(y, rng))


def _check_kind(name, layer, x, y, pullback, rng):
    where = f"{name}: kind is {layer.kind!r}"
    if layer.kind not in ("linear", "elementwise"):
        raise AssertionError(f"{where}, expected 'linear', 'elementwise' or None")
    if not (hasattr(x, "shape") and hasattr(y, "shape")):
        raise AssertionError(f"{where}, which is said of one array alone; leave it out of a layer that takes a tuple")
    if layer.kind == "elementwise":
        dy, kept = _random(y, rng), jnp.asarray(rng.integers(0, 2, y.shape), y.dtype)
        if x.shape != y.shape or not _alike(pullback(dy * kept), pullback(dy) * kept):
            raise AssertionError(f"{where}, but dx depends on dy in other places; leave kind out, or say 'linear'")
        return
    dy = jnp.broadcast_to(jnp.asarray(rng.standard_normal(y.shape[-1:])), y.shape)
    dx = np.asarray(pullback(dy))
    rows = dx.reshape(-1, dx.shape[-1])
    if not _alike(rows, np.broadcast_to(rows[:1], rows.shape)):
        raise AssertionError(
            f"{where}, but dy/dx is not the same matrix for all examples and positions; leave kind out"
        )


def _check_made(name, layer, params, x, dy):
    def values(layer):
        y, cache = layer.forward(params, x)
        dparams, dx = layer.backward(params, cache, dy)
        return {"y": y, "dparams": per_example.total(dparams), "dx": dx}

    where = f"{name}: made() makes another layer"
    try:
        again = values(layer.made())
    except Exception as error:
        raise AssertionError(f"{where}, which raises {first_line(error)}; give made every option") from error
    for what, value in values(layer).items():
        ours, theirs = jax.tree.leaves(value), jax.tree.leaves(again[what])
        if len(ours) != len(theirs) or not all(map(_alike, ours, theirs)):
            raise AssertionError(f"{where}, of another {what}; give made every layer and option")


def _random(y, rng):
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), y)


def _alike(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    size = np.abs(expected).max(initial=0.0)
    return actual.shape == expected.shape and np.allclose(actual, expected, rtol=0, atol=TOLERANCE * size)
