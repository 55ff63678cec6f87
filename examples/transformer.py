"""A transformer that learns to copy: sequences of random ids, each followed by itself.

Nothing tells the first half in advance, so that its loss cannot fall below log V. The second half is known to who looks
back: attention learns to. Run it with `python examples/transformer.py`.
"""

import jax
import jax.numpy as jnp
import optax

import jaxnet as jn
from jaxnet.decoding import decoder

VOCABULARY, HALF = 16, 8

net = jn.transformer(VOCABULARY, width=32, heads=2, depth=2, length=2 * HALF)
loss, optimizer = jn.losses.softmax_cross_entropy_with_integer_labels, optax.adam(3e-3)
params = jax.jit(net.init)(jax.random.key(0))
print(f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters")

# 300 batches of 64 sequences: ids, and the ids that follow.
halves = jax.random.randint(jax.random.key(1), (300, 64, HALF), 0, VOCABULARY)
sequences = jnp.concatenate([halves, halves], axis=-1)
steps = jn.make_steps(net, loss, optimizer)  # one compiled scan over batches that are there already
state, metrics = steps(jn.TrainState.create(params, optimizer), sequences[..., :-1], sequences[..., 1:])
print(f"loss of a sequence {metrics['loss'][0]:.1f} -> {metrics['loss'][-1]:.1f} nats")


@jax.jit
def by_position(params, ids):
    """The mean loss of each position by itself."""
    log_p = jax.nn.log_softmax(net(params, ids[:, :-1]))
    return -jnp.take_along_axis(log_p, ids[:, 1:, None], axis=-1)[..., 0].mean(axis=0)


half = jax.random.randint(jax.random.key(2), (200, HALF), 0, VOCABULARY)
lost = by_position(state.params, jnp.concatenate([half, half], axis=-1))
print(f"a position of the first half {lost[: HALF - 1].mean():.2f} nats, at best {jnp.log(VOCABULARY):.2f}")
print(f"a position of the second half {lost[HALF - 1 :].mean():.2f} nats")

# One id after another: `decoder` keeps keys and values, so that no position is seen twice.
start, step, _ = decoder(net, 2 * HALF)
step = jax.jit(step)
prompt = half[:1]
z, memory = step(state.params, jax.jit(start)(state.params, prompt), prompt)
written = []
for _ in range(HALF):
    written.append(int(z[0, -1].argmax()))
    z, memory = step(state.params, memory, jnp.array([[written[-1]]]))
print("given  ", *prompt[0])
print("written", *written)
