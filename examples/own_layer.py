"""A layer of your own: a sine with a frequency for each unit, its backward by hand, checked, and trained.

    y = sin(w x)        dw = dy cos(w x) x        dx = dy cos(w x) w

Run it with `python examples/own_layer.py`.
"""

import jax
import jax.numpy as jnp
import optax

import jaxnet as jn


def sine_init(frequencies, key):
    """The frequencies w start anywhere from 0 to 10."""
    return {"w": jax.random.uniform(key, (frequencies,), maxval=10.0)}


def sine_forward(params, x):
    """The cache is what backward needs: x alone."""
    return jnp.sin(x * params["w"][None]), x


def sine_backward(params, x, dy):
    """Signals are per example, without 1/m: `jn.Each` says that g_i is this row, and a reading takes the mean."""
    dphase = dy * jnp.cos(x * params["w"][None])
    return {"w": jn.Each(dphase * x)}, dphase * params["w"][None]


def sine(frequencies):
    """The layer: three pure functions."""
    return jn.Layer(lambda key: sine_init(frequencies, key), sine_forward, sine_backward)


# Against jax.vjp, central differences and more, in float64, float32 and bfloat16: an AssertionError if it is wrong.
jn.testing.check_layer(sine(8), jax.random.normal(jax.random.key(0), (5, 8)), jax.random.key(1))
print("sine: the backward by hand is the derivative of forward")

# A wave to learn, which a network of 16 tanh units does not get hold of in the same number of steps.
x = jnp.linspace(-3, 3, 200)[:, None]
y = jnp.sin(5 * x) + 0.5 * jnp.sin(9 * x)
loss, optimizer = jn.losses.half_squared_error, optax.adam(0.01)


def loss_after_training(activation):
    """The mean loss of 1-16-1 after 1,000 steps on all examples."""
    net = jn.chain(jn.dense(1, 16), activation, jn.dense(16, 1))
    step = jn.make_step(net, loss, optimizer)
    state = jn.TrainState.create(net.init(jax.random.key(2)), optimizer)
    for _ in range(1000):
        state, metrics = step(state, x, y)
    return net, state.params, metrics["loss"]


print(f"loss with tanh {loss_after_training(jn.tanh)[2]:.3f}")
net, params, final = loss_after_training(sine(16))
print(f"loss with sine {final:.3f}")

# Every reading goes through the new layer too, such as each example's gradient of w, which is never formed for dense.
z, cache = net.forward(params, x)
dparams, _ = net.backward(params, cache, loss.backward(z, y))
norms = jn.per_example.norms(dparams)
print(f"longest gradient of an example {norms.max():.2f}, at x = {x[norms.argmax(), 0]:.2f}")
