"""Sums over the first axis: the numbers of NumPy, whichever way, and no copy of what is added."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxnet.factored.sums import WIDE, sum_of_outer_products, sum_over_first

SHAPES = {"narrow": (WIDE // 32 - 1, 32), "wide": (WIDE // 32, 32)}
every_width = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def drawn(shape, examples=6):
    rng = np.random.default_rng(0)
    return rng.standard_normal((examples, *shape)), rng.standard_normal(examples)


@every_width
def test_sums_are_those_of_numpy(shape, x64):
    signal, weights = drawn(shape)
    weights[2] = 0
    # Six products and sums round at 1.1e-16 of terms below 4.
    np.testing.assert_allclose(jax.jit(sum_over_first)(signal, weights), np.tensordot(weights, signal, 1), atol=1e-14)
    np.testing.assert_allclose(jax.jit(sum_over_first)(signal), signal.sum(0), atol=1e-14)


@every_width
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_short_types_are_added_in_float32_and_rounded_once(shape, dtype):
    signal = jnp.asarray(drawn(shape, examples=256)[0], dtype)
    total = jax.jit(sum_over_first)(signal)
    assert total.dtype == dtype
    exact = np.asarray(signal, np.float64).sum(0)
    # Half a unit in the last place of the sum; in the short type 256 steps would leave tens of them.
    unit = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(total, np.float64), exact, rtol=unit, atol=1e-4)


def test_weights_of_what_is_wide_are_not_rounded_to_a_short_type():
    signal = jnp.ones((2, WIDE), "bfloat16") * jnp.array([[1], [-1]], "bfloat16")
    # 1 + 2^-12 is 1 in bfloat16.
    total = jax.jit(sum_over_first)(signal, jnp.array([1 + 2**-12, 1], "float32"))
    assert (total == 2**-12).all()


def test_of_what_is_wide_the_compiled_program_keeps_no_copy():
    signal = jax.ShapeDtypeStruct((32, 256, 256), "float32")
    weights = jax.ShapeDtypeStruct((32,), "float32")
    memory = jax.jit(sum_over_first).lower(signal, weights).compile().memory_analysis()
    # `(weights[:, None, None] * signal).sum(0)` has 32 of the sum's size.
    assert memory.temp_size_in_bytes <= memory.output_size_in_bytes


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("spec", [("data", None, None), ("data", "model", None), (None, None, "model")], ids=str)
@every_width
def test_over_devices_sums_are_those_of_one(shape, spec, axis_type, x64):
    rows, columns = shape
    signal, weights = drawn((rows + rows % 2, columns), examples=8)
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    with jax.set_mesh(mesh):
        over = jax.device_put(signal, NamedSharding(mesh, PartitionSpec(*spec)))
        of_weights = jax.device_put(weights, NamedSharding(mesh, PartitionSpec(spec[0])))
        total = jax.jit(sum_over_first)(over, of_weights)
        if axis_type == AxisType.Explicit:
            assert tuple(total.sharding.spec) == spec[1:]
        np.testing.assert_allclose(jax.device_get(total), np.tensordot(weights, signal, 1), atol=1e-14)


def test_outer_products_of_examples_and_positions_are_one_product_of_matrices():
    shapes = jax.ShapeDtypeStruct((4, 5, 3), "float32"), jax.ShapeDtypeStruct((4, 5, 2), "float32")
    program = jax.make_jaxpr(sum_of_outer_products)(*shapes).jaxpr
    (product,) = [equation for equation in program.eqns if equation.primitive.name == "dot_general"]
    assert [operand.aval.shape for operand in product.invars] == [(20, 3), (20, 2)]


def test_any_number_of_examples_is_exported():
    (m,) = jax.export.symbolic_shape("m")
    signal = jax.ShapeDtypeStruct((m, *SHAPES["wide"]), "float32")
    uses = jax.ShapeDtypeStruct((3, m, 4), "float32")
    exported = jax.export.export(jax.jit(lambda signal, uses: (sum_over_first(signal), sum_over_first(uses))))
    total, of_uses = exported(signal, uses).call(jnp.ones((4, *SHAPES["wide"])), jnp.ones((3, 4, 4)))
    assert (float(total.max()), float(of_uses.min())) == (4, 3)


@pytest.mark.parametrize(("spread", "of_other"), [((None, "data"), ()), (("data", "model"), ("data",))], ids=str)
def test_outer_products_are_summed_where_one_side_alone_is_spread_over_positions(spread, of_other):
    rng = np.random.default_rng(0)
    signals = rng.standard_normal((8, 4, 6)), rng.standard_normal((8, 4, 3))
    expected = np.einsum("mto,mti->oi", *signals)
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        whole = NamedSharding(mesh, PartitionSpec(None, None))
        over, other = (
            jax.device_put(signal.astype("float32"), NamedSharding(mesh, PartitionSpec(*spec)))
            for signal, spec in zip(signals, (spread, of_other), strict=True)
        )
        for pair, of_pair in (((over, other), expected), ((other, over), expected.T)):
            total = jax.jit(lambda left, right: sum_of_outer_products(left, right, out_sharding=whole))(*pair)
            np.testing.assert_allclose(jax.device_get(total), of_pair, atol=1e-5)
