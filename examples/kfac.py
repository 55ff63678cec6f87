"""K-FAC beside Adam: a deep autoencoder of digits, the same start, the same batches, the training loss by epoch.

Run it with `python examples/kfac.py` (`pip install -e '.[train]'`); the digits are scikit-learn's.
"""

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

import jaxnet as jn

x = jnp.asarray(load_digits().data / 16, jnp.float32)

# Through a neck of 8 numbers and back: narrow and deep, which is where curvature helps most.
net, loss = jn.mlp((64, 32, 16, 8, 16, 32, 64), jn.tanh), jn.losses.sigmoid_binary_cross_entropy
EPOCHS = 10

# K-FAC takes its step size and momentum from the quadratic model of each batch, so that there is no rate to choose.
optimizers = {f"adam({rate})": optax.adam(rate) for rate in (0.003, 0.01, 0.03)}
optimizers["kfac"] = jn.optimizers.kfac(net, loss)
for name, optimizer in optimizers.items():
    # Both are optax optimizers; `make_epoch` hands K-FAC the batch, which it needs for its factors.
    epoch = jn.make_epoch(net, loss, optimizer, batch_size=128)
    state = jn.TrainState.create(net.init(jax.random.key(0)), optimizer)
    losses = []
    for _ in range(EPOCHS):
        state, metrics = epoch(state, x, x)
        losses.append(metrics["loss"])
    print(f"{name:12}" + "  ".join(f"{value:.2f}" for value in losses))

# What it preconditions by, for the last layer's W (64, 32): B kron A stands for a block of 2,048 by 2,048 numbers.
factors = jn.curvature.kfac(net, loss, state.params, x, x, jax.random.key(1))
B, A = factors[-1].W
print(f"B {B.shape}, A {A.shape}")
