"""Which training examples does the network owe its mistakes to? Influence functions find the labels that are wrong.

Leaving example i out changes the loss on other examples by about (1/m) <g_i, (G + lambda I)^-1 g>, with g the gradient
of that loss and G the curvature, here by Kronecker factors (Koh and Liang, 2017; Grosse et al., 2023). Where it is
negative, example i does harm. Run it with `python examples/influence.py` (`pip install -e '.[train]'`); the digits are
scikit-learn's.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxnet as jn

WRONG, CLASSES = 60, 10

data, labels = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
order = rng.permutation(len(data))
x, y = jnp.asarray(data[order] / 16, jnp.float32), jnp.asarray(labels[order])
(x, x_clean, x_test), (y, y_clean, y_test) = (jnp.split(part, [1000, 1400]) for part in (x, y))

# 60 of 1,000 training labels are made wrong.
wrong = rng.choice(len(x), WRONG, replace=False)
y = y.at[wrong].set((y[wrong] + rng.integers(1, CLASSES, WRONG)) % CLASSES)

net, loss = jn.mlp((64, 32, CLASSES), jn.tanh), jn.losses.softmax_cross_entropy_with_integer_labels


def trained(x, y):
    """The parameters after 30 epochs."""
    optimizer = optax.adam(3e-3)
    epoch = jn.make_epoch(net, loss, optimizer, batch_size=50)
    state = jn.TrainState.create(net.init(jax.random.key(0)), optimizer)
    for _ in range(30):
        state, _ = epoch(state, x, y)
    return state.params


def accuracy(params):
    """On the test part."""
    return (net(params, x_test).argmax(axis=1) == y_test).mean()


@jax.jit
def influence(params):
    """How much each training example helps on the clean ones, (m,): negative for those that do harm."""
    # The gradient of the loss on clean examples, made into the direction along which that loss depends on the training.
    _, g = jn.value_and_grad(net, loss)(params, x_clean, y_clean)
    factors = jn.curvature.kflr(net, loss, params, x, y)
    direction = jn.curvature.solve(factors, g, damping=1e-2)
    # All inner products <g_i, direction> by one product of matrices for each layer: no g_i is formed.
    z, cache = net.forward(params, x)
    dparams, _ = net.backward(params, cache, loss.backward(z, y))
    return jn.per_example.dot(dparams, direction) / len(x)


params = trained(x, y)
harmful = np.argsort(influence(params))[:WRONG]
found = np.isin(harmful, wrong).sum()
print(f"of the {WRONG} most harmful of {len(x)} examples {found} are wrongly labelled; by chance it would be 4")

kept = np.setdiff1d(np.arange(len(x)), harmful)
print(f"test accuracy {accuracy(params):.1%}; trained again without them {accuracy(trained(x[kept], y[kept])):.1%}")
