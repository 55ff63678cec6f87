"""The points that a random one never meets: zero, minus zero, whole numbers, outputs that tie, an output at its target.

There a stable form may branch, as `abs` and `where` do, and bring a kink into a derivative of a function that has none.
What the values themselves say is the judge: a step to either side gives the slope there, in float64. Between the two,
which agree where the function is smooth, must lie what each way of differentiating gives; at a true kink either side is
allowed, and what is between.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.testing.closeness import is_floating

# Zero starts, and where clipped and piecewise functions commonly branch
WHOLE = (0.0, -0.0, 0.5, 1.0, -1.0, 3.0, -3.0, 6.0)
# The slopes to either side differ by a step times the curvature, and rounding over a step is 2e-10.
STEP = 1e-6
SLOPE_TOLERANCE = 1e-6
# Slopes to either side that differ by more than this, of the largest slope, are a kink's.
KINK = 1e-3
# Units in the last place that a value may err by.
ULPS = 16
# Of an example's numbers; each is moved by itself.
COORDINATES = 4


def special_points(z: Any, y: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points like the examples of z, each with an example to take its target from, and the number to move.

    Args:
      z: (m, *f).
      y: targets (m, ...), or a pytree of them; None where there are none.

    Returns:
      (n, *f) points; (n,) numbers of examples; (n,) indices into an example's numbers, flat.
    """
    z = np.asarray(z, np.float64)
    rows, owners = [], []

    def add(row, example):
        rows.append(np.broadcast_to(row, z.shape[1:]))
        owners.append(example)

    for number, value in enumerate(WHOLE):
        add(value, number % len(z))
    for number in range(min(2, len(z))):
        # One number among ordinary ones is special, then two of them tie.
        one, tie = np.array(z[number]), np.array(z[number])
        one.flat[0] = 0.0
        tie.flat[-1] = tie.flat[0]
        add(one, number)
        add(tie, number)
        for target in jax.tree.leaves(y):
            if is_floating(target) and target.shape == z.shape:
                for offset in (0.0, 1.0, -1.0):
                    add(np.asarray(target)[number] + offset, number)
    size = z[0].size
    coordinates = np.unique(np.linspace(0, size - 1, min(size, COORDINATES)).astype(int))
    points = np.repeat(np.stack(rows), len(coordinates), axis=0)
    return points, np.repeat(owners, len(coordinates)), np.tile(coordinates, len(rows))


def check_kinks(
    name: str,
    value: Callable[[Any, Any], Any],
    slope: Callable[[Any, Any], Any],
    curvature: Callable[[Any, Any, Any], Any] | None,
    points: np.ndarray,
    targets: Any,
    coordinates: np.ndarray,
    *,
    words: tuple[str, str, str] = ("forward", "backward", "root_hessian"),
) -> None:
    """Asserts that first and second derivatives at given points are what steps to either side say.

    Args:
      name: what is checked, the beginning of the message.
      value: `(z, y) -> (n,)`, a number for each example.
      slope: `(z, y) -> z's shape`, its derivative by hand.
      curvature: `(z, y, d) -> z's shape`, the second derivative by hand along d; None where there is none.
      points: (n, *f).
      targets: pytree with a leading axis of n.
      coordinates: (n,), which of an example's numbers is moved.
      words: what messages call the three functions.

    Raises:
      AssertionError: with the point, and what each way of differentiating gives there.
    """
    results = jax.jit(lambda z, y, d: _derivatives(value, slope, curvature, words, z, y, d))
    directions = np.zeros_like(points)
    directions.reshape(len(points), -1)[np.arange(len(points)), coordinates] = 1
    values, slopes, first, second = jax.tree.map(np.asarray, results(points, targets, directions))
    lower, upper, smooth = _between(values, np.ones(len(points), bool))
    _require(name, "slope of " + words[0], first, lower, upper, points, coordinates)
    # Where the value has a kink the slope jumps, and says nothing of a second derivative.
    lower, upper, _ = _between(np.moveaxis(slopes, 0, -1), smooth.reshape(-1, *(1,) * (slopes.ndim - 2)))
    _require(name, "slope of " + words[1], second, lower, upper, points, coordinates)


def _derivatives(value, slope, curvature, words, z, y, d):
    """Values and slopes by hand at the points and to either side; both derivatives along d, in every way."""
    sides = [z - STEP * d, z, z + STEP * d]
    values = jnp.stack([value(side, y) for side in sides], axis=-1)
    slopes = jnp.stack([slope(side, y) for side in sides])

    def gradient(z):
        return jax.grad(lambda z: value(z, y).sum())(z)

    along = tuple(range(1, z.ndim))
    by_grad, grad_bend = jax.jvp(gradient, (z,), (d,))
    _, by_jvp = jax.jvp(lambda z: value(z, y), (z,), (d,))
    by_hand, bend = jax.jvp(lambda z: slope(z, y), (z,), (d,))
    first = {
        words[1]: (by_hand * d).sum(along),
        f"jax.grad of {words[0]}": (by_grad * d).sum(along),
        f"jax.jvp of {words[0]}": by_jvp,
    }
    second = {f"jax.jvp of {words[1]}": bend, f"jax.jvp of jax.grad of {words[0]}": grad_bend}
    if curvature is not None:
        second[words[2]] = curvature(z, y, d)
    return values, slopes, first, second


def _between(sides, asked):
    """The slopes to the left and to the right, the lower and the upper one, and where there is no kink."""
    known = asked & np.isfinite(sides).all(axis=-1)
    sides = np.where(known[..., None], sides, 0.0)
    left, right = ((sides[..., k + 1] - sides[..., k]) / STEP for k in (0, 1))
    largest = np.maximum(np.abs(left), np.abs(right))
    # Of the largest at any point: what is small here may be a difference of what is not.
    rounding = ULPS * np.finfo(np.float64).eps * np.abs(sides).max(initial=0.0) / STEP
    margin = SLOPE_TOLERANCE * largest + rounding
    lower = np.where(known, np.minimum(left, right) - margin, -np.inf)
    upper = np.where(known, np.maximum(left, right) + margin, np.inf)
    return lower, upper, known & (np.abs(right - left) <= KINK * largest.max(initial=0.0) + rounding)


def _require(name, what, derivatives, lower, upper, points, coordinates):
    known = np.isfinite(lower)
    for way, derivative in derivatives.items():
        bad = np.argwhere(known & ~((lower <= derivative) & (derivative <= upper)))
        if len(bad):
            index = tuple(bad[0])
            low, high = float(lower[index]), float(upper[index])
            steps = f"{(low + high) / 2:.6g}" if high - low < KINK * max(1.0, abs(high)) else f"{low:.6g} to {high:.6g}"
            moved = points[index[0]].reshape(-1)
            numbers = np.array2string(moved, precision=3, threshold=6, separator=", ").replace("\n", "")
            raise AssertionError(
                f"{name}, at the special point {numbers}, along number {coordinates[index[0]]}: the {what} is {steps} "
                f"by steps to either side, and {float(derivative[index]):.6g} by {way}"
            )
