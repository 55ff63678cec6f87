from functools import partial
from pathlib import Path

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_reading import assert_readings_are_autodiffs
from hypothesis import given, settings
from jax import export, lax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn

messages = pytest.mark.usefixtures("without_shape_annotations")
TORCH = np.load(Path(__file__).with_name("torch_values.npz"))
EDGES = {"stride": (2, 1), "padding": ((1, 1), (0, 0))}
# name: the layer, and the positions of an example
POOLS = {
    "max_pool, windows that tile": (jn.max_pool((2, 3)), (7, 6)),
    "max_pool, windows that overlap": (jn.max_pool((3, 2), **EDGES), (7, 6)),
    "max_pool, one axis": (jn.max_pool((3,), stride=2), (8,)),
    "max_pool, three axes": (jn.max_pool((2, 2, 2)), (4, 3, 2)),
    "max_pool, gaps": (jn.max_pool((2,), stride=3), (9,)),
    "max_pool, padded tiles": (jn.max_pool((3, 2), padding=((2, 1), (0, 1))), (5, 5)),
    "max_pool, as many": (jn.max_pool((3, 2), stride=2, padding="SAME"), (5, 4)),
    "avg_pool, windows that tile": (jn.avg_pool((2, 3)), (7, 6)),
    "avg_pool, windows that overlap": (jn.avg_pool((3, 2), **EDGES), (7, 6)),
    "avg_pool, one axis": (jn.avg_pool((3,), stride=2), (8,)),
    "avg_pool, gaps": (jn.avg_pool((2,), stride=3), (9,)),
    "avg_pool, padded tiles": (jn.avg_pool((3, 2), padding=((2, 1), (0, 1))), (5, 5)),
    "avg_pool, as many": (jn.avg_pool((3, 2), stride=2, padding="SAME"), (5, 4)),
    "global_mean": (jn.global_mean, (4, 5)),
    "global_max": (jn.global_max, (4, 5)),
}
every_pool = pytest.mark.parametrize("name", POOLS)
LARGEST = [name for name in POOLS if "max" in name]
NETWORKS = {
    "tiles": jn.chain(
        jn.dense(2, 3), jn.tanh, jn.max_pool((2, 2)), jn.dense(3, 3), jn.tanh, jn.global_mean, jn.dense(3, 2)
    ),
    "overlapping": jn.chain(jn.dense(2, 3), jn.tanh, jn.avg_pool((3, 2), stride=1), jn.dense(3, 3), jn.global_max),
    "repeated": jn.chain(
        jn.repeat(jn.residual(jn.chain(jn.dense(2, 2), jn.max_pool((3, 3), stride=1, padding="SAME"))), 2),
        jn.recompute(jn.chain(jn.avg_pool((2, 2)), jn.dense(2, 2))),
    ),
}


@partial(jax.jit, static_argnums=0)
def there_and_back(layer, x, dy):
    y, cache = layer.forward((), x)
    return y, layer.backward((), cache, dy)[1]


def example(name, key, examples=3, channels=2):
    layer, positions = POOLS[name]
    x = jax.random.normal(key, (examples, *positions, channels))
    return layer, x, jnp.cos(7 * layer.apply((), x))


def by_xla(layer, x):
    """The largest numbers by reduce_window, whose derivative is select-and-scatter."""
    options = layer.forward.keywords if layer is not jn.global_max else {"window": x.shape[1:-1]}
    window, padding = options["window"], options.get("padding", "VALID")
    padding = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
    stride = options.get("stride", window)
    y = lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *stride, 1), padding)
    return y.reshape(y.shape[0], y.shape[-1]) if layer is jn.global_max else y


@every_pool
def test_backward_equals_autodiff(name, key):
    layer, x, _ = example(name, key)
    jn.testing.check_layer(layer, x, key)


@pytest.mark.parametrize("name", [name for name in POOLS if f"{name}/x" in TORCH])
def test_forward_and_gradient_are_pytorchs(name, x64):
    layer, _ = POOLS[name]
    x, y, dy, dx = (jnp.asarray(TORCH[f"{name}/{part}"]) for part in ("x", "y", "dy", "dx"))
    for ours, theirs in zip(there_and_back(layer, x, dy), (y, dx), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", LARGEST)
def test_at_ties_what_comes_back_goes_where_xla_sends_it(name, key):
    """To one place alone, also by autodiff of what is written by hand."""
    layer, positions = POOLS[name]
    # Three values for all numbers: ties in every window.
    x = jax.random.randint(key, (3, *positions, 2), -1, 2).astype(jnp.float32)
    y, pullback = jax.vjp(lambda x: by_xla(layer, x), x)
    dy = jax.random.normal(key, y.shape)
    ours, dx = there_and_back(layer, x, dy)
    (expected,) = pullback(dy)
    (through_autodiff,) = jax.jit(lambda x, dy: jax.vjp(lambda x: layer.apply((), x), x)[1](dy))(x, dy)
    np.testing.assert_array_equal(ours, y)
    for actual in (dx, through_autodiff):
        # Sums of a few where windows overlap.
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LARGEST)
def test_numbers_that_are_all_equal_send_it_to_the_first(name):
    layer, positions = POOLS[name]
    x = jnp.ones((1, *positions, 1))
    y, cache = layer.forward((), x)
    _, dx = layer.backward((), cache, jnp.ones_like(y))
    (expected,) = jax.vjp(lambda x: by_xla(layer, x), x)[1](jnp.ones_like(y))
    np.testing.assert_array_equal(dx, expected)


@given(data=st.data())
@settings(max_examples=12)
def test_any_window_stride_and_padding_is_as_xla_has_it(data):
    window = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    stride = [data.draw(st.integers(1, 4)) for _ in window]
    pads = [tuple(data.draw(st.integers(0, size - 1)) for _ in "ab") for size in window]
    padding = data.draw(st.sampled_from(["VALID", "SAME", tuple(pads)]))
    positions = [data.draw(st.integers(size, 6)) for size in window]
    x = jnp.asarray(np.random.default_rng(len(pads)).integers(-2, 3, (2, *positions, 2)), jnp.float32)
    for_xla = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))

    def windows(x, init, of_two):
        return lax.reduce_window(x, init, of_two, (1, *window, 1), (1, *stride, 1), for_xla)

    def largest(x):
        return windows(x, -jnp.inf, lax.max)

    def mean(x):
        return windows(x, 0.0, lax.add) / windows(jnp.ones_like(x), 0.0, lax.add)

    for make, plain in ((jn.max_pool, largest), (jn.avg_pool, mean)):
        y, pullback = jax.vjp(plain, x)
        dy = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
        actual = there_and_back(make(window, stride=stride, padding=padding), x, dy)
        for ours, theirs in zip(actual, (y, *pullback(dy)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LARGEST)
@pytest.mark.parametrize("value", [jnp.nan, -jnp.inf, jnp.inf])
def test_nan_stays_and_infinities_count_as_numbers(name, value, key):
    layer, x, dy = example(name, key)
    x = x.at[0].set(value)
    y, dx = there_and_back(layer, x, dy)
    np.testing.assert_array_equal(y, by_xla(layer, x))
    assert jnp.isfinite(dx).all()


def test_windows_of_many_positions_keep_their_places(key):
    """More than a byte counts: 289 positions."""
    layer = jn.max_pool((17, 17))
    x = jnp.zeros((1, 17, 17, 1)).at[0, 16, 15, 0].set(1.0)
    _, dx = there_and_back(layer, x, jnp.ones((1, 1, 1, 1)))
    np.testing.assert_array_equal(dx, x)
    (place, _) = jax.eval_shape(layer.forward, (), x)[1]
    assert place.dtype == jnp.int32


@every_pool
def test_a_byte_for_each_output_is_kept_or_nothing(name, key):
    layer, x, dy = example(name, key)
    _, cache = layer.forward((), x)
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(cache))
    assert kept == {"max_pool": dy.size, "global_max": 4 * dy.size}.get(name.split(",")[0], 0)


@pytest.mark.parametrize("name", ["avg_pool, windows that tile", "avg_pool, windows that overlap", "global_mean"])
def test_means_in_bfloat16_are_rounded_once(name, key):
    layer, x, _ = example(name, key)
    x = (100 + x).astype(jnp.bfloat16)
    y = layer.apply((), x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, layer.apply((), x.astype(jnp.float32)).astype(jnp.bfloat16))


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_backward_equals_autodiff_inside_networks(net, key):
    jn.testing.check_layer(net, jax.random.normal(key, (3, 4, 4, 2)), key)


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_readings_go_through_them(net, x64, key):
    assert_readings_are_autodiffs(net, jax.random.normal(key, (4, 4, 4, 2)), key)


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_the_hessians_diagonal_goes_through_them(net, x64, key):
    loss, params = jn.losses.half_squared_error, net.init(key)
    x = jax.random.normal(key, (3, 4, 4, 2))
    y = jnp.cos(net.apply(params, x))
    flat, unravel = ravel_pytree(params)

    def mean_loss(flat):
        losses = loss.forward(net.apply(unravel(flat), x), y)
        return losses.sum() / len(x)

    expected = jnp.diagonal(jax.jit(jax.hessian(mean_loss))(flat))
    diagonal = jax.jit(lambda *arguments: jn.curvature.hessian_diagonal(net, loss, *arguments))
    actual, _ = ravel_pytree(diagonal(params, x, y))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-11 * float(jnp.abs(expected).max()))


@every_pool
def test_mixed_precision_rounds_to_the_short_type(name, key):
    layer, x, dy = example(name, key)
    actual, expected = there_and_back(jn.mixed_precision(layer), x, dy), there_and_back(layer, x, dy)
    np.testing.assert_allclose(actual[0], expected[0], atol=2**-7)
    assert actual[1].dtype == x.dtype


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("channels", [None, "model"], ids=["channels everywhere", "channels spread"])
@every_pool
def test_over_devices_it_is_what_it_is_on_one(name, channels, axis_type, key):
    layer, x, dy = example(name, key, examples=8)

    def both(x, dy):
        _, cache = layer.forward((), x)
        columns = jax.vmap(lambda dy: layer.backward((), cache, dy)[1])(jnp.stack([dy, 2 * dy]))
        return there_and_back(layer, x, dy), columns

    expected = jax.jit(both)(x, dy)
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    with jax.set_mesh(mesh):
        of_x, of_dy = (
            NamedSharding(mesh, PartitionSpec("data", *(None,) * (array.ndim - 2), channels)) for array in (x, dy)
        )
        (y, dx), columns = jax.jit(both)(jax.device_put(x, of_x), jax.device_put(dy, of_dy))
        if axis_type == AxisType.Explicit:
            assert dx.sharding.is_equivalent_to(of_x, x.ndim)
    for ours, theirs in zip((y, dx, columns), (*expected[0], expected[1]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@every_pool
def test_it_is_exported_for_cpu_cuda_and_tpu(name, key):
    layer, x, dy = example(name, key)
    (m,) = export.symbolic_shape("m")
    like = [jax.ShapeDtypeStruct((m, *array.shape[1:]), np.float32) for array in (x, dy)]
    both = jax.jit(lambda x, dy: there_and_back(layer, x, dy))
    exported = export.export(both, platforms=["cpu", "cuda", "tpu"])(*like)
    for ours, theirs in zip(export.deserialize(exported.serialize()).call(x, dy), both(x, dy), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_backward_of_windows_that_tile_is_one_comparison_without_a_scatter(key):
    layer, x, dy = example("max_pool, windows that tile", key)
    text = jax.jit(lambda x, dy: there_and_back(layer, x, dy)).lower(x, dy).as_text()
    assert "scatter" not in text
    assert "reduce_window" not in text
    _, cache = layer.forward((), x)
    back = jax.jit(lambda cache, dy: layer.backward((), cache, dy)[1]).lower(cache, dy).as_text()
    assert back.count("stablehlo.compare") == 1


def test_they_print_as_they_were_made():
    net = jn.chain(jn.max_pool((2, 2)), jn.avg_pool([3, 3], stride=2, padding="SAME"), jn.global_max)
    assert repr(net) == (
        "chain(max_pool(window=(2, 2)), avg_pool(window=(3, 3), stride=(2, 2), padding='SAME'), global_max)"
    )


WINDOW = "expected window to be positive lengths, such as (2, 2), got"
STRIDE = "expected stride to be a positive integer or 2 of them, got"
PADDING = "expected padding to be 'VALID', 'SAME' or 2 pairs (before, after), each less than the window, got"


@messages
@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
@pytest.mark.parametrize(
    ("window", "options", "message"),
    [
        (2, {}, f"{WINDOW} 2"),
        ((2, 0), {}, f"{WINDOW} (2, 0)"),
        ((), {}, f"{WINDOW} ()"),
        ((2, 2), {"stride": 0}, f"{STRIDE} 0"),
        ((2, 2), {"stride": (1, 2, 3)}, f"{STRIDE} (1, 2, 3)"),
        ((2, 2), {"stride": 1.5}, f"{STRIDE} 1.5"),
        ((2, 2), {"padding": "FULL"}, f"{PADDING} 'FULL'"),
        ((2, 2), {"padding": 1}, f"{PADDING} 1"),
        ((2, 2), {"padding": ((1, 1),)}, f"{PADDING} ((1, 1),)"),
        ((2, 2), {"padding": ((1, 1), (2, 0))}, f"{PADDING} ((1, 1), (2, 0))"),
    ],
)
def test_a_wrong_argument_is_named(name, window, options, message):
    with pytest.raises(ValueError) as error:
        getattr(jn, name)(window, **options)
    assert str(error.value) == f"{name}: {message}"


@messages
@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((2, 4, 3), np.float32), "expected x (m, positions, channels) with 2 axes of positions, got (2, 4, 3)"),
        (
            np.ones((2, 4, 1, 3), np.float32),
            "expected at least as many positions as a window has, got x of shape (2, 4, 1, 3)",
        ),
        (np.ones((2, 4, 4, 3), np.int32), "expected x of a floating-point type, got int32; convert it with x.astype"),
    ],
    ids=["axes", "positions", "integers"],
)
def test_a_wrong_input_is_named(name, x, message):
    with pytest.raises(ValueError) as error:
        getattr(jn, name)((2, 2)).forward((), x)
    assert str(error.value) == f"{name}((2, 2)): {message}"


@messages
@pytest.mark.parametrize("name", ["global_max", "global_mean"])
def test_an_input_without_positions_is_named(name):
    for shape in ((4, 3), (4, 0, 3)):
        with pytest.raises(ValueError) as error:
            getattr(jn, name).forward((), jnp.ones(shape))
        assert str(error.value) == (
            f"{name}: expected x (m, positions, channels) with at least one position, got {shape}"
        )


@messages
@every_pool
def test_a_wrong_cotangent_is_named(name, key):
    layer, x, dy = example(name, key)
    _, cache = layer.forward((), x)
    where = name.split(",")[0]
    where += f"({layer.forward.keywords['window']})" if "pool" in where else ""
    with pytest.raises(ValueError) as error:
        layer.backward((), cache, dy[..., :1])
    assert str(error.value) == f"{where}: expected dy of shape {dy.shape}, that of y, got {dy[..., :1].shape}"
