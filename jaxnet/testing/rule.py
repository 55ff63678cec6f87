"""One function with a hand-written pullback, put to every question."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet.testing.compare import assert_close, is_floating, path_name, relative_error

# float64 rounds at 1.1e-16 and sums of some thousand terms in another order differ by about 1e-14.
TOLERANCE = 1e-12
# Hand and autodiff round in other places: in a short type, hand may err by this many times what autodiff errs,
# plus this many units in the last place of the leaf's largest value.
SHORT_FACTOR = 8
SHORT_TYPES = ("float32", "bfloat16")
# Central differences err by a step squared, and by rounding over a step: at 1e-4 by about 1e-8. Several steps are tried
# and the best counts, since a step across a kink says nothing.
STEPS = np.array([1e-3, 1e-4, 1e-5, 1e-6])
DIFFERENCE_TOLERANCE = 1e-6
DIRECTIONS = 3
# How far the point of the differences lies from the given one, which may be on a kink.
JITTER = 1e-3
# Small enough that squares underflow in float32, large enough that exponentials overflow.
EXTREMES = (1e-25, 1e2, 1e4)
# Both signs, and far from 1, so that a clipped or normalised cotangent shows.
LINEAR = (1e6, -3.0)


class Rule(NamedTuple):
    """A function, its pullback by hand, and where both are evaluated.

    Attributes:
      name: what messages call it.
      plain: `(*arguments, *constants) -> y`, what autodiff differentiates.
      pullback: `(*arguments, *constants, dy) -> (y, cotangents)`, a tuple with one cotangent for each argument.
      arguments: a pytree for each; leaves that are not floating have no cotangent.
      labels: what messages call the cotangent of each argument: 'dx'.
      constants: pytrees that are not differentiated.
    """

    name: str
    plain: Callable[..., Any]
    pullback: Callable[..., tuple[Any, tuple[Any, ...]]]
    arguments: tuple[Any, ...]
    labels: tuple[str, ...]
    constants: tuple[Any, ...] = ()


class Case(NamedTuple):
    """A rule at a point, with a cotangent: what the questions share.

    Attributes:
      rule: what is checked.
      point: arguments and constants in float64, as NumPy arrays: their arithmetic needs no compilation.
      dy: a random cotangent, over the size of each output, so that small outputs count as much as large ones.
      evaluate: `(point, dy) -> (by hand, by autodiff)`, jitted; each {'y': y, label: cotangent, ...}.
      tolerance: largest relative difference in float64.
    """

    rule: Rule
    point: tuple[Any, ...]
    dy: Any
    evaluate: Callable[[Any, Any], tuple[dict[str, Any], dict[str, Any]]]
    tolerance: float

    def compare(self, what: str, hand: Any, expected: Any, bound: Any = None, like: Any = None) -> None:
        """Asserts closeness of y, then of the cotangents, to the tolerance unless another bound is given."""
        lengths = [length for leaf in jax.tree.leaves(self.point) for length in leaf.shape]
        bound = bound or (lambda expected, like: self.tolerance)
        like = expected if like is None else like
        for part in (_value, _cotangents):
            assert_close(
                f"{self.rule.name}, {what}", part(hand), part(expected), bound, like=part(like), lengths=lengths
            )


def check_rule(rule: Rule, rng: np.random.Generator, *, tolerance: float, zero_gradients: bool) -> None:
    """Asserts all that a right pullback does; must run with 64-bit types enabled.

    The plainest questions come first, so that a mistake is told by the plainest message.
    """
    evaluate = jax.jit(lambda point, dy: (_by_hand(rule, "jitted", point, dy), _by_autodiff(rule, point, dy)))
    point = _as_type((*rule.arguments, *rule.constants), np.float64)
    shapes = jax.eval_shape(rule.plain, *point)
    unit = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), shapes)
    # Eagerly first: what is raised there has the plainest traceback.
    hand = _by_hand(rule, "float64, eager", jax.tree.map(jnp.asarray, point), jax.tree.map(jnp.asarray, unit))
    dy = jax.tree.map(lambda leaf, y: leaf / (_size(y) or 1.0), unit, hand["y"])
    case = Case(rule, point, dy, evaluate, tolerance)
    case.compare("float64, eager", hand, _numpy(evaluate(point, unit)[1]))
    check_values(case, zero_gradients)
    check_linearity(case, rng)
    check_differences(case, rng)
    for dtype in SHORT_TYPES:
        check_short_type(case, dtype)
    check_extremes(case)
    check_vmap(case, rng)


def check_values(case: Case, zero_gradients: bool) -> None:
    """In float64, jitted: structure, shapes, dtypes, values; and that the values can tell right from wrong."""
    hand, expected = _numpy(case.evaluate(case.point, case.dy))
    case.compare("float64, jitted", hand, expected)
    for path, leaf in jax.tree_util.tree_leaves_with_path(_cotangents(expected)):
        if leaf.size and not leaf.any() and not zero_gradients:
            raise AssertionError(
                f"{case.rule.name}: {path_name(path)} is expected to be zero everywhere, which proves nothing; "
                "choose other arguments, or allow it with zero_gradients=True"
            )


def check_linearity(case: Case, rng: np.random.Generator) -> None:
    """backward(a u + b v) = a backward(u) + b backward(v), with a large."""
    a, b = LINEAR
    other = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape) * (_size(leaf) or 1.0), case.dy)
    both = jax.tree.map(lambda u, v: a * u + b * v, case.dy, other)
    first, second, sum_ = (_cotangents(_numpy(case.evaluate(case.point, dy)[0])) for dy in (case.dy, other, both))
    expected = jax.tree.map(lambda u, v: a * u + b * v, first, second)
    case.compare("float64, linearity in the cotangent", sum_, expected)


def check_differences(case: Case, rng: np.random.Generator) -> None:
    """<dy, f(p + h d) - f(p - h d)> / 2h = <backward(dy), d> along random directions d, near the point."""
    count = len(case.rule.arguments)
    arguments, constants = case.point[:count], case.point[count:]

    def drawn(scale, shape=()):
        def draw(leaf):
            shape_ = (*shape, *leaf.shape)
            size = (_size(leaf) or 1.0) if is_floating(leaf) else 0
            return (scale * size * rng.standard_normal(shape_)).astype(leaf.dtype)

        return jax.tree.map(draw, arguments)

    near = jax.tree.map(np.add, arguments, drawn(JITTER))
    directions = drawn(1.0, (DIRECTIONS,))

    def output(near, constants, direction, step):
        moved = jax.tree.map(lambda p, d: p + step * d if is_floating(p) else p, near, direction)
        y = case.rule.plain(*moved, *constants)
        return sum(jnp.vdot(dy, leaf) for dy, leaf in zip(jax.tree.leaves(case.dy), jax.tree.leaves(y), strict=True))

    @jax.jit
    def outputs(near, constants, directions):
        steps = jnp.asarray(np.stack([STEPS, -STEPS]))
        return lax.map(
            lambda d: lax.map(lambda s: lax.map(lambda h: output(near, constants, d, h), s), steps), directions
        )

    plus, minus = np.moveaxis(np.asarray(outputs(near, constants, directions)), 1, 0)
    slopes = (plus - minus) / (2 * STEPS)
    hand = _cotangents(_numpy(case.evaluate((*near, *constants), case.dy)[0]))
    kept = [_floating_only("", argument, d) for argument, d in zip(arguments, directions, strict=True)]
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


def check_short_type(case: Case, dtype: str) -> None:
    """In float32 or bfloat16, against float64 at the same, rounded, point."""
    point, dy = _as_type(case.point, dtype), _as_type(case.dy, dtype)
    reference = _numpy(case.evaluate(_as_type(point, np.float64), _as_type(dy, np.float64))[1])
    hand, autodiff = _numpy(case.evaluate(point, dy))
    eps = float(jnp.finfo(dtype).eps)

    def bound(reference, autodiff):
        error, _ = relative_error(autodiff, reference)
        return SHORT_FACTOR * (eps + error) if np.isfinite(error) else np.inf

    case.compare(f"{dtype}, jitted", hand, reference, bound, like=autodiff)


def check_extremes(case: Case) -> None:
    """Finite in float32, for tiny and huge arguments, wherever autodiff is."""
    for scale in EXTREMES:
        scaled = jax.tree.map(lambda leaf, by=scale: leaf * by if is_floating(leaf) else leaf, case.point)
        hand, autodiff = _numpy(case.evaluate(_as_type(scaled, np.float32), _as_type(case.dy, np.float32)))
        leaves = zip(jax.tree_util.tree_leaves_with_path(hand), jax.tree.leaves(autodiff), strict=True)
        for (path, ours), theirs in leaves:
            bad = np.argwhere(~np.isfinite(ours) & np.isfinite(theirs))
            if len(bad):
                index = tuple(int(i) for i in bad[0])
                raise AssertionError(
                    f"{case.rule.name}, float32, arguments times {scale:g}:\n  {path_name(path)}{list(index)}: "
                    f"by hand {float(ours[index])}, expected {float(theirs[index]):.9g}"
                )


def check_vmap(case: Case, rng: np.random.Generator) -> None:
    """Over the point and another one nearby, each with a cotangent of its own."""

    def move(leaf):
        return leaf + JITTER * rng.standard_normal(leaf.shape) if is_floating(leaf) else leaf

    moved, dy = jax.tree.map(move, case.point), jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), case.dy)
    each = [_numpy(case.evaluate(*at)[1]) for at in ((case.point, case.dy), (moved, dy))]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), (case.point, case.dy), (moved, dy))
    mapped = jax.vmap(lambda point, dy: _by_hand(case.rule, "vmap", point, dy))
    case.compare("float64, vmap", _numpy(_asked(case.rule, "vmap", jax.jit(mapped), *stacked)), expected)


def _by_hand(rule, how, point, dy):
    y, cotangents = _asked(rule, how, rule.pullback, *point, dy)
    return {"y": y} | _by_label(rule, point, cotangents)


def _by_autodiff(rule, point, dy):
    count = len(rule.arguments)
    y, pullback = jax.vjp(lambda *arguments: rule.plain(*arguments, *point[count:]), *point[:count])
    return {"y": y} | _by_label(rule, point, pullback(jax.tree.map(lambda d, leaf: d.astype(leaf.dtype), dy, y)))


def _asked(rule, how, function, *arguments):
    """What the rule raises is a finding like any other."""
    try:
        return function(*arguments)
    except AssertionError:
        raise
    except Exception as error:
        first, *_ = [*str(error).strip().splitlines(), ""]
        raise AssertionError(f"{rule.name}, {how}: raised {type(error).__name__}: {first}") from error


def _by_label(rule, point, cotangents):
    arguments = point[: len(rule.arguments)]
    if not isinstance(cotangents, tuple) or len(cotangents) != len(arguments):
        raise AssertionError(f"{rule.name}: expected a tuple of {len(arguments)} cotangents, got {cotangents!r}")
    return {
        label: _floating_only(f"{rule.name}: {label}", argument, cotangent)
        for label, argument, cotangent in zip(rule.labels, arguments, cotangents, strict=True)
    }


def _floating_only(where, argument, cotangent):
    """The cotangents of floating leaves; others have none, whatever stands there."""
    try:
        return jax.tree.map(lambda leaf, d: d if is_floating(leaf) else None, argument, cotangent)
    except ValueError:
        expected, got = jax.tree.structure(argument), jax.tree.structure(cotangent)
        raise AssertionError(f"{where}: expected the structure {expected}, got {got}") from None


def _value(result):
    return {label: tree for label, tree in result.items() if label == "y"}


def _cotangents(result):
    return {label: tree for label, tree in result.items() if label != "y"}


def _as_type(tree, dtype):
    def cast(leaf):
        leaf = np.asarray(leaf)
        return leaf.astype(jnp.dtype(dtype)) if is_floating(leaf) else leaf

    return jax.tree.map(cast, tree)


def _numpy(tree):
    return jax.tree.map(np.asarray, tree)


def _size(leaf):
    return float(np.sqrt(np.mean(np.square(leaf)))) if np.size(leaf) else 0.0
