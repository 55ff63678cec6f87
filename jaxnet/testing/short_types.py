"""The questions in the types that programs compute in, as ordinary programs ask them: with 64-bit types disabled."""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.testing.closeness import is_floating, path_name, relative_error
from jaxnet.testing.points import as_numpy, as_type
from jaxnet.testing.rule import Case, by_autodiff, first_line

SHORT_TYPES = ("float32", "bfloat16")
# Hand and autodiff round in other places: in a short type, hand may err by this many times what autodiff errs,
# plus this many units in the last place of the leaf's largest value.
SHORT_FACTOR = 8
# Small enough that squares underflow in float32, large enough that exponentials overflow.
EXTREMES = (1e-25, 1e2, 1e4)
# The frames between here and the program that called `check_...`, where the warning belongs.
STACK_LEVEL = 4


def required_short_types(name: str, short_types: Sequence[str]) -> tuple[str, ...]:
    """The names, where each is one of a floating type shorter than float64."""
    known = {"float32", "bfloat16", "float16"}
    if isinstance(short_types, str) or not set(short_types) <= known:
        raise ValueError(
            f"{name}: expected short_types to be a tuple of 'float32', 'bfloat16' and 'float16', got {short_types!r}; "
            "float64 is always asked"
        )
    return tuple(short_types)


def check_short_types(case: Case, short_types: Sequence[str]) -> None:
    """Each type that JAX itself can run the plain function in; a warning names the others."""
    for dtype in short_types:
        point, dy = as_type(case.point, dtype), as_type(case.dy, dtype)
        with jax.enable_x64(False):
            refusal = _refusal(case, dtype, point, dy)
        if refusal is not None:
            warnings.warn(
                f"{case.rule.name}: {dtype} is left out, since JAX cannot run the plain function in it ({refusal}); "
                "short_types names those to ask",
                stacklevel=STACK_LEVEL,
            )
            continue
        check_short_type(case, dtype, point, dy)
        if dtype == "float32":
            check_extremes(case)


def check_short_type(case: Case, dtype: str, point: Any, dy: Any) -> None:
    """In a short type, against float64 at the same, rounded, point."""
    reference = as_numpy(case.evaluate(as_type(point, np.float64), as_type(dy, np.float64))[1])
    eps = float(jnp.finfo(dtype).eps)

    def bound(reference, autodiff):
        error, _ = relative_error(autodiff, reference)
        return SHORT_FACTOR * (eps + error) if np.isfinite(error) else np.inf

    def noise():
        """Only for leaves that are nothing else, whose error at one point may be small by chance."""
        with jax.enable_x64(False):
            noise = case.noise(point, dy)
        return jax.tree.map(
            lambda size, leaf: SHORT_FACTOR * size if size > np.abs(leaf).max(initial=0.0) else 0.0, noise, reference
        )

    with jax.enable_x64(False):
        hand, autodiff = as_numpy(case.evaluate(point, dy))
    case.compare(f"{dtype}, jitted", hand, reference, bound, like=autodiff, noise=noise)


def check_extremes(case: Case) -> None:
    """Finite in float32, for tiny and huge arguments, wherever autodiff is."""
    for scale in EXTREMES:
        scaled = jax.tree.map(lambda leaf, by=scale: leaf * by if is_floating(leaf) else leaf, case.point)
        with jax.enable_x64(False):
            hand, autodiff = as_numpy(case.evaluate(as_type(scaled, np.float32), as_type(case.dy, np.float32)))
        leaves = zip(jax.tree_util.tree_leaves_with_path(hand), jax.tree.leaves(autodiff), strict=True)
        for (path, ours), theirs in leaves:
            bad = np.argwhere(~np.isfinite(ours) & np.isfinite(theirs))
            if len(bad):
                index = tuple(int(i) for i in bad[0])
                raise AssertionError(
                    f"{case.rule.name}, float32, arguments times {scale:g}:\n  {path_name(path)}{list(index)}: "
                    f"by hand {float(ours[index])}, expected {float(theirs[index]):.9g}"
                )


def _refusal(case, dtype, point, dy):
    """What JAX raises for the plain function alone, where evaluating it beside the rule raises; None if it runs."""
    try:
        case.evaluate(point, dy)
    except Exception as failure:
        try:
            jax.jit(lambda point, dy: by_autodiff(case.rule, point, dy))(point, dy)
        except Exception as error:
            return first_line(error)
        if isinstance(failure, AssertionError):
            raise
        raise AssertionError(f"{case.rule.name}, {dtype}, jitted: raised {first_line(failure)}") from failure
    return None
