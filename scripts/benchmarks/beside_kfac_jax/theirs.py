"""kfac-jax on the starts and batches of a file, run as a program by the Python of an environment that has it.

    python theirs.py BATCHES.npz LOSSES.npz

BATCHES holds x (n, d), the rows of each batch (seeds, epochs, k, m), W0 (seeds, o, i), b0 (seeds, o), W1, ... of a
network with tanh, and the least dampings (g,); LOSSES then holds what x loses before the first epoch and after each,
(g, seeds, epochs + 1). The optimizer's own settings are left as they are, but that step size, momentum and damping are
adaptive, as ours are. The ten batches of which it makes its first factors are the first ten, which then come again.
"""

import sys
from itertools import chain

import jax
import jax.numpy as jnp
import kfac_jax
import numpy as np

# As ours starts.
DAMPING = 10.0
FACTORS_FIRST = 10


def apply(params, x):
    """The network, with weights (i, o) as kfac-jax knows them."""
    for W, b in params[:-1]:
        x = jnp.tanh(x @ W + b)
    W, b = params[-1]
    return x @ W + b


def loss(params, x):
    """Half the squared error to the input, the mean over examples."""
    z = apply(params, x)
    kfac_jax.register_squared_error_loss(z, x, weight=0.5)
    return 0.5 * ((z - x) ** 2).sum(axis=-1).mean()


def train(optimizer, params, x, rows, seed):
    """The loss of x before the first epoch and after each."""
    batches = [x[of_batch] for of_epoch in rows for of_batch in of_epoch]
    coming = iter(chain(batches[:FACTORS_FIRST], batches))
    evaluate = jax.jit(lambda params: 0.5 * ((apply(params, x) - x) ** 2).sum(axis=-1).mean())
    key, of_start = jax.random.split(jax.random.key(seed))
    state, losses = optimizer.init(params, of_start, batches[0]), [float(evaluate(params))]
    for step in range(len(batches)):
        of_step = jax.random.fold_in(key, step)
        params, state, _ = optimizer.step(params, state, of_step, data_iterator=coming, global_step_int=step)
        if (step + 1) % rows.shape[1] == 0:
            losses.append(float(evaluate(params)))
    return losses


def main(given, out):
    """Reads the one file and writes the other."""
    told = np.load(given)
    x, layers = jnp.asarray(told["x"]), sum(name.startswith("W") for name in told)
    losses: list[list[list[float]]] = []
    for least in told["least_dampings"]:
        optimizer = kfac_jax.Optimizer(
            jax.value_and_grad(loss),
            l2_reg=0.0,
            use_adaptive_learning_rate=True,
            use_adaptive_momentum=True,
            use_adaptive_damping=True,
            initial_damping=DAMPING,
            min_damping=float(least),
            num_burnin_steps=FACTORS_FIRST,
        )
        losses.append([])
        for seed, rows in enumerate(told["rows"]):
            start = [(told[f"W{k}"][seed].T, told[f"b{k}"][seed]) for k in range(layers)]
            losses[-1].append(train(optimizer, jax.tree.map(jnp.asarray, start), x, rows, seed))
    np.savez(out, losses=np.array(losses))


if __name__ == "__main__":
    main(*sys.argv[1:])
