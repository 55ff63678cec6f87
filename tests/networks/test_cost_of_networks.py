"""What a network's compiled gradient costs beside `jax.grad` of the same network written with JAX alone.

The compiler counts, so that it is exact on any machine; of unrepeated blocks, since of a scan it counts one round.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest

import jaxnet as jn
from jaxnet import per_example
from jaxnet.factored import window_products

LOSS = jn.losses.softmax_cross_entropy_with_integer_labels
IMAGES, IDS = jax.ShapeDtypeStruct((32, 28, 28, 1), jnp.float32), jax.ShapeDtypeStruct((16, 256), jnp.int32)
FEW_IDS, IN_TIME = jax.ShapeDtypeStruct((12, 64), jnp.int32), jax.ShapeDtypeStruct((16, 64), jnp.int32)
SIZES = {"width": 128, "heads": 4, "depth": 2, "length": 256, "repeat": False}
OF_IDS, OF_SEQUENCES = partial(plain.transformer, heads=4), partial(plain.encoder, heads=4)


class Case(NamedTuple):
    """A network, and the bounds of what its clipped mean takes beside the plain gradient by hand.

    Attributes:
      net, apply: the network, and the same with JAX alone.
      x: the shape of a batch.
      memory: where the plain gradient takes half of autodiff's or a quarter, what is formed of convolutions is much
        beside it, and so are the patches of eight examples; what is read of norms keeps another array of each.
      operations: of few times the norms' products are more beside those that a gradient takes.
      times: of those whose operations are counted, where the network goes from time to time in a scan.
      zeros: what is more than autodiff's by products of the zeros around images, which are left out there, and with
        jaxlib 0.10 of a further row of places.
    """

    net: Any
    apply: Any
    x: Any
    memory: float = 1.2
    operations: float = 1.05
    times: int | None = None
    zeros: float = 0


def over_time(layer, memory):
    net = jn.chain(jn.embedding(65, 64), layer, jn.dense(64, 65))
    return Case(net, plain.over_time, IN_TIME, memory, operations=1.12, times=8)


CASES = {
    "cnn": Case(jn.cnn((28, 28, 1), 10), plain.cnn, IMAGES, memory=1.52, zeros=0.04),
    "cnn with norms": Case(
        jn.cnn((28, 28, 1), 10, groups=8), partial(plain.cnn, groups=8), IMAGES, memory=1.42, zeros=0.045
    ),
    "resnet": Case(
        jn.resnet((28, 28, 1), 10, channels=(8, 16), depth=1, repeat=False),
        partial(plain.resnet, groups=8),
        IMAGES,
        memory=1.61,
        zeros=0.04,
    ),
    "transformer": Case(jn.transformer(65, **SIZES), OF_IDS, IDS),
    "transformer of short sequences": Case(jn.transformer(65, **SIZES | {"length": 64}), OF_IDS, FEW_IDS),
    "tied": Case(jn.transformer(65, tied=True, **SIZES), OF_IDS, IDS),
    "encoder": Case(jn.encoder(65, 10, **SIZES | {"length": 64}), OF_SEQUENCES, FEW_IDS),
    "gru": over_time(jn.gru(64, 64), memory=1.28),
    "lstm": over_time(jn.lstm(64, 64), memory=1.2),
}


def labels_of(net, x):
    """Of images and sequences one, of transformers one for each id."""
    params = jax.eval_shape(net.init, jax.random.key(0))
    return jax.ShapeDtypeStruct(jax.eval_shape(net.apply, params, x).shape[:-1], jnp.int32)


def compiled(gradient, net, x):
    params = jax.eval_shape(net.init, jax.random.key(0))
    program = jax.jit(gradient).lower(params, x, labels_of(net, x)).compile()
    return program.cost_analysis()["flops"], program.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("name", CASES)
def test_operations_and_memory_are_within_their_bounds(name, monkeypatch):
    """XLA counts the body of a scan once: operations are those of a program without."""
    net, apply, x, bound_of_memory, bound_of_operations, times, zeros = CASES[name]

    def mean_loss(params, x, y):
        with jax.numpy_rank_promotion("allow"):
            return LOSS.forward(apply(params, x), y).mean()

    by_hand, by_autodiff = jn.value_and_grad(net, LOSS), jax.value_and_grad(mean_loss)
    clipped = jn.value_and_grad(net, LOSS, read=per_example.clipped(1.0))
    gradients = by_hand, by_autodiff, clipped
    operations, memory = zip(*(compiled(gradient, net, x) for gradient in gradients), strict=True)
    if x is IMAGES or times is not None:
        scan = jax.lax.scan
        monkeypatch.setattr(jax.lax, "scan", lambda *a, **options: scan(*a, **options, unroll=True))
        # In one round, or what is fused into every round is counted in each.
        monkeypatch.setattr(window_products, "AT_ONCE", x.shape[0])
        monkeypatch.setattr(window_products, "PATCHES", np.inf)
        jax.clear_caches()  # what was traced already has its scans
        few = x if times is None else jax.ShapeDtypeStruct((x.shape[0], times), x.dtype)
        operations = tuple(compiled(gradient, net, few)[0] for gradient in gradients)
    (of_hand, of_autodiff, of_clipped), (kept, kept_by_autodiff, kept_by_clipped) = operations, memory
    factors = {
        "operations": (of_hand / of_autodiff, 1.01 + zeros),
        "memory": (kept / kept_by_autodiff, 1.0),
        "operations, clipped": (of_clipped / of_hand, bound_of_operations),
        "memory, clipped": (kept_by_clipped / kept, bound_of_memory),
        "memory, clipped, beside autodiff's": (kept_by_clipped / kept_by_autodiff, 1.1),
    }
    assert {what: factor for what, (factor, bound) in factors.items() if factor > bound} == {}


@pytest.mark.parametrize("name", ["cnn", "resnet", "tied", "encoder", "gru", "lstm"])
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
