"""Meta-learning: a start from which one step of gradient descent learns a new task.

The inner step takes our gradient by hand, which is a plain function: JAX differentiates through it for the outer step.
Tasks are waves of random amplitude and phase (Finn et al., Model-agnostic meta-learning, 2017). Run it with
`python examples/meta_learning.py`.
"""

import jax
import jax.numpy as jnp
import optax

import jaxnet as jn

net, loss = jn.mlp((1, 40, 40, 1), jn.tanh), jn.losses.half_squared_error
gradient = jn.value_and_grad(net, loss)
STEP, TASKS = 0.05, 25


def wave(key):
    """Ten points to learn from and ten to be judged by, of one task."""
    amplitude, phase, where = jax.random.split(key, 3)
    x = jax.random.uniform(where, (20, 1), minval=-5, maxval=5)
    y = jax.random.uniform(amplitude, minval=0.1, maxval=5) * jnp.sin(x + jax.random.uniform(phase, maxval=jnp.pi))
    return (x[:10], y[:10]), (x[10:], y[10:])


def adapted(params, x, y):
    """One step of gradient descent: W - eta dW."""
    _, grads = gradient(params, x, y)
    return jax.tree.map(lambda w, dw: w - STEP * dw, params, grads)


def loss_before_the_step(params, key):
    """Of the task's other points, without having learnt anything of it."""
    _, (x, y) = wave(key)
    return loss(net(params, x), y).mean()


def loss_after_the_step(params, key):
    """And after one step on its first points."""
    learn, (x, y) = wave(key)
    return loss(net(adapted(params, *learn), x), y).mean()


def trained(objective):
    """The start whose mean objective over tasks is least, by Adam on the outer gradient."""
    optimizer = optax.adam(1e-3)

    def update(state, key):
        params, moments = state
        keys = jax.random.split(key, TASKS)
        grads = jax.grad(lambda params: jax.vmap(objective, (None, 0))(params, keys).mean())(params)
        updates, moments = optimizer.update(grads, moments)
        return (optax.apply_updates(params, updates), moments), None

    params = net.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 1500)
    return jax.jit(lambda state: jax.lax.scan(update, state, keys))((params, optimizer.init(params)))[0][0]


new = jax.random.split(jax.random.key(2), 500)
for name, objective in {"every task at once": loss_before_the_step, "one step later": loss_after_the_step}.items():
    params = trained(objective)
    before, after = (jax.vmap(f, (None, 0))(params, new).mean() for f in (loss_before_the_step, loss_after_the_step))
    print(f"trained for {name:18}  new tasks: loss {before:.2f} before their step, {after:.2f} after it")
