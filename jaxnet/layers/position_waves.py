"""Where a position is, told to what stands there by waves of its number: added, or as the angle of a rotation.

    y_t = x_t + S_t                                       sinusoidal, S_t,2k = sin(t w_k), S_t,2k+1 = cos(t w_k)
    (y_t,2k, y_t,2k+1) = R(t w_k) (x_t,2k, x_t,2k+1)      rotary, R(angle) = [[cos, -sin], [sin, cos]]

with frequencies w_k = base^(-2k/d). A rotation's derivative is itself, and what comes back through it is turned back:
R(angle)^T = R(-angle). Two rotated vectors have the inner product of the ones that are turned by their distance alone:
<R(t w) q, R(s w) k> = <q, R((s - t) w) k>.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, SupportsIndex

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet.arguments import positive_integer, shown
from jaxnet.layer import Decoder, Layer
from jaxnet.norms import long_type


def sinusoidal_forward(
    base: float, params: tuple[()], x: Float[Array, "m t d"], *, first: Any = 0
) -> tuple[Float[Array, "m t d"], tuple[()]]:
    """y_t = x_t + S_t, with t from `first` on. There is nothing to keep."""
    x = _of_pairs("sinusoidal", x, 1)
    angles = _angles(x, 1, base, first)
    return x + jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1).reshape(1, *x.shape[1:]).astype(x.dtype), ()


def sinusoidal_backward(
    params: tuple[()], cache: tuple[()], dy: Float[Array, "m t d"]
) -> tuple[tuple[()], Float[Array, "m t d"]]:
    """From y_t = x_t + S_t: dx_t = dy_t."""
    return params, dy


def rotary_forward(
    heads: int, base: float, params: tuple[()], x: Float[Array, "m t d"], *, first: Any = 0
) -> tuple[Float[Array, "m t d"], tuple[()]]:
    """(y_2k, y_2k+1) = R(t w_k) (x_2k, x_2k+1) in each head, with t from `first` on. There is nothing to keep."""
    x = _of_pairs("rotary", x, heads)
    return _rotated(x, heads, _angles(x, heads, base, first)), ()


def rotary_backward(
    heads: int, base: float, params: tuple[()], cache: tuple[()], dy: Float[Array, "m t d"]
) -> tuple[tuple[()], Float[Array, "m t d"]]:
    """dx = R(t w_k)^T dy, which is R(-t w_k) dy."""
    return params, _rotated(dy, heads, -_angles(dy, heads, base))


def nowhere_curved(params: tuple[()], cache: tuple[()], dy: Float[Array, "m t d"]) -> None:
    """y is linear in x."""


def waves_decoder(forward: Callable[..., Any], length: int) -> Decoder:
    """The same waves from t on, for ever. The state is t."""

    def start(params, x):
        return jnp.zeros((), jnp.int32)

    def step(params, seen, x):
        y, _ = forward(params, x, first=seen)
        return y, seen + x.shape[1]

    return Decoder(start, step)


def sinusoidal(*, base: float = 10000.0) -> Layer:
    """Sines and cosines of the position, added: y_t = x_t + S_t, S_t,2k = sin(t w_k), S_t,2k+1 = cos(t w_k).

    With w_k = base^(-2k/d) for x (m, t, d) and t from 0.

    Args:
      base: larger than 1; wave lengths go from 2 pi to 2 pi base positions.

    Returns:
      A layer without parameters, for x of any length and an even number of features.

    Raises:
      ValueError: when the base is not larger than 1; when traced, if x has other axes, or an odd number of features.

    Source: Vaswani et al., Attention is all you need, 2017, section 3.5.

    Example:
      >>> jn.sinusoidal()((), jnp.zeros((1, 3, 2)))[0]
      Array([[ 0.  ,  1.  ],
             [ 0.84,  0.54],
             [ 0.91, -0.42]], dtype=float32)
    """
    forward = partial(sinusoidal_forward, _base("sinusoidal", base))
    return Layer(
        _no_parameters,
        forward,
        sinusoidal_backward,
        nowhere_curved,
        "elementwise",
        decoder=partial(waves_decoder, forward),
    )


def rotary(heads: SupportsIndex = 1, *, base: float = 10000.0) -> Layer:
    """Pairs of features turned by an angle that grows with the position: y_t = R(t w) x_t, for queries and keys.

    With w_k = base^(-2k/h) for the pair (2k, 2k + 1) of the h features of each head, and t from 0. Scores between a
    query and a key then depend on the distance of their positions, and not on where they are.

    Args:
      heads: into how many parts the features are split, as `attention` splits them; each is turned in the same way.
      base: larger than 1; wave lengths go from 2 pi to 2 pi base positions.

    Returns:
      A layer without parameters, of x (m, t, heads h) for any t, with h even.

    Raises:
      ValueError: when heads is not a positive integer, or the base not larger than 1; when traced, if x has other axes,
        or its features do not make pairs in each head.

    Source: Su et al., RoFormer: enhanced transformer with rotary position embedding, 2021, equation 34.

    Example:
      >>> q = jn.rotary()((), jnp.ones((1, 4, 2)))
      >>> q[0] @ q[0].T  # a score depends on the distance alone
      Array([[ 2.  ,  1.08, -0.83, -1.98],
             [ 1.08,  2.  ,  1.08, -0.83],
             [-0.83,  1.08,  2.  ,  1.08],
             [-1.98, -0.83,  1.08,  2.  ]], dtype=float32)
    """
    options = positive_integer("rotary", "heads", heads), _base("rotary", base)
    forward, backward = partial(rotary_forward, *options), partial(rotary_backward, *options)
    return Layer(_no_parameters, forward, backward, nowhere_curved, decoder=partial(waves_decoder, forward))


def _no_parameters(key):
    return ()


def _angles(x, heads, base, first=0):
    """t w_k (t, h / 2) for x (m, t, heads h), in float32 at least: in 8 bits a position would not be known."""
    dtype = long_type(x.dtype)
    positions, width = x.shape[1], x.shape[2] // heads
    frequencies = base ** (-jnp.arange(0, width, 2, dtype=dtype) / width)
    places = jnp.asarray(first, dtype) + jnp.arange(positions, dtype=dtype)
    return places[:, None] * frequencies[None]


def _rotated(x, heads, angles):
    pairs = x.reshape(*x.shape[:2], heads, -1, 2)
    cos, sin = (wave(angles)[None, :, None].astype(x.dtype) for wave in (jnp.cos, jnp.sin))
    even, odd = pairs[..., 0], pairs[..., 1]
    return jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)


def _of_pairs(label, x, heads):
    x = jnp.asarray(x)
    if x.ndim != 3 or x.shape[-1] % (2 * heads):
        many = f"a multiple of {2 * heads} features" if heads > 1 else "an even number of features"
        raise ValueError(f"{label}: expected x of shape (m, t, d) with {many}, got {x.shape}")
    return x


def _base(label, base):
    if not (hasattr(base, "__float__") and float(base) > 1):
        raise ValueError(f"{label}: expected base to be larger than 1, got {shown(base)}")
    return float(base)
