"""Gated linear units: of two halves one gates the other, y = v * g(u), for x = (v, u) side by side.

    dv = dy * g(u),  du = dy * v * g'(u)

Behind one dense layer of twice as many neurons, `chain(dense(d, 2 * h), swiglu, dense(h, d))`. The first half is the
value and the second the gate, as PyTorch's `GLU` has it. The cache holds what dy is multiplied by, g(u) and v g'(u), as
many numbers as x; and x, of which `second` is made. A compiled program that does not ask for that does not keep x.
"""

from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet import gates
from jaxnet.bend import Bend, at_each
from jaxnet.gates import Gate
from jaxnet.layer import Layer

Signal = Float[Array, "*mt n"]
Cotangent = Float[Array, "*mt h"]
Kept = tuple[Cotangent, Cotangent, Signal]


def glu_forward(params: tuple[()], x: Signal) -> tuple[Cotangent, Kept]:
    """y = v * sigmoid(u), for x = (v, u) side by side."""
    return _gated_forward("glu", gates.sigmoid, x)


def swiglu_forward(params: tuple[()], x: Signal) -> tuple[Cotangent, Kept]:
    """y = v * silu(u), for x = (v, u) side by side."""
    return _gated_forward("swiglu", gates.silu, x)


def geglu_forward(params: tuple[()], x: Signal) -> tuple[Cotangent, Kept]:
    """y = v * gelu(u), for x = (v, u) side by side."""
    return _gated_forward("geglu", gates.gelu, x)


def gated_backward(params: tuple[()], kept: Kept, dy: Cotangent) -> tuple[tuple[()], Signal]:
    """dv = dy * g(u), du = dy * v * g'(u)."""
    opening, leverage, _ = kept
    return params, jnp.concatenate([dy * opening, dy * leverage], axis=-1)


def gated_second(gate: Gate, params: tuple[()], kept: Kept, dy: Cotangent) -> Bend:
    """Of each pair (v, u) the matrix [[0, b], [b, c]] with b = dy g'(u) and c = dy v g''(u).

    As columns: (1, 1) with weight b / 2, (1, -1) with -b / 2, and (0, 1) with c.
    """
    _, _, x = kept
    v, u = _halves(x)
    units, b = at_each(dy * gate.slope(u))
    _, c = at_each(dy * v * gate.bend(u))
    first, second = (jnp.concatenate(halves, axis=-1) for halves in ((units, units * 0), (units * 0, units)))
    S = jnp.concatenate([first + second, first - second, second])
    return Bend(S * jnp.ones_like(x)[None], jnp.concatenate([b / 2, -b / 2, c]))


def _gated_forward(name, gate, x):
    x = jnp.asarray(x)
    if x.ndim == 0 or x.shape[-1] % 2:
        raise ValueError(f"{name}: expected x of shape (m, ..., 2 h), two halves, got {x.shape}")
    v, u = _halves(x)
    opening = gate.value(u)
    return v * opening, (opening, v * gate.slope(u), x)


def _halves(x):
    # Not jnp.split: XLA's CPU compiler gets vmapped reverse scans wrong there (jax 0.10.2).
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


def _no_parameters(key):
    return ()


def _layer(forward, gate):
    return Layer(_no_parameters, forward, gated_backward, partial(gated_second, gate), decoder="positionwise")


glu = _layer(glu_forward, gates.sigmoid)
"""y = v * sigmoid(u) for x = (v, u), (m, ..., 2 h) to (m, ..., h). Source: Dauphin et al., 2016."""

swiglu = _layer(swiglu_forward, gates.silu)
"""y = v * silu(u) for x = (v, u), (m, ..., 2 h) to (m, ..., h). Source: Shazeer, GLU Variants, 2020."""

geglu = _layer(geglu_forward, gates.gelu)
"""y = v * gelu(u) for x = (v, u), (m, ..., 2 h) to (m, ..., h). Source: Shazeer, GLU Variants, 2020."""
