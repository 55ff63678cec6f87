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
SIZES = {"width": 128, "heads": 4, "depth": 2, "length": 256, "repeat": False}
OF_IDS = partial(plain.transformer, heads=4)
# The network, the same with JAX alone, x, and bounds beside autodiff's: operations, memory. Then those of the clipped
# mean, beside the plain gradient by hand. A group norm by hand takes five operations more for each number than its
# formula, so that no square overflows and equal numbers have variance 0; they count where channels are few. The plain
# gradient of convolutions takes so little memory that gradients of single examples, formed from slices for the clipped
# mean, are more than a fifth of it. Of short sequences in small batches, 12 of 64, a transformer takes 1.10 times
# autodiff's memory: gelu_tanh keeps both s(v) and s(-v), which has the digits where s(v) has rounded to 1.
CASES = {
    "cnn": (jn.cnn((28, 28, 1), 10), plain.cnn, IMAGES, (1.01, 1.0), (1.05, 1.65)),
    "cnn with norms": (
        jn.cnn((28, 28, 1), 10, groups=8),
        partial(plain.cnn, groups=8),
        IMAGES,
        (1.04, 1.0),
        (1.05, 1.35),
    ),
    "resnet": (
        jn.resnet((28, 28, 1), 10, channels=(8, 16), depth=1, repeat=False),
        partial(plain.resnet, groups=8),
        IMAGES,
        (1.07, 1.001),
        (1.05, 2.5),
    ),
    "transformer": (jn.transformer(65, **SIZES), partial(plain.transformer, heads=4), IDS, (1.01, 1.0), (1.25, 1.2)),
    "tied": (
        jn.transformer(65, tied=True, **SIZES),
        partial(plain.transformer, heads=4),
        IDS,
        (1.01, 1.0),
        (1.25, 1.2),
    ),
}


def compiled(gradient, net, x):
    params = jax.eval_shape(net.init, jax.random.key(0))
    y = IDS if x is IDS else jax.ShapeDtypeStruct(x.shape[:1], jnp.int32)
    program = jax.jit(gradient).lower(params, x, y).compile()
    return program.cost_analysis()["flops"], program.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("name", CASES)
def test_operations_and_memory_are_within_their_bounds(name):
    net, apply, x, of_autodiff, of_hand = CASES[name]

    def mean_loss(params, x, y):
        with jax.numpy_rank_promotion("allow"):
            return LOSS.forward(apply(params, x), y).mean()

    by_hand, by_autodiff, clipped = (
        compiled(gradient, net, x)
        for gradient in (
            jn.value_and_grad(net, LOSS),
            jax.value_and_grad(mean_loss),
            jn.value_and_grad(net, LOSS, read=per_example.clipped(1.0)),
        )
    )
    for counted, factor, ours, theirs in (
        *zip(("operations", "memory"), of_autodiff, by_hand, by_autodiff, strict=True),
        *zip(("operations, clipped", "memory, clipped"), of_hand, clipped, by_hand, strict=True),
    ):
        assert ours <= factor * theirs, f"{counted}: {ours / theirs:.3f}"


@pytest.mark.parametrize("name", ["cnn", "resnet", "tied"])
def test_what_is_compared_is_the_same_network(name, key):
    net, apply, x, *_ = CASES[name]
    params = net.init(key)
    x = jax.random.randint(key, (2, 64), 0, 65) if x is IDS else jax.random.normal(key, (2, 28, 28, 1))

    @jax.jit
    def both(params, x):
        with jax.numpy_rank_promotion("allow"):
            return net.apply(params, x), apply(params, x)

    ours, theirs = both(params, x)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
