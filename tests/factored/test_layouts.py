"""Sums and pairs of forms over devices: the numbers of one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn
from jaxnet import per_example

EXAMPLES = 8


def readings(dz, a, g, sharding=None):
    outer, each = jn.Outer(dz, a, sharding), jn.Each(g, ndim=2)
    both = outer.add(each)
    formed = per_example.formed(both)
    return {
        "total": both.total(None),
        "norms": both.norms(1e-3),
        "pairs": (outer.paired(each), each.paired(outer), outer.paired(outer), both.paired(outer)),
        "gram": both.inner(both),
        "clipped": per_example.clipped_mean(both, 3.0),
        "formed": (formed.total(None), formed.norms(), per_example.variance(both)),
    }


@pytest.mark.parametrize("positions", [2, 9], ids=["few positions", "many positions"])
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("weights", [PartitionSpec(None, None), PartitionSpec("model", None)], ids=["whole", "spread"])
def test_over_devices_the_numbers_are_the_same(weights, axis_type, positions, x64):
    rng = np.random.default_rng(0)
    shapes = ((EXAMPLES, positions, 6), (EXAMPLES, positions, 4), (EXAMPLES, positions, 6, 4))
    alone = [rng.standard_normal(shape) for shape in shapes]
    expected = jax.device_get(jax.jit(readings)(*map(jnp.asarray, alone)))
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    with jax.set_mesh(mesh):
        of_outputs, _ = weights
        spread = ((None, of_outputs), (None, None), (None, of_outputs, None))
        arrays = [
            jax.device_put(array, NamedSharding(mesh, PartitionSpec("data", *axes)))
            for array, axes in zip(alone, spread, strict=True)
        ]
        sharding = NamedSharding(mesh, weights) if axis_type == AxisType.Explicit else None
        actual = jax.device_get(jax.jit(lambda *arrays: readings(*arrays, sharding))(*arrays))
    for ours, theirs in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
