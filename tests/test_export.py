"""The whole training step, lowered for platforms that this machine need not have."""

import jax
import numpy as np
import optax
import pytest
from jax import export

import jaxnet as jn


@pytest.mark.parametrize(
    ("loss_name", "optimizer"),
    [
        ("softmax_cross_entropy_with_integer_labels", optax.sgd(0.1, momentum=0.9)),
        ("half_squared_error", optax.adam(1e-2)),
    ],
    ids=["labels, momentum", "numbers, adam"],
)
@pytest.mark.usefixtures("optax_promotion")
def test_a_step_is_lowered_for_cpu_cuda_and_tpu_with_any_batch_size(loss_name, optimizer, key):
    net, loss = jn.mlp((3, 8, 4)), getattr(jn.losses, loss_name)
    step = jn.make_step(net, loss, optimizer)
    state = jn.TrainState.create(net.init(key), optimizer)
    structure = jax.tree.structure(state._replace(key=()))

    # Lists of arrays, because named tuples and random keys are not serialised by themselves.
    def flat_step(leaves, x, y):
        state = jax.tree.unflatten(structure, leaves)._replace(key=jax.random.key(0))
        state, metrics = step(state, x, y)
        return jax.tree.leaves(state._replace(key=())), metrics

    (m,) = export.symbolic_shape("m")
    labels = "labels" in loss_name
    x_like = jax.ShapeDtypeStruct((m, 3), np.float32)
    y_like = jax.ShapeDtypeStruct((m,) if labels else (m, 4), np.int32 if labels else np.float32)
    leaves = jax.tree.leaves(state._replace(key=()))
    exported = export.export(jax.jit(flat_step), platforms=["cpu", "cuda", "tpu"])(leaves, x_like, y_like)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    read_back = export.deserialize(exported.serialize())

    for examples in (1, 5, 32):
        x = jax.random.normal(key, (examples, 3))
        y = jax.random.randint(key, (examples,), 0, 4) if labels else jax.random.normal(key, (examples, 4))
        actual, metrics = read_back.call(leaves, x, y)
        expected, expected_metrics = jax.jit(flat_step)(leaves, x, y)
        # float32 rounds at 6e-8; Adam divides by a root of what may be near 0.
        np.testing.assert_allclose(metrics["loss"], expected_metrics["loss"], rtol=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), actual, expected)
