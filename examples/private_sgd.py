"""Differentially private SGD: each example's gradient clipped, noise added, and an accountant who says what it buys.

Run it with `python examples/private_sgd.py` (`pip install -e '.[privacy]'`).
"""

import functools
import secrets

import dp_accounting
import jax
import jax.numpy as jnp
import optax
from dp_accounting import rdp
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxnet as jn

C, NOISE, EXPECTED, STEPS = 1.0, 1.0, 128, 150  # clipping norm, noise in units of it, examples in a batch, updates

data, labels = load_digits(return_X_y=True)
x, x_test, y, y_test = map(
    jnp.asarray, train_test_split((data / 16).astype("float32"), labels, test_size=0.25, random_state=0)
)
rate = EXPECTED / len(x)

# Who knows the keys of the batches and of the noise can undo what they hide: they come from the system's entropy.
draws, noise = (
    jax.random.wrap_key_data(jnp.array([secrets.randbits(32) for _ in range(2)], jnp.uint32)) for _ in range(2)
)

net, loss = jn.mlp((64, 32, 10), jn.tanh), jn.losses.softmax_cross_entropy_with_integer_labels
params = net.init(jax.random.key(0))

# (1/B) sum_i min(1, C / |g_i|) g_i: no gradient g_i is formed, its length follows from the factors of each layer.
clipped = jn.per_example.clipped(C, EXPECTED, drop_not_finite=True)
optimizer = optax.chain(jn.optimizers.private_noise(C, NOISE, EXPECTED, noise), optax.adam(0.01))
steps = jn.make_steps(net, loss, optimizer, value_and_grad=functools.partial(jn.value_and_grad, read=clipped))

# Each example is in each batch by itself, with the same probability; there is room for twice as many as expected.
rows, weights = jn.poisson_batches(draws, jnp.arange(STEPS), len(x), rate, 2 * EXPECTED)
state, _ = steps(jn.TrainState.create(params, optimizer), x[rows], y[rows], weights)

step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(NOISE))
accountant = rdp.RdpAccountant(orders=range(2, 64)).compose(dp_accounting.SelfComposedDpEvent(step, STEPS))
print(f"epsilon {accountant.get_epsilon(1e-5):.2f} at delta 1e-5, after {STEPS} steps")
print(f"test accuracy {(net(state.params, x_test).argmax(axis=1) == y_test).mean():.1%}")
