"""Arrays refused when a layer is traced: one line says where, what was expected, what was given, and what to do."""

from typing import Any

import jax.numpy as jnp


def require_parameters(
    where: str, kind: type, shape: tuple[int, ...], params: Any, absent: tuple[str, ...] = ()
) -> None:
    """Refuses parameters of another layer: of another kind, or of another shape, which all have but absent ones."""
    names = kind._fields  # type: ignore[attr-defined]
    if not isinstance(params, kind):
        call = f"{kind.__name__}({', '.join(names)})"
        raise ValueError(f"{where}: expected parameters {call}, got a {type(params).__name__}")
    shapes = [None if leaf is None else jnp.shape(leaf) for leaf in params]  # type: ignore[attr-defined]
    expected_shapes = [None if name in absent else shape for name in names]
    if shapes != expected_shapes:
        expected, got = (
            " and ".join(f"{name} {of}" for name, of in zip(names, of_all, strict=True))
            for of_all in (expected_shapes, shapes)
        )
        raise ValueError(f"{where}: expected parameters {expected}, got {got}; they are another layer's")


def require_features(where: str, features: int, x: Any, dtype: Any) -> None:
    """Refuses an input of another number of features, or of another type than the parameters'."""
    if x.ndim == 0 or x.shape[-1] != features:
        raise ValueError(f"{where}: expected x of shape (m, ..., {features}), got {x.shape}")
    if x.dtype != dtype:
        raise ValueError(
            f"{where}: expected x of the parameters' dtype {dtype}, got {x.dtype}; convert it with x.astype('{dtype}')"
        )


def require_floating(where: str, x: Any) -> None:
    """Refuses integers, which have no derivative."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{where}: expected x of a floating-point type, got {x.dtype}; convert it with x.astype")


def require_cotangent(where: str, shape: tuple[Any, ...], dy: Any) -> None:
    """Refuses the cotangent of another output; and a single example, whose gradients have no axis of examples."""
    if len(shape) < 2:
        raise ValueError(
            f"{where}: backward needs the examples as the first axis, got y of shape {shape}; "
            "pass a single example as x[None]"
        )
    if dy.shape != shape:
        raise ValueError(f"{where}: expected dy of shape {shape}, that of y, got {dy.shape}")
