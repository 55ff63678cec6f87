"""A layer over time with a memory beside its state: gates say what of it is forgotten, written and shown.

For each example, from h_0 = c_0 = 0 on, with s the sigmoid and the parts i, f, g and o of W, U and b below one another:

    1. u_t = x_t W^T + b, for all times at once
    2. v_t = u_t + h_t-1 U^T
    3. i_t = s(v_ti),  f_t = s(v_tf),  g_t = tanh(v_tg),  o_t = s(v_to)
    4. c_t = f_t c_t-1 + i_t g_t
    5. h_t = o_t q_t, q_t = tanh(c_t)

Backward, last time first, with dh_t what comes to h_t from y_t and from time t + 1, and dc_t from time t + 1:

    5. do_t = dh_t q_t,  dc_t = dc_t + dh_t o_t (1 - q_t^2)
    4. di_t = dc_t g_t,  df_t = dc_t c_t-1,  dg_t = dc_t i_t,  dc_t-1 = dc_t f_t
    3. du_t = (di_t i_t (1 - i_t), df_t f_t (1 - f_t), dg_t (1 - g_t^2), do_t o_t (1 - o_t))
    2. dh_t-1 = du_t U
    1. dx_t = du_t W, for all times at once

and dW = sum_t du_t x_t^T, dU = sum_t du_t h_t-1^T, db = sum_t du_t. The cache is x and all h_t, i_t, f_t, g_t, o_t and
c_t; q_t is computed again.
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


class LSTM(NamedTuple):
    """The parameters of `lstm`, or whatever has their structure: gradients, factored gradients, moments.

    Attributes:
      W: weights of the input (4 h, i): of the gates i and f, the new memory g, and the gate o, as PyTorch has them.
      U: weights of the state before (4 h, h), in the same order.
      b: bias (4 h,), PyTorch's two in one; None for a layer without one.
    """

    W: Any
    U: Any
    b: Any = None


class LSTMCache(NamedTuple):
    """The input (m, t, i), what each time kept (t, m, h), and where examples go on (t, m), or None."""

    x: Any
    states: Any
    kept: Any
    alive: Any


def lstm_init(inputs, hidden, weight_init, recurrent_init, forget_bias, key):
    of_input, of_state = jax.random.split(key)
    W, U = gates(weight_init, of_input, 4, (hidden, inputs)), gates(recurrent_init, of_state, 4, (hidden, hidden))
    if forget_bias is None:
        return LSTM(W, U)
    return LSTM(W, U, jnp.zeros(4 * hidden).at[hidden : 2 * hidden].set(forget_bias))


def lstm_forward(
    inputs: int,
    hidden: int,
    params: LSTM,
    x: Sequences,
    *,
    last: bool = False,
    bias: bool = True,
    start: Any = None,
) -> tuple[Any, LSTMCache]:
    """c_t = f_t c_t-1 + i_t g_t and h_t = o_t tanh(c_t), from 0, or from `start` (h, c).

    The cache is x, the states, i, f, g, o and c.
    """
    label = f"lstm({inputs}, {hidden})"
    check_params(label, LSTM, _shapes(inputs, hidden, bias), params)
    signal, lengths, alive = sequences(label, inputs, params, x)
    # 1. u_t = x_t W^T + b
    u, U = projected(signal, params.W, params.b), everywhere(params.U, signal)

    def step(state, u):
        h, c = state
        # 2. v_t = u_t + h_t-1 U^T
        v_i, v_f, v_g, v_o = parts(u + h @ U.T, 4)
        # 3. i_t, f_t, g_t and o_t
        i, f, g, o = jax.nn.sigmoid(v_i), jax.nn.sigmoid(v_f), jnp.tanh(v_g), jax.nn.sigmoid(v_o)
        # 4. c_t = f_t c_t-1 + i_t g_t
        c = f * c + i * g
        # 5. h_t = o_t tanh(c_t)
        return (o * jnp.tanh(c), c), (i, f, g, o)

    first = (nothing_yet(signal, hidden),) * 2 if start is None else start
    (end, _), (states, memory), kept = ahead(step, first, u, alive)
    return answer(states, end, lengths, last), LSTMCache(signal, states, (memory, *kept), alive)


def lstm_backward(
    inputs: int, hidden: int, params: LSTM, cache: LSTMCache, dy: Any, *, last: bool = False, bias: bool = True
) -> tuple[LSTM, Any]:
    """du_t, dh_t-1 and dc_t-1 from dh_t and dc_t, last time first; then one product for all times: dx_t = du_t W."""
    label = f"lstm({inputs}, {hidden})"
    check_params(label, LSTM, _shapes(inputs, hidden, bias), params)
    x, states, (memory, *kept), alive = cache
    dend, dstates = heard(label, states, dy, alive, last)
    U, h_before = everywhere(params.U, x), before(states, alive)

    def step(dstate, at_t):
        dh, dc = dstate
        c_before, c, (i, f, g, o) = at_t
        # 5. h_t = o_t tanh(c_t)
        q = jnp.tanh(c)
        do, dc = dh * q, dc + dh * o * (1 - q) * (1 + q)
        # 4. c_t = f_t c_t-1 + i_t g_t
        di, df, dg, dc_before = dc * g, dc * c_before, dc * i, dc * f
        # 3. i_t, f_t, g_t and o_t
        before_gates = di * i * (1 - i), df * f * (1 - f), dg * (1 - g) * (1 + g), do * o * (1 - o)
        du = jnp.concatenate(before_gates, axis=-1)
        # 2. v_t = u_t + h_t-1 U^T
        return (du @ U, dc_before), du

    at_each = before(memory, alive), memory, kept
    _, du = back(step, (dend, jnp.zeros_like(dend)), (dstates, None), at_each, alive)
    du = time_first(du)
    dU = Outer(du, time_first(h_before), jax.typeof(params.U).sharding)
    # 1. u_t = x_t W^T + b
    dW, db = Outer(du, x, jax.typeof(params.W).sharding), of_bias(params.b, du)
    return LSTM(dW, dU, db), of_input(through(du, params.W, x), alive)


def lstm_decoder(inputs: int, hidden: int, length: int, **options: Any) -> Decoder:
    """h_t and c_t from h_t-1 and c_t-1 on."""
    return state_by_state(
        f"lstm({inputs}, {hidden})",
        partial(lstm_forward, inputs, hidden, **options),
        lambda x: (nothing_yet(x, hidden),) * 2,
        lambda cache: (cache.states[-1], cache.kept[0][-1]),
    )


def lstm(
    inputs: SupportsIndex,
    hidden: SupportsIndex,
    *,
    last: bool = False,
    bias: bool = True,
    forget_bias: float = 1.0,
    weight_init: Callable[..., Array] = initializers.glorot,
    recurrent_init: Callable[..., Array] = initializers.orthogonal,
) -> Layer:
    """A layer of long short-term memory: c_t = f_t c_t-1 + i_t g_t, h_t = o_t tanh(c_t), from 0; y is all states h_t.

    With the parts i, f, g and o of W, U and b below one another, i_t = s(W_i x_t + U_i h_t-1 + b_i), f_t and o_t alike,
    s the sigmoid, and g_t = tanh(W_g x_t + U_g h_t-1 + b_g).

    Several one on the other are a chain, through which lengths go, too: `chain(lstm(i, h), lstm(h, h, last=True))`.

    Args:
      inputs: the number of features i of `x (m, t, i)`, at least 1. With a tuple (x, lengths) an example's state is
        held from its length (m,) on, whole numbers from 0 to t, whatever x is there; y is then a tuple (y, lengths).
      hidden: the number of features h of the state, at least 1.
      last: whether y is the last state alone (m, h): with lengths that at each example's length.
      bias: whether there is b.
      forget_bias: where b_f starts; the rest of b starts at 0.
      weight_init, recurrent_init: `(key, (h, i)) -> W_i` and `(key, (h, h)) -> U_i`, and so for f, g and o.

    Returns:
      A layer with parameters `LSTM(W (4 h, i), U (4 h, h), b (4 h,))`, from x to y (m, t, h). It takes
      8 m t h (i + h) operations, backward twice that, and keeps x and 6 h numbers for each time.

    Raises:
      ValueError: when a size is not a positive integer; and, when the layer is traced, if the parameters are of other
        sizes, or x has another shape or another dtype than W.

    Source: Hochreiter and Schmidhuber, Long short-term memory, 1997; Gers et al., Learning to forget, 2000; the bias of
    f: Jozefowicz et al., An empirical exploration of recurrent network architectures, 2015; as PyTorch's `LSTM`.

    Example:
      >>> layer = jn.lstm(3, 4)
      >>> params = layer.init(key)
      >>> jax.tree.map(jnp.shape, params)
      LSTM(W=(16, 3), U=(16, 4), b=(16,))
      >>> states, lengths = layer(params, (jnp.ones((2, 5, 3)), jnp.array([5, 2])))
      >>> bool((states[1, 2] == states[1, 1]).all())  # held from the example's length on
      True
    """
    sizes = sizes_of("lstm", inputs, hidden)
    # Those that are given, which are then what is printed.
    options: dict[str, Any] = ({"last": True} if last else {}) | ({} if bias else {"bias": False})
    forward, backward = partial(lstm_forward, *sizes, **options), partial(lstm_backward, *sizes, **options)
    init = partial(lstm_init, *sizes, weight_init, recurrent_init, float(forget_bias) if bias else None)
    return Layer(init, forward, backward, decoder=partial(lstm_decoder, *sizes, **options))


def _shapes(inputs, hidden, bias):
    return (4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,) if bias else None
