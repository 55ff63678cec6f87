"""A convolutional network on handwritten digits of 8 by 8 pixels, and the digits that it finds hardest.

Run it with `python examples/cnn.py` (`pip install -e '.[train]'`); the digits are scikit-learn's.
"""

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxnet as jn

images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) / 16).astype("float32")
x, x_test, y, y_test = map(jnp.asarray, train_test_split(images, labels, test_size=0.25, random_state=0))

# Two blocks of convolution, ReLU and pooling, each of which halves the image, and two dense layers.
net = jn.cnn((8, 8, 1), 10, channels=(8, 16), hidden=(32,))
loss, optimizer = jn.losses.softmax_cross_entropy_with_integer_labels, optax.adam(3e-3)
params = jax.jit(net.init)(jax.random.key(0))
print(jn.summary(net, params, x))

# An epoch is one compiled scan over shuffled minibatches.
epoch = jn.make_epoch(net, loss, optimizer, batch_size=32)
state = jn.TrainState.create(params, optimizer)
for number in range(9):
    state, metrics = epoch(state, x, y)
    if number % 3 == 2:
        print(f"epoch {number + 1}  loss {metrics['loss']:.3f}")


@jax.jit
def outputs_and_norms(params, x, y):
    """What the network says of each image, and how long the gradient of each is."""
    z, cache = net.forward(params, x)
    dparams, _ = net.backward(params, cache, loss.backward(z, y))
    return z, jn.per_example.norms(dparams)


z, norms = outputs_and_norms(state.params, x_test, y_test)
print(f"test accuracy {(z.argmax(axis=1) == y_test).mean():.1%}")

# Those with the longest gradients are what the network would have to change most for.
for hardest in norms.argsort()[::-1][:3]:
    print(f"a {y_test[hardest]} taken for a {z[hardest].argmax()}")
