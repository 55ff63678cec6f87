"""A layer over time whose gates say how much of the state before is kept, and how much of it a new one hears of.

For each example, from h_0 = 0 on, with s the sigmoid, and the parts r, z and n of W, U and b below one another:

    1. u_t = x_t W^T + b, for all times at once
    2. v_t = h_t-1 U^T, and c_t = v_tn + b_n
    3. r_t = s(u_tr + v_tr),  z_t = s(u_tz + v_tz),  n_t = tanh(u_tn + r_t c_t)
    4. h_t = n_t + z_t (h_t-1 - n_t)

Backward, last time first, with dh_t what comes to h_t from y_t and from time t + 1:

    4. dz_t = dh_t (h_t-1 - n_t),  dn_t = dh_t (1 - z_t)
    3. du_tn = dn_t (1 - n_t^2),  du_tz = dz_t z_t (1 - z_t),  du_tr = du_tn c_t r_t (1 - r_t)
    2. dv_t = (du_tr, du_tz, du_tn r_t),  dh_t-1 = dv_t U + dh_t z_t
    1. dx_t = du_t W, for all times at once

and dW = sum_t du_t x_t^T, db = sum_t du_t, dU = sum_t dv_t h_t-1^T, db_n = sum_t dv_tn. The scan gives du_t alone, of
which and of r_t dv_t is made for all times. The cache is x and all h_t, r_t, z_t, n_t and c_t.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxnet import initializers
from jaxnet.factored import Outer
from jaxnet.layer import Decoder, Layer
from jaxnet.over_time import (
    Sequences,
    ahead,
    back,
    before,
    everywhere,
    nothing_yet,
    of_bias,
    parts,
    projected,
    through,
    time_first,
)
from jaxnet.sequences import answer, check_params, gates, heard, of_input, sequences, sizes_of, state_by_state


class GRU(NamedTuple):
    """The parameters of `gru`, or whatever has their structure: gradients, factored gradients, moments.

    Attributes:
      W: weights of the input (3 h, i): of the gates r and z, then of the new state n, as PyTorch has them.
      U: weights of the state before (3 h, h), in the same order.
      b: bias (3 h,), of r and z PyTorch's two in one, of n that of the input; None for a layer without one.
      b_n: bias (h,) of the state before in n, which r multiplies; None likewise.
    """

    W: Any
    U: Any
    b: Any = None
    b_n: Any = None


class GRUCache(NamedTuple):
    """The input (m, t, i), what each time kept (t, m, h), and where examples go on (t, m), or None."""

    x: Any
    states: Any
    kept: Any
    alive: Any


def gru_init(inputs, hidden, weight_init, recurrent_init, bias, key):
    of_input, of_state = jax.random.split(key)
    W, U = gates(weight_init, of_input, 3, (hidden, inputs)), gates(recurrent_init, of_state, 3, (hidden, hidden))
    return GRU(W, U, jnp.zeros(3 * hidden), jnp.zeros(hidden)) if bias else GRU(W, U)


def gru_forward(
    inputs: int,
    hidden: int,
    params: GRU,
    x: Sequences,
    *,
    last: bool = False,
    bias: bool = True,
    start: Any = None,
) -> tuple[Any, GRUCache]:
    """h_t = (1 - z_t) n_t + z_t h_t-1, from h_0 = 0, or from `start`. The cache is x, the states, r, z, n and c."""
    label = f"gru({inputs}, {hidden})"
    check_params(label, GRU, _shapes(inputs, hidden, bias), params)
    signal, lengths, alive = sequences(label, inputs, params, x)
    # 1. u_t = x_t W^T + b
    u, U = projected(signal, params.W, params.b), everywhere(params.U, signal)
    b_n = 0 if params.b_n is None else everywhere(params.b_n, signal)[None]

    def step(h, u):
        # 2. v_t = h_t-1 U^T, c_t = v_tn + b_n
        (u_r, u_z, u_n), (v_r, v_z, v_n) = parts(u, 3), parts(h @ U.T, 3)
        c = v_n + b_n
        # 3. r_t, z_t and n_t
        r, z = jax.nn.sigmoid(u_r + v_r), jax.nn.sigmoid(u_z + v_z)
        n = jnp.tanh(u_n + r * c)
        # 4. h_t = n_t + z_t (h_t-1 - n_t)
        return n + z * (h - n), (r, z, n, c)

    end, states, kept = ahead(step, nothing_yet(signal, hidden) if start is None else start, u, alive)
    return answer(states, end, lengths, last), GRUCache(signal, states, kept, alive)


def gru_backward(
    inputs: int, hidden: int, params: GRU, cache: GRUCache, dy: Any, *, last: bool = False, bias: bool = True
) -> tuple[GRU, Any]:
    """du_t and dh_t-1 from dh_t, last time first; then one product for all times: dx_t = du_t W."""
    label = f"gru({inputs}, {hidden})"
    check_params(label, GRU, _shapes(inputs, hidden, bias), params)
    x, states, kept, alive = cache
    dend, dstates = heard(label, states, dy, alive, last)
    U, h_before = everywhere(params.U, x), before(states, alive)

    def step(dh, at_t):
        h, (r, z, n, c) = at_t
        # 4. h_t = n_t + z_t (h_t-1 - n_t)
        dz, dn = dh * (h - n), dh * (1 - z)
        # 3. r_t, z_t and n_t
        du_n = dn * (1 - n) * (1 + n)
        du_r, du_z = du_n * c * r * (1 - r), dz * z * (1 - z)
        # 2. v_t = h_t-1 U^T
        dv = jnp.concatenate([du_r, du_z, du_n * r], axis=-1)
        return dv @ U + dh * z, jnp.concatenate([du_r, du_z, du_n], axis=-1)

    _, du = back(step, dend, dstates, (h_before, kept), alive)
    du, r = time_first(du), time_first(kept[0])
    # 2. v_t = h_t-1 U^T, of all times; in n it is multiplied by r_t
    du_r, du_z, du_n = parts(du, 3)
    dv = jnp.concatenate([du_r, du_z, du_n * r], axis=-1)
    dU, db_n = Outer(dv, time_first(h_before), jax.typeof(params.U).sharding), of_bias(params.b_n, du_n * r)
    # 1. u_t = x_t W^T + b
    dW, db = Outer(du, x, jax.typeof(params.W).sharding), of_bias(params.b, du)
    return GRU(dW, dU, db, db_n), of_input(through(du, params.W, x), alive)


def gru_decoder(inputs: int, hidden: int, length: int, **options: Any) -> Decoder:
    """h_t from h_t-1 on."""
    return state_by_state(
        f"gru({inputs}, {hidden})",
        partial(gru_forward, inputs, hidden, **options),
        lambda x: nothing_yet(x, hidden),
        lambda cache: cache.states[-1],
    )


def gru(
    inputs: SupportsIndex,
    hidden: SupportsIndex,
    *,
    last: bool = False,
    bias: bool = True,
    weight_init: Callable[..., Array] = initializers.glorot,
    recurrent_init: Callable[..., Array] = initializers.orthogonal,
) -> Layer:
    """A layer of gated recurrent units: h_t = (1 - z_t) n_t + z_t h_t-1, from h_0 = 0; y is all states h_t.

    With the parts r, z and n of W, U and b below one another,
    r_t = s(W_r x_t + b_r + U_r h_t-1), z_t = s(W_z x_t + b_z + U_z h_t-1) with s the sigmoid, and
    n_t = tanh(W_n x_t + b_n' + r_t (U_n h_t-1 + b_n)) with b_n' the last part of b.

    Several one on the other are a chain, through which lengths go, too: `chain(gru(i, h), gru(h, h, last=True))`.

    Args:
      inputs: the number of features i of `x (m, t, i)`, at least 1. With a tuple (x, lengths) an example's state is
        held from its length (m,) on, whole numbers from 0 to t, whatever x is there; y is then a tuple (y, lengths).
      hidden: the number of features h of the state, at least 1.
      last: whether y is the last state alone (m, h): with lengths that at each example's length.
      bias: whether there are b and b_n.
      weight_init, recurrent_init: `(key, (h, i)) -> W_r` and `(key, (h, h)) -> U_r`, and so for z and n.

    Returns:
      A layer with parameters `GRU(W (3 h, i), U (3 h, h), b (3 h,), b_n (h,))`, from x to y (m, t, h). It takes
      6 m t h (i + h) operations, backward twice that, and keeps x and 5 h numbers for each time.

    Raises:
      ValueError: when a size is not a positive integer; and, when the layer is traced, if the parameters are of other
        sizes, or x has another shape or another dtype than W.

    Source: Cho et al., Learning phrase representations using RNN encoder-decoder, 2014, with r after the product, as
    PyTorch's and cuDNN's `GRU` have it.

    Example:
      >>> layer = jn.gru(3, 4, last=True)
      >>> params = layer.init(key)
      >>> jax.tree.map(jnp.shape, params)
      GRU(W=(12, 3), U=(12, 4), b=(12,), b_n=(4,))
      >>> layer(params, jnp.ones((2, 5, 3))).shape
      (2, 4)
    """
    sizes = sizes_of("gru", inputs, hidden)
    # Those that are given, which are then what is printed.
    options: dict[str, Any] = ({"last": True} if last else {}) | ({} if bias else {"bias": False})
    forward, backward = partial(gru_forward, *sizes, **options), partial(gru_backward, *sizes, **options)
    return Layer(
        partial(gru_init, *sizes, weight_init, recurrent_init, bias),
        forward,
        backward,
        decoder=partial(gru_decoder, *sizes, **options),
    )


def _shapes(inputs, hidden, bias):
    W, U = (3 * hidden, inputs), (3 * hidden, hidden)
    return (W, U, (3 * hidden,), (hidden,)) if bias else (W, U, None, None)
