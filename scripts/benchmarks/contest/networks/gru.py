"""A layer of gated recurrent units and a head at each position, without biases in the units.

Sizes: features, units, outputs, positions.

With biases the packages' units differ: PyTorch trains two for each gate, and Flax has none in the product that a gate
multiplies. Haiku's `GRU` is another network, with the gate before the product, so it has a core of its own here.
"""

from typing import Any

import numpy as np

from benchmarks.contest.networks import drawn


def draw(net: Any, rng: Any) -> Any:
    """LeCun's weights, and labels at each position by a linear map of its features."""
    features, units, outputs, length = net.sizes
    params = (
        (drawn.lecun(rng, (3 * units, features)), drawn.lecun(rng, (3 * units, units))),
        (drawn.lecun(rng, (outputs, units)), drawn.zeros(outputs)),
    )
    x = drawn.inputs(rng, (net.batches, net.batch, length, features))
    return params, x, drawn.labels(rng, x, outputs)


def products(net: Any) -> list[int]:
    """2 m t i o for each."""
    features, units, outputs, length = net.sizes
    return [2 * net.batch * length * n for n in (features * 3 * units, units * 3 * units, units * outputs)]


def by_jaxnet(problem: Any) -> Any:
    """`jn.gru` and `jn.dense`."""
    import jaxnet as jn

    features, units, outputs, _ = problem.net.sizes
    return jn.chain(jn.gru(features, units, bias=False), jn.dense(units, outputs)), drawn.arrays(problem.params)


def by_jax(problem: Any) -> Any:
    """`lax.scan` over the times, after one product of all of them with W."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    def apply(params, x):
        (W, U), (V, c) = params

        def step(h, u):
            (u_r, u_z, u_n), (v_r, v_z, v_n) = jnp.split(u, 3, axis=-1), jnp.split(h @ U, 3, axis=-1)
            r, z = jax.nn.sigmoid(u_r + v_r), jax.nn.sigmoid(u_z + v_z)
            h = (1 - z) * jnp.tanh(u_n + r * v_n) + z * h
            return h, h

        _, states = lax.scan(step, jnp.zeros((len(x), len(U)), x.dtype), (x @ W).swapaxes(0, 1))
        return states.swapaxes(0, 1) @ V + c

    return apply, tuple((np.ascontiguousarray(W.T), V.T if V.ndim > 1 else V) for W, V in problem.params)


def by_haiku(problem: Any) -> Any:
    """`hk.dynamic_unroll` of a core."""
    import haiku as hk
    import jax
    import jax.numpy as jnp

    units, outputs, _ = problem.net.sizes[1:]
    (W, U), (V, _) = problem.params
    given = hk.initializers.Constant

    class Units(hk.RNNCore):
        def __call__(self, x, h):
            u = hk.Linear(3 * units, with_bias=False, w_init=given(W.T), name="of_input")(x)
            v = hk.Linear(3 * units, with_bias=False, w_init=given(U.T), name="of_state")(h)
            (u_r, u_z, u_n), (v_r, v_z, v_n) = jnp.split(u, 3, axis=-1), jnp.split(v, 3, axis=-1)
            r, z = jax.nn.sigmoid(u_r + v_r), jax.nn.sigmoid(u_z + v_z)
            h = (1 - z) * jnp.tanh(u_n + r * v_n) + z * h
            return h, h

        def initial_state(self, batch_size):
            return jnp.zeros((batch_size, units))

    def forward(x):
        core = Units()
        states, _ = hk.dynamic_unroll(core, x, core.initial_state(len(x)), time_major=False)
        return hk.Linear(outputs, w_init=given(V.T))(states)

    return forward


def by_flax(problem: Any) -> Any:
    """`nnx.RNN` of `nnx.GRUCell`."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    features, units, outputs, _ = problem.net.sizes
    (W, U), (V, _) = problem.params
    given = jax.nn.initializers.constant

    class Recurrent(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            cell = nnx.GRUCell(features, units, recurrent_kernel_init=given(U.T), rngs=rngs)
            cell.dense_i = nnx.Linear(features, 3 * units, use_bias=False, kernel_init=given(W.T), rngs=rngs)
            self.rnn = nnx.RNN(cell, rngs=False)
            self.head = nnx.Linear(units, outputs, kernel_init=given(V.T), rngs=rngs)

        def __call__(self, x):
            return self.head(self.rnn(x, initial_carry=jnp.zeros((len(x), units))))

    return Recurrent()


def by_equinox(problem: Any) -> Any:
    """`lax.scan` of `eqx.nn.GRUCell`, for one example, as its documentation has it."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    from jax import lax

    from benchmarks.contest.by_equinox import filled

    features, units, outputs, _ = problem.net.sizes

    class Recurrent(eqx.Module):
        cell: Any
        head: Any

        def __init__(self):
            key = jax.random.key(0)
            self.cell = eqx.nn.GRUCell(features, units, use_bias=False, key=key)
            self.head = eqx.nn.Linear(units, outputs, key=key)

        def __call__(self, x):
            def step(h, x_t):
                h = self.cell(x_t, h)
                return h, h

            _, states = lax.scan(step, jnp.zeros(units), x)
            return jax.vmap(self.head)(states)

    return filled(Recurrent(), drawn.arrays(problem.params)), problem.x


def by_torch(problem: Any) -> Any:
    """`nn.GRU`."""
    from torch import nn

    from benchmarks.contest.by_torch import filled

    features, units, outputs, _ = problem.net.sizes

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(features, units, bias=False, batch_first=True)
            self.head = nn.Linear(units, outputs)

        def forward(self, x):
            return self.head(self.gru(x)[0])

    return filled(Recurrent(), drawn.arrays(problem.params)), problem.x
