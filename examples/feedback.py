"""Feedback alignment: the signal comes back through fixed random weights, and the network learns all the same.

How it can: the forward weights come to lie along the random ones, so that the update turns towards the gradient. Run it
with `python examples/feedback.py` (`pip install -e '.[train]'`); the digits are scikit-learn's.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxnet as jn

data, labels = load_digits(return_X_y=True)
data = ((data - data.mean()) / data.std()).astype("float32")
x, x_test, y, y_test = map(jnp.asarray, train_test_split(data, labels, test_size=0.25, random_state=0))

net, loss = jn.mlp((64, 128, 64, 10), jn.tanh), jn.losses.softmax_cross_entropy_with_integer_labels
start, optimizer = net.init(jax.random.key(0)), optax.sgd(0.1)
B = net.init(jax.random.key(1))  # random weights of the same shapes, which never change

ways = {
    "backpropagation": net.backward,  # dx = dz W
    "random": jn.feedback.alignment(net, B),  # dx = dz B
    "signs": jn.feedback.sign_symmetry(net),  # dx = dz sign(W) mean|W|
}
for way, backward in ways.items():
    by_this = partial(jn.value_and_grad, backward=backward)
    epoch = jn.make_epoch(net, loss, optimizer, batch_size=32, value_and_grad=by_this)

    @jax.jit
    def angle(params, by_this=by_this):
        """Between the update of the first layer and its gradient, in degrees."""
        (_, update), (_, gradient) = by_this(net, loss)(params, x, y), jn.value_and_grad(net, loss)(params, x, y)
        return jn.feedback.angle(update[0], gradient[0])

    before = angle(start)
    state = jn.TrainState.create(jax.tree.map(jnp.copy, start), optimizer)
    for _ in range(10):
        state, metrics = epoch(state, x, y)
    accuracy = (net(state.params, x_test).argmax(axis=1) == y_test).mean()
    print(f"{way:16} {before:3.0f} degrees at the start, {angle(state.params):3.0f} at the end; test {accuracy:.1%}")
