"""What a network's compiled gradient costs beside `jax.grad` of the same network written with JAX alone.

The compiler counts, so that it is exact on any machine; of unrepeated blocks, since of a scan it counts one round.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest

import jaxnet as jn
from jaxnet import per_example

LOSS = jn.losses.softmax_cross_entropy_with_integer_labels
IMAGES, IDS = jax.ShapeDtypeStruct((32, 28, 28, 1), jnp.float32), jax.ShapeDtypeStruct((16, 256), jnp.int32)
FEW_IDS = jax.ShapeDtypeStruct((12, 64), jnp.int32)
SIZES = {"width": 128, "heads": 4, "depth": 2, "length": 256, "repeat": False}
OF_IDS = partial(plain.transformer, heads=4)
# The network, the same with JAX alone, x, and the bound of the clipped mean's memory beside the plain gradient by hand,
# which with norms takes half of autodiff's or a quarter: what is read of norms then keeps another array of each.
CASES = {
    "cnn": (jn.cnn((28, 28, 1), 10), plain.cnn, IMAGES, 1.2),
    "cnn with norms": (jn.cnn((28, 28, 1), 10, groups=8), partial(plain.cnn, groups=8), IMAGES, 1.5),
    "resnet": (
        jn.resnet((28, 28, 1), 10, channels=(8, 16), depth=1, repeat=False),
        partial(plain.resnet, groups=8),
        IMAGES,
        1.5,
    ),
    "transformer": (jn.transformer(65, **SIZES), OF_IDS, IDS, 1.2),
    "transformer of short sequences": (jn.transformer(65, **SIZES | {"length": 64}), OF_IDS, FEW_IDS, 1.2),
    "tied": (jn.transformer(65, tied=True, **SIZES), OF_IDS, IDS, 1.2),
}


def compiled(gradient, net, x):
    params = jax.eval_shape(net.init, jax.random.key(0))
    y = jax.ShapeDtypeStruct(x.shape[:1], jnp.int32) if x is IMAGES else x
    program = jax.jit(gradient).lower(params, x, y).compile()
    return program.cost_analysis()["flops"], program.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("name", CASES)
def test_operations_and_memory_are_within_their_bounds(name, monkeypatch):
    """XLA counts the body of a scan once: operations are those of a program without."""
    net, apply, x, beside_hand = CASES[name]

    def mean_loss(params, x, y):
        with jax.numpy_rank_promotion("allow"):
            return LOSS.forward(apply(params, x), y).mean()

    def clipped():
        return compiled(jn.value_and_grad(net, LOSS, read=per_example.clipped(1.0)), net, x)

    operations, memory = zip(
        compiled(jn.value_and_grad(net, LOSS), net, x), compiled(jax.value_and_grad(mean_loss), net, x), strict=True
    )
    of_clipped, memory_of_clipped = clipped()
    if x is IMAGES:
        scan = jax.lax.scan
        monkeypatch.setattr(jax.lax, "scan", lambda *a, **options: scan(*a, **options, unroll=True))
        of_clipped, _ = clipped()
    (by_hand, by_autodiff), (kept, kept_by_autodiff) = operations, memory
    factors = {
        "operations": (by_hand / by_autodiff, 1.01),
        "memory": (kept / kept_by_autodiff, 1.0),
        "operations, clipped": (of_clipped / by_hand, 1.05),
        "memory, clipped": (memory_of_clipped / kept, beside_hand),
        "memory, clipped, beside autodiff's": (memory_of_clipped / kept_by_autodiff, 1.1),
    }
    assert {what: factor for what, (factor, bound) in factors.items() if factor > bound} == {}


@pytest.mark.parametrize("name", ["cnn", "resnet", "tied"])
def test_what_is_compared_is_the_same_network(name, key):
    net, apply, x, *_ = CASES[name]
    params = net.init(key)
    x = jax.random.normal(key, (2, 28, 28, 1)) if x is IMAGES else jax.random.randint(key, (2, 64), 0, 65)

    @jax.jit
    def both(params, x):
        with jax.numpy_rank_promotion("allow"):
            return net.apply(params, x), apply(params, x)

    ours, theirs = both(params, x)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
