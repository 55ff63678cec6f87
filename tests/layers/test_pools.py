from functools import cache, partial
from pathlib import Path

import drawn
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
# One of each kind is asked by itself, with its second derivative; the others beside those of the same positions.
ALONE = ["max_pool, windows that tile", "avg_pool, windows that tile", "global_mean", "global_max"]
BESIDE = {positions: [name for name in POOLS if POOLS[name][1] == positions] for _, positions in POOLS.values()}
NETWORKS = {
    "in a chain": jn.chain(
        jn.dense(2, 3),
        jn.tanh,
        jn.max_pool((2, 2)),
        jn.dense(3, 3),
        jn.avg_pool((2, 1), stride=1),
        jn.tanh,
        jn.fan_out(jn.global_mean, jn.global_max),
        jn.dense(3, 2),
    ),
    "repeated": jn.chain(
        jn.repeat(jn.residual(jn.chain(jn.dense(2, 2), jn.max_pool((3, 3), stride=1, padding="SAME"))), 2),
        jn.recompute(jn.chain(jn.avg_pool((2, 2)), jn.dense(2, 2))),
    ),
}


@partial(jax.jit, static_argnums=0)
def there_and_back(layer, x, dy):
    y, cache = layer.forward((), x)
    return y, layer.backward((), cache, dy)[1]


def example(name, examples=3, channels=2):
    layer, positions = POOLS[name]
    rng = np.random.default_rng(7)
    x = jnp.asarray(rng.standard_normal((examples, *positions, channels)), jnp.float32)
    y = jax.eval_shape(layer.apply, (), x)
    return layer, x, jnp.asarray(rng.standard_normal(y.shape), jnp.float32)


def by_xla(layer, x):
    """The largest numbers by reduce_window, whose derivative is select-and-scatter."""
    options = layer.forward.keywords if layer is not jn.global_max else {"window": x.shape[1:-1]}
    window, padding = options["window"], options.get("padding", "VALID")
    padding = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
    stride = options.get("stride", window)
    y = lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *stride, 1), padding)
    return y.reshape(y.shape[0], y.shape[-1]) if layer is jn.global_max else y


def of_every_pool(function, names=tuple(POOLS)):
    """`(arrays of each pool) -> function of each`, in one program."""
    return jax.jit(lambda arrays: {name: function(POOLS[name][0], *arrays[name]) for name in names})


def examples(names=tuple(POOLS), **sizes):
    """Of each pool x and dy."""
    return {name: example(name, **sizes)[1:] for name in names}


@pytest.mark.parametrize("name", ALONE)
def test_backward_equals_autodiff(name, key):
    layer, x, _ = example(name)
    jn.testing.check_layer(layer, x, key)


@pytest.mark.parametrize("positions", [positions for positions, names in BESIDE.items() if set(names) - set(ALONE)])
def test_beside_one_another_backward_equals_autodiff(positions, key):
    net = jn.branches(*(POOLS[name][0] for name in BESIDE[positions] if name not in ALONE))
    jn.testing.check_layer(net, drawn.normal(3, *positions, 2), key)


def test_forward_and_gradient_are_pytorchs(x64):
    names = [name for name in POOLS if f"{name}/x" in TORCH]
    arrays = {name: [jnp.asarray(TORCH[f"{name}/{part}"]) for part in ("x", "dy")] for name in names}
    for name, actual in of_every_pool(there_and_back, names)(arrays).items():
        for part, ours in zip(("y", "dx"), actual, strict=True):
            np.testing.assert_allclose(ours, TORCH[f"{name}/{part}"], rtol=1e-10, atol=1e-10, err_msg=name)


def by_hand_and_xla(layer, x, dy):
    """y and dx by hand and of reduce_window; and dx by autodiff of what is written by hand."""
    y, pullback = jax.vjp(lambda x: by_xla(layer, x), x)
    through_autodiff = jax.vjp(lambda x: layer.apply((), x), x)[1](dy)
    return there_and_back(layer, x, dy), (y, *pullback(dy)), *through_autodiff


def test_at_ties_what_comes_back_goes_where_xla_sends_it():
    """To one place alone, also by autodiff of what is written by hand."""
    # Three values for all numbers: ties in every window.
    tied = {name: (jnp.round(jnp.clip(x, -1, 1)) + 0.0, dy) for name, (x, dy) in examples(LARGEST).items()}
    for name, ((ours, dx), (y, expected), through_autodiff) in of_every_pool(by_hand_and_xla, LARGEST)(tied).items():
        np.testing.assert_array_equal(ours, y, err_msg=name)
        for actual in (dx, through_autodiff):
            # Sums of a few where windows overlap.
            np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6, err_msg=name)


def test_numbers_that_are_all_equal_send_it_to_the_first():
    equal = jax.tree.map(jnp.ones_like, examples(LARGEST))
    for name, ((_, dx), (_, expected), _) in of_every_pool(by_hand_and_xla, LARGEST)(equal).items():
        np.testing.assert_array_equal(dx, expected, err_msg=name)


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

    def pairs(x):
        for make, plain in ((jn.max_pool, largest), (jn.avg_pool, mean)):
            y, pullback = jax.vjp(plain, x)
            dy = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
            yield there_and_back(make(window, stride=stride, padding=padding), x, dy), (y, *pullback(dy))

    for actual, expected in jax.jit(lambda x: list(pairs(x)))(x):
        for ours, theirs in zip(actual, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_nan_stays_and_infinities_count_as_numbers():
    ask, arrays = of_every_pool(by_hand_and_xla, LARGEST), examples(LARGEST)
    for value in (jnp.nan, -jnp.inf, jnp.inf):
        first = {name: np.eye(len(x))[0].reshape(-1, *(1,) * (x.ndim - 1)) for name, (x, _) in arrays.items()}
        given = {name: (jnp.asarray(np.where(first[name], value, x), x.dtype), dy) for name, (x, dy) in arrays.items()}
        for name, ((y, dx), (expected, _), _) in ask(given).items():
            np.testing.assert_array_equal(y, expected, err_msg=name)
            assert np.isfinite(dx).all(), name


def test_windows_of_many_positions_keep_their_places():
    """More than a byte counts: 289 positions."""
    layer = jn.max_pool((17, 17))
    x = jnp.zeros((1, 17, 17, 1)).at[0, 16, 15, 0].set(1.0)
    _, dx = there_and_back(layer, x, jnp.ones((1, 1, 1, 1)))
    np.testing.assert_array_equal(dx, x)
    (place, _) = jax.eval_shape(layer.forward, (), x)[1]
    assert place.dtype == jnp.int32


@every_pool
def test_a_byte_for_each_output_is_kept_or_nothing(name):
    layer, positions = POOLS[name]
    y, cache = jax.eval_shape(layer.forward, (), jax.ShapeDtypeStruct((3, *positions, 2), np.float32))
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))
    assert kept == {"max_pool": y.size, "global_max": 4 * y.size}.get(name.split(",")[0], 0)


@pytest.mark.parametrize("name", ["avg_pool, windows that tile", "avg_pool, windows that overlap", "global_mean"])
def test_means_in_bfloat16_are_rounded_once(name):
    layer, x, _ = example(name)
    x = (100 + x).astype(jnp.bfloat16)
    y = layer.apply((), x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, layer.apply((), x.astype(jnp.float32)).astype(jnp.bfloat16))


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_backward_equals_autodiff_inside_networks(net, key):
    jn.testing.check_layer(net, drawn.normal(3, 4, 4, 2), key, short_types=("float32",))


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_readings_go_through_them(net, x64):
    assert_readings_are_autodiffs(net, drawn.normal(4, 4, 4, 2))


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_the_hessians_diagonal_goes_through_them(net, x64):
    loss, params = jn.losses.half_squared_error, drawn.parameters(net)
    x = drawn.normal(3, 4, 4, 2)
    y = drawn.normal(*jax.eval_shape(net.apply, params, x).shape, seed=1)
    flat, unravel = ravel_pytree(params)

    def mean_loss(flat):
        losses = loss.forward(net.apply(unravel(flat), x), y)
        return losses.sum() / len(x)

    @jax.jit
    def both(flat):
        by_hand = jn.curvature.hessian_diagonal(net, loss, unravel(flat), x, y)
        return ravel_pytree(by_hand)[0], jnp.diagonal(jax.hessian(mean_loss)(flat))

    actual, expected = both(flat)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def test_mixed_precision_rounds_to_the_short_type():
    def both(layer, x, dy):
        return there_and_back(jn.mixed_precision(layer), x, dy), there_and_back(layer, x, dy)

    for name, (actual, expected) in of_every_pool(both)(examples()).items():
        np.testing.assert_allclose(actual[0], expected[0], atol=2**-7, err_msg=name)
        assert actual[1].dtype == jnp.float32, name


def with_columns(layer, x, dy):
    """With columns behind one forward pass, as curvature sends them."""
    _, kept = layer.forward((), x)
    columns = jax.vmap(lambda dy: layer.backward((), kept, dy)[1])(jnp.stack([dy, 2 * dy]))
    return *there_and_back(layer, x, dy), columns


@cache
def on_one_device():
    arrays = examples(examples=8)
    return jax.device_get((arrays, of_every_pool(with_columns)(arrays)))


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("channels", [None, "model"], ids=["channels everywhere", "channels spread"])
def test_over_devices_it_is_what_it_is_on_one(channels, axis_type):
    arrays, expected = on_one_device()
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    with jax.set_mesh(mesh):

        def over_devices(array):
            spec = PartitionSpec("data", *(None,) * (array.ndim - 2), channels)
            return jax.device_put(array, NamedSharding(mesh, spec))

        spread = jax.tree.map(over_devices, arrays)
        actual = of_every_pool(with_columns)(spread)
    for name, (y, dx, columns) in actual.items():
        if axis_type == AxisType.Explicit:
            assert dx.sharding.is_equivalent_to(spread[name][0].sharding, dx.ndim), name
        for ours, theirs in zip((y, dx, columns), expected[name], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6, err_msg=name)


def test_they_are_exported_for_cpu_cuda_and_tpu():
    (m,) = export.symbolic_shape("m")
    arrays = examples()
    like = jax.tree.map(lambda array: jax.ShapeDtypeStruct((m, *array.shape[1:]), np.float32), arrays)
    both = of_every_pool(there_and_back)
    exported = export.export(both, platforms=["cpu", "cuda", "tpu"])(like)
    expected = both(arrays)
    for name, actual in export.deserialize(exported.serialize()).call(arrays).items():
        for ours, theirs in zip(actual, expected[name], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6, err_msg=name)


def test_backward_of_windows_that_tile_is_one_comparison_without_a_scatter():
    layer, x, dy = example("max_pool, windows that tile")
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
def test_a_wrong_cotangent_is_named(name):
    layer, positions = POOLS[name]
    y, cache = jax.eval_shape(layer.forward, (), jax.ShapeDtypeStruct((3, *positions, 2), np.float32))
    where = name.split(",")[0]
    where += f"({layer.forward.keywords['window']})" if "pool" in where else ""
    with pytest.raises(ValueError) as error:
        jax.eval_shape(partial(layer.backward, ()), cache, jax.ShapeDtypeStruct((*y.shape[:-1], 1), y.dtype))
    assert str(error.value) == f"{where}: expected dy of shape {y.shape}, that of y, got {(*y.shape[:-1], 1)}"
