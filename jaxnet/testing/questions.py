"""The questions that are put to a rule in float64; those in shorter types are `short_types`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.testing.closeness import is_floating, path_name
from jaxnet.testing.points import as_numpy, as_type, random_move, size_of
from jaxnet.testing.rule import Case, Rule, asked, by_hand, cotangents_of, evaluation, floating_only
from jaxnet.testing.short_types import check_short_types

# float64 rounds at 1.1e-16 and sums of some thousand terms in another order differ by about 1e-14.
TOLERANCE = 1e-12
# Central differences err by a step squared, and by rounding over a step: at 1e-4 by about 1e-8. Several steps are tried
# and the best counts, since a step across a kink says nothing.
STEPS = np.array([1e-3, 1e-4, 1e-5, 1e-6])
DIFFERENCE_TOLERANCE = 1e-6
DIRECTIONS = 3
# How far the point of the differences lies from the given one, which may be on a kink.
JITTER = 1e-3
# How far others lie, where a rule that is right here alone is wrong; in sizes of each argument.
FAR = (0.3, 1.0, 3.0)
# A function may end before: the logarithm of a negative number. Then half as far is tried, down to a jitter.
HALVINGS = 12
# Both signs, and far from 1, so that a clipped or normalised cotangent shows.
LINEAR = (1e6, -3.0)


def check_rule(
    rule: Rule,
    rng: np.random.Generator,
    *,
    tolerance: float,
    zero_gradients: bool,
    short_types: Sequence[str],
) -> Case:
    """Asserts all that a right pullback does, and returns what was asked; must run with 64-bit types enabled.

    The plainest questions come first, so that a mistake is told by the plainest message.
    """
    evaluate = evaluation(rule)
    point = as_type((*rule.arguments, *rule.constants), np.float64)
    shapes = jax.eval_shape(rule.plain, *point)
    _require_real(rule.name, rule.arguments, shapes)
    unit = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(leaf.dtype), shapes)
    # Eagerly first: what is raised there has the plainest traceback.
    hand = by_hand(rule, "float64, eager", jax.tree.map(jnp.asarray, point), jax.tree.map(jnp.asarray, unit))
    dy = jax.tree.map(lambda leaf, y: leaf / size_of(y), unit, hand["y"])
    case = Case(rule, point, dy, evaluate, tolerance)
    case.compare("float64, eager", hand, as_numpy(evaluate(point, unit)[1]), noise=case.noise64(point, unit))
    check_values(case, zero_gradients)
    check_linearity(case, rng)
    _, near = _as_far_as_it_is_finite(case, JITTER, rng)
    check_other_points(case, near, rng)
    check_differences(case, near, rng)
    check_short_types(case, short_types)
    check_vmap(case, rng)
    return case


def check_values(case: Case, zero_gradients: bool) -> None:
    """In float64, jitted: structure, shapes, dtypes, values; and that the values can tell right from wrong."""
    hand, expected = as_numpy(case.evaluate(case.point, case.dy))
    case.compare("float64, jitted", hand, expected, noise=case.noise64(case.point, case.dy))
    for path, leaf in jax.tree_util.tree_leaves_with_path(cotangents_of(expected)):
        if leaf.size and not leaf.any() and not zero_gradients:
            raise AssertionError(
                f"{case.rule.name}: {path_name(path)} is expected to be zero everywhere, which proves nothing; "
                "choose other arguments, or allow it with zero_gradients=True"
            )


def check_linearity(case: Case, rng: np.random.Generator) -> None:
    """backward(a u + b v) = a backward(u) + b backward(v), with a large."""
    a, b = LINEAR
    other = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape) * size_of(leaf), case.dy)
    both = jax.tree.map(lambda u, v: a * u + b * v, case.dy, other)
    first, second, sum_ = (cotangents_of(as_numpy(case.evaluate(case.point, dy)[0])) for dy in (case.dy, other, both))
    expected = jax.tree.map(lambda u, v: a * u + b * v, first, second)
    # Three results are rounded, and two of them are as large as a makes them.
    noise = case.noise64(case.point, case.dy, times=3 * a)
    case.compare("float64, linearity in the cotangent", sum_, expected, noise=noise)


def check_other_points(case: Case, near: Any, rng: np.random.Generator) -> None:
    """The values again, near the point and far from it, with the same constants and integers."""
    at_point = as_numpy(case.evaluate(case.point, case.dy)[1])
    points = [(JITTER, near), *(_as_far_as_it_is_finite(case, far, rng) for far in FAR)]
    for far, point in points:
        hand, expected = as_numpy(case.evaluate(point, case.dy))
        if not _is_finite(expected):
            continue
        # Where a function has levelled out, its gradient is measured by what it is at the given point.
        what = f"float64, with each argument moved by {far:.3g} of its size, though right as given"
        case.compare(what, hand, expected, sizes=at_point, noise=case.noise64(point, case.dy))


def check_differences(case: Case, near: Any, rng: np.random.Generator) -> None:
    """<dy, f(p + h d) - f(p - h d)> / 2h = <backward(dy), d> along random directions d, near the point."""
    count = len(case.rule.arguments)
    arguments, constants = near[:count], near[count:]
    directions = random_move(case.point[:count], 1.0, rng, (DIRECTIONS,))

    def output(number, step):
        moved = jax.tree.map(lambda p, d: p + step * d[number] if is_floating(p) else p, arguments, directions)
        y = jax.tree.leaves(case.rule.plain(*moved, *constants))
        return sum(np.vdot(dy, leaf) for dy, leaf in zip(jax.tree.leaves(case.dy), y, strict=True))

    rises = [[output(number, step) - output(number, -step) for step in STEPS] for number in range(DIRECTIONS)]
    slopes = np.array(rises) / (2 * STEPS)
    hand = cotangents_of(as_numpy(case.evaluate(near, case.dy)[0]))
    kept = [floating_only("", argument, d) for argument, d in zip(arguments, directions, strict=True)]
    products = [g[None] * d for g, d in zip(jax.tree.leaves(hand), jax.tree.leaves(kept), strict=True)]
    terms = np.concatenate([product.reshape(DIRECTIONS, -1) for product in products], axis=1)
    for slope, term in zip(slopes, terms, strict=True):
        errors = np.where(np.isfinite(slope), np.abs(slope - term.sum()), np.inf)
        best = int(np.argmin(errors))
        # Against the norm of the terms, since their sum may nearly cancel.
        if not errors[best] <= DIFFERENCE_TOLERANCE * max(float(np.linalg.norm(term)), TOLERANCE):
            raise AssertionError(
                f"{case.rule.name}, central differences: along a random direction {slope[best]:.9g}, by hand and by "
                f"jax.vjp {term.sum():.9g}: a rule inside the plain function is wrong, or it jumps here"
            )


def check_vmap(case: Case, rng: np.random.Generator) -> None:
    """Over the point and another one nearby, each with a cotangent of its own."""

    def move(leaf):
        return leaf + JITTER * rng.standard_normal(leaf.shape) if is_floating(leaf) else leaf

    moved, dy = jax.tree.map(move, case.point), jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), case.dy)
    pairs = (case.point, case.dy), (moved, dy)
    expected = _stacked([as_numpy(case.evaluate(*pair)[1]) for pair in pairs])
    mapped = jax.jit(jax.vmap(lambda point, dy: by_hand(case.rule, "vmap", point, dy)))
    hand = as_numpy(asked(f"{case.rule.name}, vmap", mapped, *_stacked(pairs)))

    def noise():
        return jax.tree.map(max, *(case.noise64(*pair)() for pair in pairs))

    case.compare("float64, vmap", hand, expected, noise=noise)


def _as_far_as_it_is_finite(case, far, rng):
    """The arguments moved at random, by so many sizes or by half as much, and half again."""
    count = len(case.rule.arguments)
    arguments, constants = case.point[:count], case.point[count:]
    step = random_move(arguments, far, rng)
    for halving in range(HALVINGS):
        moved = jax.tree.map(lambda p, d, by=0.5**halving: p + by * d if is_floating(p) else p, arguments, step)
        point = (*moved, *constants)
        if _is_finite(case.evaluate(point, case.dy)[1]):
            break
    return far * 0.5**halving, point


def _require_real(name, arguments, y):
    if any(np.iscomplexobj(leaf) for leaf in jax.tree.leaves((arguments, y))):
        raise ValueError(f"{name}: expected real numbers, got complex ones; take their real and imaginary parts apart")
    if not any(map(is_floating, jax.tree.leaves(arguments))):
        raise ValueError(f"{name}: expected an argument that holds floating-point numbers, got none")


def _is_finite(result):
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(result))


def _stacked(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
