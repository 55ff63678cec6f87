"""Which targets a loss takes, in shapes and types, and in values where these are known."""

import math

import jax
import jax.numpy as jnp
import numpy as np

# What y may be at most where it stands for probabilities; rows of another sum than 1 are weighted by it.
# Counts of any size have the same bounds as weights.
PROBABILITIES = {
    "binary_cross_entropy": 1.0,
    "poisson_nll_loss": math.inf,
    "sigmoid_binary_cross_entropy": 1.0,
    "sigmoid_focal_loss": 1.0,
    "softmax_cross_entropy": math.inf,
}


def like_outputs(name, z, y):
    given = y
    z, y = jnp.asarray(z), jnp.asarray(y)
    _check_floating(name, z)
    if y.shape != z.shape:
        hint = "; give y a last axis with y[..., None]" if (*y.shape, 1) == z.shape else ""
        raise ValueError(f"{name}: expected y of the outputs' shape {z.shape}, got {y.shape}{hint}")
    if name in PROBABILITIES:
        _check_probabilities(name, given, z.dtype)
    return z, y.astype(z.dtype)


def integer_labels(z, y, name="softmax_cross_entropy_with_integer_labels", ignore=None):
    given = y
    z, y = jnp.asarray(z), jnp.asarray(y)
    _check_floating(name, z)
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(
            f"{name}: expected integer labels, got {y.dtype}; one-hot or soft targets are for softmax_cross_entropy"
        )
    if y.shape != z.shape[:-1]:
        raise ValueError(
            f"{name}: expected y of shape {z.shape[:-1]}, the outputs' without the last axis, got {y.shape}"
        )
    if ignore is not None and not jnp.iinfo(y.dtype).min <= ignore <= jnp.iinfo(y.dtype).max:
        raise ValueError(f"{name}: expected labels of a type that holds ignore={ignore}, got {y.dtype}")
    last = z.shape[-1] - 1
    or_ignored = "" if ignore is None else f", or {ignore}"
    _check_values(
        given,
        lambda y: ((y >= 0) & (y <= last)) | (ignore is not None and y == ignore),
        f"{name}: expected labels from 0 to {last}{or_ignored}",
    )
    return z, y


def _check_probabilities(name, y, dtype):
    most = PROBABILITIES[name]

    def fits(y):
        # Mixed labels, a y + (1 - a) y, leave [0, 1] by rounding: in their own type, and in the outputs' after that.
        types = [dtype, y.dtype] if jnp.issubdtype(y.dtype, jnp.floating) else []
        rounding = 4 * max((float(jnp.finfo(one).eps) for one in types), default=0.0)
        return (y >= -rounding) & (y <= most + rounding) & np.isfinite(y)

    if most == 1:
        expected, hint = "values of y in [0, 1]", "; labels of -1 and 1 become such by (y + 1) / 2"
    else:
        expected, hint = "values of y of at least 0, and finite", ""
    _check_values(y, fits, f"{name}: expected {expected}", hint)


def _check_values(y, fit, expected, hint=""):
    """Refuses targets where their values are known; under jit they are not."""
    if isinstance(y, jax.core.Tracer) or not getattr(y, "is_fully_addressable", True):
        return
    values = np.asarray(y)
    wrong = np.argwhere(~fit(values))
    if len(wrong):
        raise ValueError(f"{expected}, got {values[tuple(wrong[0])]} at y{wrong[0].tolist()}{hint}")


def _check_floating(name, z):
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise ValueError(f"{name}: expected floating-point outputs, got {z.dtype}")
