"""A layer over time: each state is made of the input and of the state before it.

For each example, from h_0 = 0 on, with a = g(z) either tanh or relu:

    1. u_t = x_t W^T + b, for all times at once        2. h_t = g(u_t + h_t-1 U^T)

Backward, last time first, with dh_t what comes to h_t from y_t and from time t + 1:

    2. dz_t = dh_t g'(z_t), which h_t tells, and dh_t-1 = dz_t U
    1. dx_t = dz_t W, for all times at once;  dW = sum_t dz_t x_t^T, dU = sum_t dz_t h_t-1^T, db = sum_t dz_t

The scan gives dz_t alone. Weights are the same at all times, so that times are positions of their gradients' factors.
The cache is x and all h_t.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxnet import initializers
from jaxnet.arguments import shown
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
    projected,
    through,
    time_first,
)
from jaxnet.sequences import answer, check_params, heard, of_input, sequences, sizes_of, state_by_state


class RNN(NamedTuple):
    """The parameters of `rnn`, or whatever has their structure: gradients, factored gradients, moments.

    Attributes:
      W: weights of the input (h, i), a row for each neuron.
      U: weights of the state before (h, h).
      b: bias (h,), PyTorch's two in one; None for a layer without one.
    """

    W: Any
    U: Any
    b: Any = None


class RNNCache(NamedTuple):
    """The input (m, t, i), all states (t, m, h), and where examples go on (t, m), or None."""

    x: Any
    states: Any
    alive: Any


def rnn_init(inputs, hidden, weight_init, recurrent_init, bias, key):
    of_input, of_state = jax.random.split(key)
    W, U = weight_init(of_input, (hidden, inputs)), recurrent_init(of_state, (hidden, hidden))
    return RNN(W, U, jnp.zeros(hidden) if bias else None)


def rnn_forward(
    inputs: int,
    hidden: int,
    params: RNN,
    x: Sequences,
    *,
    activation: str = "tanh",
    last: bool = False,
    bias: bool = True,
    start: Any = None,
) -> tuple[Any, RNNCache]:
    """h_t = g(x_t W^T + b + h_t-1 U^T), from h_0 = 0, or from a state to start with. The cache is x and the states."""
    label = f"rnn({inputs}, {hidden})"
    check_params(label, RNN, _shapes(inputs, hidden, bias), params)
    signal, lengths, alive = sequences(label, inputs, params, x)
    g = jnp.tanh if activation == "tanh" else jax.nn.relu
    # 1. u_t = x_t W^T + b
    u, U = projected(signal, params.W, params.b), everywhere(params.U, signal)

    def step(h, u):
        # 2. h_t = g(u_t + h_t-1 U^T)
        return g(u + h @ U.T), ()

    end, states, _ = ahead(step, nothing_yet(signal, hidden) if start is None else start, u, alive)
    return answer(states, end, lengths, last), RNNCache(signal, states, alive)


def rnn_backward(
    inputs: int,
    hidden: int,
    params: RNN,
    cache: RNNCache,
    dy: Any,
    *,
    activation: str = "tanh",
    last: bool = False,
    bias: bool = True,
) -> tuple[RNN, Any]:
    """dz_t = dh_t g'(z_t) and dh_t-1 = dz_t U + what y_t-1 hears; then one product for all times: dx_t = dz_t W."""
    label = f"rnn({inputs}, {hidden})"
    check_params(label, RNN, _shapes(inputs, hidden, bias), params)
    x, states, alive = cache
    dend, dstates = heard(label, states, dy, alive, last)
    U = everywhere(params.U, x)

    def step(dh, h):
        # 2. h_t = g(u_t + h_t-1 U^T)
        dz = dh * (1 - h) * (1 + h) if activation == "tanh" else jnp.where(h > 0, dh, jnp.zeros_like(dh))
        return dz @ U, dz

    _, dz = back(step, dend, dstates, states, alive)
    dz, h_before = time_first(dz), time_first(before(states, alive))
    dU = Outer(dz, h_before, jax.typeof(params.U).sharding)
    # 1. u_t = x_t W^T + b
    dW, db = Outer(dz, x, jax.typeof(params.W).sharding), of_bias(params.b, dz)
    return RNN(dW, dU, db), of_input(through(dz, params.W, x), alive)


def rnn_decoder(inputs: int, hidden: int, length: int, **options: Any) -> Decoder:
    """h_t from h_t-1 on."""
    return state_by_state(
        f"rnn({inputs}, {hidden})",
        partial(rnn_forward, inputs, hidden, **options),
        lambda x: nothing_yet(x, hidden),
        lambda cache: cache.states[-1],
    )


def rnn(
    inputs: SupportsIndex,
    hidden: SupportsIndex,
    *,
    activation: str = "tanh",
    last: bool = False,
    bias: bool = True,
    weight_init: Callable[..., Array] = initializers.glorot,
    recurrent_init: Callable[..., Array] = initializers.orthogonal,
) -> Layer:
    """A recurrent layer: h_t = g(x_t W^T + b + h_t-1 U^T), from h_0 = 0; y is all states h_t.

    Args:
      inputs: the number of features i of `x (m, t, i)`, at least 1. With a tuple (x, lengths) an example's state is
        held from its length (m,) on, whole numbers from 0 to t, whatever x is there; y is then a tuple (y, lengths).
      hidden: the number of features h of the state, at least 1.
      activation: g, 'tanh' or 'relu'.
      last: whether y is the last state alone (m, h): with lengths that at each example's length.
      bias: whether there is b.
      weight_init, recurrent_init: `(key, (h, i)) -> W` and `(key, (h, h)) -> U`, see `jaxnet.initializers`.

    Returns:
      A layer with parameters `RNN(W (h, i), U (h, h), b (h,))`, from x to y (m, t, h). It takes 2 m t h (i + h)
      operations, backward twice that, and keeps x and the states.

    Raises:
      ValueError: when an argument is out of its range; and, when the layer is traced, if the parameters are of other
        sizes, or x has another shape or another dtype than W.

    Source: Elman, Finding structure in time, 1990; Werbos, Backpropagation through time, 1990; as PyTorch's `RNN`.

    Example:
      >>> layer = jn.rnn(3, 4)
      >>> params = layer.init(key)
      >>> jax.tree.map(jnp.shape, params)
      RNN(W=(4, 3), U=(4, 4), b=(4,))
      >>> layer(params, jnp.ones((2, 5, 3))).shape
      (2, 5, 4)
    """
    sizes = sizes_of("rnn", inputs, hidden)
    if activation not in ("tanh", "relu"):
        raise ValueError(f"rnn: expected activation to be 'tanh' or 'relu', got {shown(activation)}")
    # Those that are given, which are then what is printed.
    options: dict[str, Any] = {} if activation == "tanh" else {"activation": activation}
    options |= {"last": True} if last else {}
    options |= {} if bias else {"bias": False}
    forward, backward = partial(rnn_forward, *sizes, **options), partial(rnn_backward, *sizes, **options)
    return Layer(
        partial(rnn_init, *sizes, weight_init, recurrent_init, bias),
        forward,
        backward,
        decoder=partial(rnn_decoder, *sizes, **options),
    )


def _shapes(inputs, hidden, bias):
    return (hidden, inputs), (hidden, hidden), (hidden,) if bias else None
