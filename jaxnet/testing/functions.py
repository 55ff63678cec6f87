"""Any function with a hand-written reverse rule."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxnet.testing.points import generator
from jaxnet.testing.questions import TOLERANCE, check_rule
from jaxnet.testing.rule import Rule
from jaxnet.testing.short_types import SHORT_TYPES, required_short_types


def check_vjp(
    f: Callable[..., Any],
    rule: Callable[..., Any],
    *args: Any,
    key: jax.Array | None = None,
    tolerance: float = TOLERANCE,
    zero_gradients: bool = False,
    short_types: Sequence[str] = SHORT_TYPES,
) -> None:
    """Asserts that a hand-written reverse rule is the derivative of a function.

    For random cotangents dy: the rule's pullback of dy equals `jax.vjp(f, *args)`'s, in structure, shapes, dtypes and,
    leaf by leaf, values: in float64, eagerly, jitted and under vmap, at the arguments given and at others near and far;
    in float32 and bfloat16, with 64-bit types disabled, against the float64 values, within a small multiple of
    autodiff's own error. It agrees with central differences of f, is linear in dy, and is finite for huge and tiny
    arguments wherever autodiff is.

    Args:
      f: the plain function, which JAX can differentiate; its outputs are floating.
      rule: the same function with a rule attached (by `jax.custom_vjp`, also deep inside), or a function
        `(*args) -> (y, pullback)` with `pullback(dy)` a tuple of cotangents, as `jax.vjp(f, *args)` returns.
      args: pytrees of arrays, away from kinks; leaves that are not floating have no cotangent and are not moved.
      key: from which cotangents, directions and other points are drawn.
      tolerance: largest |difference| in float64, relative to the leaf's largest |value|. A leaf may differ by 64 times
        what autodiff's own result changes by in the last place, where that is more: there it is a sum of terms that
        cancel.
      zero_gradients: whether the gradient of an argument may be zero everywhere. Without it that is refused, because
        there a rule that returns zeros passes.
      short_types: which of 'float32', 'bfloat16' and 'float16' are asked besides float64. One that JAX cannot run f in
        (LAPACK and FFT have no bfloat16) is left out, with a `UserWarning` that names it; leave it out here, and there
        is none. A rule that fails where f runs is a finding.

    Raises:
      AssertionError: with argument, leaf, worst index, both values, relative error and, where one fits, the kind of
        mistake: a constant factor such as 1/m, a flipped sign, a transpose.
      ValueError: for a short type of another name; for complex numbers, or where no argument is floating.

    Example:
      >>> rule = lambda x: (x**2, lambda dy: (x * dy,))  # a factor of 2 is missing
      >>> jn.testing.check_vjp(lambda x: x**2, rule, jnp.array([0.5, 1.5]), key=key, short_types=())
      Traceback (most recent call last):
          ...
      AssertionError: check_vjp: ...off by a factor of 1/2...
    """
    name = f"check_vjp: {getattr(f, '__name__', 'function')}"
    short_types = required_short_types("check_vjp", short_types)

    def pullback(*args_and_dy):
        *args, dy = args_and_dy
        result = rule(*args)
        if isinstance(result, tuple) and len(result) == 2 and callable(result[1]):
            y, by_hand = result
        else:
            y, by_hand = jax.vjp(rule, *args)
        cotangents = by_hand(dy)
        # A list is as good as a tuple; an array is not, whose rows would pass for cotangents.
        return y, tuple(cotangents) if isinstance(cotangents, list) else cotangents

    labels = tuple(f"d(argument {number})" for number in range(len(args)))
    with jax.enable_x64(True):
        check_rule(
            Rule(name, jax.jit(f), pullback, args, labels),
            generator(key),
            tolerance=tolerance,
            zero_gradients=zero_gradients,
            short_types=short_types,
        )
