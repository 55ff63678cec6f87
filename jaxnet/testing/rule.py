"""One function with a hand-written pullback, and what it gives beside automatic differentiation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnet.testing.closeness import assert_close, is_floating, kind_of
from jaxnet.testing.noise import rounding_noise
from jaxnet.testing.points import as_numpy

# Where terms cancel, hand may differ by this many times what autodiff's own result changes by in the last place: hand
# sums other terms in another order. 64 last places of the terms are 1e-14 of them, and a mistake is more.
NOISE_FACTOR = 64
# By hand's own changes it is measured only where a leaf is nothing else, and is no more of the largest cotangent than
# this: an unstable rule has no excuse in its own noise.
MOST_NOISE = 1e-9


class Rule(NamedTuple):
    """A function, its pullback by hand, and where both are evaluated.

    Attributes:
      name: what messages call it.
      plain: `(*arguments, *constants) -> y`, jitted; what autodiff differentiates.
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
      point: arguments and constants in float64, as NumPy arrays.
      dy: a random cotangent, over the size of each output, so that small outputs count as much as large ones.
      evaluate: `(point, dy) -> (by hand, by autodiff)`, jitted; each {'y': y, label: cotangent, ...}.
      tolerance: largest relative difference in float64.
    """

    rule: Rule
    point: tuple[Any, ...]
    dy: Any
    evaluate: Callable[[Any, Any], tuple[dict[str, Any], dict[str, Any]]]
    tolerance: float

    def compare(
        self,
        what: str,
        hand: Any,
        expected: Any,
        bound: Any = None,
        *,
        like: Any = None,
        sizes: Any = None,
        noise: Any = None,
    ) -> None:
        """Asserts closeness of y, then of the cotangents, to the tolerance unless another bound is given."""
        lengths = [length for leaf in jax.tree.leaves(self.point) for length in leaf.shape]
        bound = bound or (lambda expected, like: self.tolerance)
        like = expected if like is None else like
        sizes = expected if sizes is None else sizes
        for part in (value_of, cotangents_of):
            assert_close(
                f"{self.rule.name}, {what}",
                part(hand),
                part(expected),
                bound,
                like=part(like),
                lengths=lengths,
                sizes=part(sizes),
                noise=noise and (lambda part=part: part(noise())),
            )

    def noise(self, point: Any, dy: Any) -> dict[str, Any]:
        """What each leaf of autodiff's result changes by in the last place, in the type of point and dy."""
        count = len(self.rule.arguments)
        return rounding_noise(
            lambda arguments, dy: self.evaluate((*arguments, *point[count:]), dy)[1], point[:count], as_numpy(dy)
        )

    def noise64(self, point: Any, dy: Any, times: float = 1.0) -> Callable[[], dict[str, Any]]:
        """What hand and autodiff may differ by in float64 where terms cancel, once it is asked for."""
        count = len(self.rule.arguments)

        def of_both(arguments, dy):
            return self.evaluate((*arguments, *point[count:]), dy)

        def noise():
            results = as_numpy(of_both(point[:count], dy))
            changes = rounding_noise(of_both, point[:count], as_numpy(dy))
            largest = max(map(_largest, jax.tree.leaves(cotangents_of(results[1]))), default=0.0)

            def allowed(change, of_autodiff, hand, expected):
                most = min(NOISE_FACTOR * change, MOST_NOISE * largest)
                # Autodiff may cancel to the last digit where hand does not, as behind a softmax that has levelled out.
                is_noise = max(_largest(hand), _largest(expected)) <= most
                return times * max(NOISE_FACTOR * of_autodiff, most if is_noise else 0.0)

            return jax.tree.map(allowed, *changes, *results)

        return noise


def evaluation(rule: Rule) -> Callable[[Any, Any], tuple[dict[str, Any], dict[str, Any]]]:
    """`(point, dy) -> (by hand, by autodiff)`, jitted: one program for each type."""

    def both(point, dy):
        autodiff, dy = _differentiated(rule, point, dy)
        return by_hand(rule, f"{jax.tree.leaves(dy)[0].dtype}, jitted", point, dy), autodiff

    return jax.jit(both)


def by_autodiff(rule: Rule, point: Any, dy: Any) -> dict[str, Any]:
    """What `jax.vjp` makes of the plain function."""
    return _differentiated(rule, point, dy)[0]


def by_hand(rule: Rule, how: str, point: Any, dy: Any) -> dict[str, Any]:
    """What the rule makes of it; dy is of y's type."""
    y, cotangents = asked(f"{rule.name}, {how}", rule.pullback, *point, dy)
    arguments = point[: len(rule.arguments)]
    if not isinstance(cotangents, tuple) or len(cotangents) != len(arguments):
        raise AssertionError(
            f"{rule.name}: expected a tuple of cotangents, one for each of {len(arguments)} arguments, "
            f"got {kind_of(cotangents)}"
        )
    return {"y": y} | _by_label(rule, arguments, cotangents)


def asked(where: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What the rule raises is a finding like any other."""
    try:
        return function(*arguments)
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{where}: raised {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """An error's type and the first line of its message."""
    first, *_ = [*str(error).strip().splitlines(), ""]
    return f"{type(error).__name__}: {first}"


def value_of(result: dict[str, Any]) -> dict[str, Any]:
    """The part of a result that is y."""
    return {label: tree for label, tree in result.items() if label == "y"}


def cotangents_of(result: dict[str, Any]) -> dict[str, Any]:
    """The part of a result that is not y."""
    return {label: tree for label, tree in result.items() if label != "y"}


def floating_only(where: str, argument: Any, cotangent: Any) -> Any:
    """The cotangents of floating leaves; others have none, whatever stands there."""
    try:
        return jax.tree.map(lambda leaf, d: d if is_floating(leaf) else None, argument, cotangent)
    except ValueError:
        expected, got = jax.tree.structure(argument), jax.tree.structure(cotangent)
        raise AssertionError(f"{where}: expected the structure {expected}, got {got}") from None


def _differentiated(rule, point, dy):
    count = len(rule.arguments)
    y, pullback = jax.vjp(lambda *arguments: rule.plain(*arguments, *point[count:]), *point[:count])
    # The plain function says in which type y is; hand and autodiff get the same cotangent.
    dy = jax.tree.map(lambda d, leaf: d.astype(leaf.dtype), dy, y)
    return {"y": y} | _by_label(rule, point[:count], pullback(dy)), dy


def _largest(leaf):
    return float(np.abs(np.asarray(leaf, np.float64)).max(initial=0.0))


def _by_label(rule, arguments, cotangents):
    return {
        label: floating_only(f"{rule.name}: {label}", argument, cotangent)
        for label, argument, cotangent in zip(rule.labels, arguments, cotangents, strict=True)
    }
