"""A table of vectors, tied to the head: the same numbers over eight devices as on one."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn
from jaxnet import curvature, per_example

LOSS = jn.losses.softmax_cross_entropy_with_integer_labels
NET = jn.tied(
    jn.embedding(8, 4),
    jn.chain(jn.position_table(3, 4), jn.rotary(), jn.sinusoidal(), jn.dense(4, 4), jn.tanh),
    jn.unembedding(8, 4),
)
# How the table lies on a mesh of 4 x 2 devices, whose rows are the batch.
LAYOUTS = {"whole": PartitionSpec(), "by rows": PartitionSpec("model")}


# Padding at either end of the table.
PADDED = jn.tied(jn.embedding(8, 4, padding=-1), *NET.made.args[1:])


@jax.jit
def everything(params, x, y):
    z, cache = PADDED.forward(params, x)
    dparams, _ = PADDED.backward(params, cache, LOSS.backward(z, y))
    of_rows = dparams[0].W.forms[0]
    optimizer = jn.optimizers.kfac(PADDED, LOSS, 0.1)
    _, grads = jn.value_and_grad(PADDED, LOSS)(params, x, y)
    step, _ = optimizer.update(grads, optimizer.init(params), params, x=x, y=y)
    return {
        "gradient": grads,
        "each": per_example.each(dparams),
        "norms": per_example.norms(dparams),
        "clipped": per_example.clipped_mean(dparams, 0.5),
        "second moment": per_example.second_moment(dparams),
        "dot": per_example.dot(dparams, params),
        "gram": per_example.gram(dparams),
        "gram of rows": of_rows.inner(of_rows),
        "squares of rows": of_rows.square_total(None),
        "factors of rows": of_rows.kronecker_factors(jnp.ones(8)),
        "ggn_diagonal": curvature.ggn_diagonal(PADDED, LOSS, params, x, y),
        "step": step,
    }


@cache
def on_one_device():
    """What is asked, and the answers; with 64-bit types enabled."""
    key = jax.random.key(2026)
    x = jax.random.randint(key, (8, 3), -1, 9)
    y = jnp.roll(jnp.clip(x, 0, 7), 1, axis=0)
    alone = jax.device_get((NET.init(key), jnp.where(x == 8, -1, x), y))
    with jax.set_mesh(jax.make_mesh((1,), ("one",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])):
        return alone, jax.device_get(everything(*alone))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_everything_is_that_of_one_device(kind, layout, x64):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)
    alone, expected = on_one_device()
    with jax.set_mesh(mesh):
        (table, body), *batch = alone
        whole, rows = (NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec("data")))
        table = jax.device_put(table, NamedSharding(mesh, LAYOUTS[layout]))
        sharded = (table, jax.device_put(body, whole)), *jax.device_put(batch, rows)
        actual = everything(*sharded)
    if kind == AxisType.Explicit:
        assert actual["gradient"][0].W.sharding.is_equivalent_to(table.W.sharding, 2)
    for name, value in expected.items():
        for ours, theirs in zip(jax.tree.leaves(jax.device_get(actual[name])), jax.tree.leaves(value), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.abs(theirs).max(), err_msg=name)
