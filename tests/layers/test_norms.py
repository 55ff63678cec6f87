from functools import cache
from pathlib import Path

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_reading import assert_readings_are_autodiffs
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn

messages = pytest.mark.usefixtures("without_shape_annotations")
TORCH = np.load(Path(__file__).with_name("torch_values.npz"))
# name: the layer, for 6 features, and the shape of an example
NORMS = {
    "layer_norm": (jn.layer_norm(6), (2, 6)),
    "rms_norm": (jn.rms_norm(6), (2, 6)),
    "group_norm": (jn.group_norm(3, 6), (2, 3, 6)),
    "instance_norm": (jn.instance_norm(6), (2, 3, 6)),
}
every_norm = pytest.mark.parametrize("name", NORMS)
# Beside one another, each with parameters of its own: the layers, and the shape of an example.
BESIDE = {
    "without positions": (jn.branches(jn.layer_norm(6), jn.rms_norm(6), jn.group_norm(2, 6)), (6,)),
    "another epsilon, and one group": (
        jn.branches(
            jn.layer_norm(4, epsilon=0.5),
            jn.rms_norm(4, epsilon=0.5),
            jn.group_norm(2, 4, epsilon=0.5),
            jn.instance_norm(4, epsilon=0.5),
            jn.group_norm(1, 4),
        ),
        (3, 4),
    ),
    "without a bias": (
        jn.branches(jn.layer_norm(4, bias=False), jn.group_norm(2, 4, bias=False), jn.instance_norm(4, bias=False)),
        (3, 4),
    ),
}
# For examples (2, 3, 6).
ADDED = jn.fan_out(*(layer for layer, _ in NORMS.values()))
INSIDE = {
    "alone": ADDED,
    "repeat": jn.repeat(jn.residual(jn.chain(ADDED, jn.dense(6, 6), jn.tanh)), 2),
    "repeat, recompute": jn.repeat(jn.recompute(jn.residual(jn.chain(ADDED, jn.dense(6, 6)))), 2),
}


def in_type(dtype, *trees):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), trees)


def forward_and_back(layer, params, x, dy):
    y, cache = layer.forward(params, x)
    dparams, dx = layer.backward(params, cache, dy)
    return y, dx, jn.per_example.total(dparams)


@jax.jit
def forward_and_back_of_all(arguments):
    """Of every norm, in one program."""
    return {name: forward_and_back(NORMS[name][0], *each) for name, each in arguments.items()}


def arguments_of_all(key, examples=4):
    """Of every norm its parameters, x and dy."""
    return {
        name: (layer.init(key), *(drawn.normal(examples, *shape, seed=seed) for seed in (0, 1)))
        for name, (layer, shape) in NORMS.items()
    }


@every_norm
def test_backward_equals_autodiff(name, key):
    layer, shape = NORMS[name]
    jn.testing.check_layer(layer, drawn.normal(3, *shape), key)


@pytest.mark.parametrize("name", BESIDE)
def test_beside_one_another_backward_equals_autodiff(name, key):
    layers, shape = BESIDE[name]
    jn.testing.check_layer(layers, drawn.normal(3, *shape), key)


@pytest.mark.parametrize("inside", ["repeat", "repeat, recompute"])
def test_backward_equals_autodiff_inside_combinators(inside, key):
    jn.testing.check_layer(INSIDE[inside], drawn.normal(3, 2, 3, 6), key, short_types=("float32",))


@pytest.mark.parametrize("inside", ["alone", "repeat"])
def test_every_reading_and_the_ggn_diagonal_are_autodiffs(inside, x64):
    assert_readings_are_autodiffs(INSIDE[inside], drawn.normal(4, 2, 3, 6))


def test_forward_and_gradients_are_pytorchs(x64, key):
    arguments, expected = {}, {}
    for name, (layer, _) in NORMS.items():
        x, y, dy, dx, *weight = (TORCH[f"{name}/{part}"] for part in ("x", "y", "dy", "dx", "weight", "dweight"))
        bias = [] if name == "rms_norm" else [TORCH[f"{name}/{part}"] for part in ("bias", "dbias")]
        params, dparams = (jax.tree.structure(layer.init(key)).unflatten([weight[k], *bias[k : k + 1]]) for k in (0, 1))
        arguments[name], expected[name] = jax.tree.map(jnp.asarray, (params, x, dy)), (y, dx, dparams)
    actual = forward_and_back_of_all(arguments)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


@every_norm
def test_the_gradients_that_wait_for_a_reading_have_no_positions(name, key):
    layer, shape = NORMS[name]
    params, x = layer.init(key), drawn.normal(4, *shape)
    dparams = jax.eval_shape(lambda params, x: layer.backward(params, layer.forward(params, x)[1], x)[0], params, x)
    assert [leaf.g.shape for leaf in dparams] == [(4, 6)] * len(params)


@every_norm
def test_what_is_kept_is_one_array_of_the_inputs_type_and_a_number_for_each_group(name, key):
    layer, shape = NORMS[name]
    params, x = in_type(jnp.bfloat16, layer.init(key), drawn.normal(4, *shape))
    _, (normed, scale) = jax.eval_shape(layer.forward, params, x)
    assert (normed.shape, normed.dtype, scale.dtype) == (x.shape, jnp.bfloat16, jnp.float32)
    assert scale.size == {"group_norm": 4 * 3, "instance_norm": 4 * 6}.get(name, 4 * 2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@every_norm
def test_equal_numbers_have_variance_zero_whatever_their_size(name, dtype, key):
    """A mean that is rounded leaves a difference: of ten thousands one that is far from 0 beside epsilon's root."""
    layer, shape = NORMS[name]
    (params, dy) = in_type(dtype, layer.init(key), drawn.normal(4, *shape))
    for value in (0.0, 0.1, 12345.6, 1e30):
        y, dx, _ = forward_and_back(layer, params, jnp.full((4, *shape), value, dtype), dy)
        assert jnp.isfinite(dx).all()
        if name == "rms_norm":
            scale = value / np.sqrt(float(value) ** 2 + 1e-5)
            np.testing.assert_allclose(in_type(float, y)[0], np.full(y.shape, scale), rtol=float(jnp.finfo(dtype).eps))
        else:
            np.testing.assert_array_equal(in_type(float, y)[0], np.zeros(y.shape))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_tiny_and_huge_inputs_keep_their_digits(dtype, key):
    """Against float64, in which no square overflows or vanishes."""
    for size in (1e-30, 1e-12, 1e-3, 1e12, 1e30):
        arguments = {
            name: tuple(in_type(dtype, params, size * x, dy)) for name, (params, x, dy) in arguments_of_all(key).items()
        }
        actual = forward_and_back_of_all(arguments)
        with jax.enable_x64(True):
            expected = forward_and_back_of_all(in_type(jnp.float64, arguments)[0])
        for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            assert ours.dtype == dtype
            error = np.abs(np.float64(ours) - np.asarray(theirs)).max() / np.abs(theirs).max()
            assert error < 16 * float(jnp.finfo(dtype).eps), size


@every_norm
def test_numbers_that_differ_little_keep_what_they_differ_by(name, key):
    """1000 and a little: the mean of what is above the least number, and not the mean, is subtracted."""
    layer, shape = NORMS[name]
    # Multiples of float32's last place at 1000, so that both are given the same.
    little = jnp.asarray(np.round(64 * np.asarray(drawn.normal(4, *shape))) / 2**13)
    params = layer.init(key)
    y, _ = layer.forward(params, 1000 + little)
    with jax.enable_x64(True):
        expected = jax.jit(layer.apply)(*in_type(jnp.float64, params, 1000 + in_type(jnp.float64, little)[0]))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", [jn.layer_norm, jn.rms_norm, lambda d: jn.group_norm(1, d)])
def test_statistics_of_many_bfloat16_numbers_are_taken_in_float32(make, key):
    """A sum of 4096 in bfloat16 ends at the 256th; here y errs by its own rounding alone, by half a unit."""
    layer = make(4096)
    x = (8 + jax.random.normal(key, (2, 4096))).astype(jnp.bfloat16)
    (params,) = in_type(jnp.bfloat16, layer.init(key))
    with jax.enable_x64(True):
        expected = layer.apply(*in_type(jnp.float64, params, x))
        y = layer.apply(params, x).astype(jnp.float64)
        np.testing.assert_allclose(y, expected, rtol=1.01 * 2**-8, atol=1e-5)


@pytest.mark.parametrize("make", [jn.layer_norm, jn.rms_norm, lambda d: jn.group_norm(1, d)])
def test_gradients_of_bfloat16_parameters_sum_many_positions_in_float32(make, key):
    layer = make(4)
    x = jnp.broadcast_to(jax.random.normal(key, (1, 1, 4)).astype(jnp.bfloat16), (1, 4096, 4))
    (params,) = in_type(jnp.bfloat16, layer.init(key))
    _, cache = layer.forward(params, x)
    dparams, _ = layer.backward(params, cache, jnp.ones_like(x))
    gradients = jn.per_example.total(dparams)
    assert {leaf.dtype for leaf in gradients} == {jnp.dtype(jnp.bfloat16)}
    expected = 4096 * cache[0][0, 0].astype(jnp.float32)
    np.testing.assert_allclose(gradients.gain.astype(jnp.float32), expected, rtol=2**-8)
    if make is not jn.rms_norm:
        np.testing.assert_array_equal(gradients.bias.astype(jnp.float32), jnp.full(4, 4096.0))


def test_mixed_precision_errs_as_the_short_type_does(key):
    arguments = arguments_of_all(key)
    expected = forward_and_back_of_all(arguments)
    actual = jax.jit(
        lambda arguments: {
            name: forward_and_back(jn.mixed_precision(NORMS[name][0]), *each) for name, each in arguments.items()
        }
    )(arguments)
    for ours, theirs in zip(*map(jax.tree.leaves, jax.device_get((actual, expected))), strict=True):
        assert ours.dtype == theirs.dtype
        assert 1e-4 < np.abs(ours - theirs).max() / np.abs(theirs).max() < 8 * 2**-9


@jax.jit
def with_columns_of_all(arguments):
    """Of every norm, in one program, with columns behind one forward pass, as curvature sends them."""

    def of(layer, params, x, dy):
        _, cache = layer.forward(params, x)

        def of_column(dy):
            dparams, dx = layer.backward(params, cache, dy)
            return jn.per_example.second_moment(dparams), dx

        return *forward_and_back(layer, params, x, dy), jax.vmap(of_column)(jnp.stack([dy, 2 * dy]))

    return {name: of(NORMS[name][0], *each) for name, each in arguments.items()}


@cache
def on_one_device():
    arguments = arguments_of_all(jax.random.key(2026), examples=8)
    return jax.device_get((arguments, with_columns_of_all(arguments)))


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("layout", [("data", None), ("data", "model"), (None, "model")], ids=str)
@pytest.mark.parametrize("of_params", [None, "model"], ids=["gain everywhere", "gain spread"])
def test_over_devices_it_is_what_it_is_on_one(layout, of_params, axis_type, x64):
    """What comes back is laid out as the input is, and the gradients as the parameters are."""
    arguments, expected = on_one_device()
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    rows, features = layout

    def over_devices(array):
        axes = (rows, *(None,) * (array.ndim - 2), features) if array.ndim > 1 else (of_params,)
        return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*axes)))

    with jax.set_mesh(mesh):
        spread = jax.tree.map(over_devices, arguments)
        actual = with_columns_of_all(spread)
    for ours, theirs in zip(jax.tree.leaves(jax.device_get(actual)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)
    if axis_type == AxisType.Explicit:
        for name, (params, x, _) in spread.items():
            _, dx, dparams, _ = actual[name]
            for ours, like in zip((dx, *dparams), (x, *params), strict=True):
                assert ours.sharding.is_equivalent_to(like.sharding, like.ndim), name


def test_they_are_exported_for_cpu_cuda_and_tpu(key):
    (m,) = export.symbolic_shape("m")
    arguments = arguments_of_all(key)
    leaves, structure = jax.tree.flatten(arguments)
    like = [jax.ShapeDtypeStruct((m, *leaf.shape[1:]) if leaf.ndim > 1 else leaf.shape, np.float32) for leaf in leaves]

    def flat(leaves):
        return jax.tree.leaves(forward_and_back_of_all(structure.unflatten(leaves)))

    exported = export.export(jax.jit(flat), platforms=["cpu", "cuda", "tpu"])(like)
    actual = export.deserialize(exported.serialize()).call(leaves)
    for ours, theirs in zip(actual, flat(leaves), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_it_prints_as_it_was_made():
    assert repr(jn.chain(jn.layer_norm(3), jn.group_norm(2, 4), jn.instance_norm(4), jn.rms_norm(3, epsilon=1e-6))) == (
        "chain(layer_norm(3), group_norm(2, 4), instance_norm(4), rms_norm(3, epsilon=1e-06))"
    )


@messages
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jn.layer_norm(0), "layer_norm: expected d to be a positive integer, got 0"),
        (lambda: jn.layer_norm(3, epsilon=0), "layer_norm: expected epsilon to be a positive number, got 0"),
        (lambda: jn.rms_norm(3, epsilon="1"), "rms_norm: expected epsilon to be a positive number, got '1'"),
        (lambda: jn.rms_norm(2.0), "rms_norm: expected d to be a positive integer, got 2.0"),
        (lambda: jn.group_norm(4, 6), "group_norm: expected groups to divide the 6 channels, got 4"),
        (lambda: jn.group_norm(0, 6), "group_norm: expected groups to be a positive integer, got 0"),
        (lambda: jn.instance_norm(-1), "instance_norm: expected channels to be a positive integer, got -1"),
        (lambda: jn.instance_norm(2, epsilon=-1), "instance_norm: expected epsilon to be a positive number, got -1"),
    ],
)
def test_a_wrong_argument_is_named(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


LABELS = {
    "layer_norm": "layer_norm(6)",
    "rms_norm": "rms_norm(6)",
    "group_norm": "group_norm(3, 6)",
    "instance_norm": "instance_norm(6)",
}
FIELDS = {"rms_norm": ("RMSNorm", ["gain"]), "layer_norm": ("LayerNorm", ["gain", "bias"])}


def what_forward_says(layer, params, x):
    with pytest.raises(ValueError) as error:
        layer.forward(params, x)
    return str(error.value)


@messages
@every_norm
def test_a_wrong_input_is_named(name, key):
    layer, shape = NORMS[name]
    params, where = layer.init(key), LABELS[name]
    assert what_forward_says(layer, params, np.ones((2, 3, 5), np.float32)) == (
        f"{where}: expected x of shape (m, ..., 6), got (2, 3, 5)"
    )
    assert what_forward_says(layer, params, np.ones((2, *shape), np.int32)) == (
        f"{where}: expected x of the parameters' dtype float32, got int32; convert it with x.astype('float32')"
    )


@messages
@every_norm
def test_parameters_of_another_layer_are_named(name, key):
    layer, shape = NORMS[name]
    kind, fields = FIELDS.get(name, ("GroupNorm", ["gain", "bias"]))
    x, where = np.ones((2, *shape), np.float32), LABELS[name]
    assert what_forward_says(layer, (), x) == f"{where}: expected parameters {kind}({', '.join(fields)}), got a tuple"
    others = type(layer.init(key))(*(jnp.ones(1) for _ in fields))
    expected, got = (" and ".join(f"{field} ({size},)" for field in fields) for size in (6, 1))
    assert what_forward_says(layer, others, x) == (
        f"{where}: expected parameters {expected}, got {got}; they are another layer's"
    )


@messages
@every_norm
def test_a_wrong_cotangent_is_named(name, key):
    layer, shape = NORMS[name]
    params, x = layer.init(key), drawn.normal(2, *shape)
    _, cache = jax.eval_shape(layer.forward, params, x)
    with pytest.raises(ValueError) as error:
        layer.backward(params, cache, x[:1])
    assert str(error.value) == f"{LABELS[name]}: expected dy of shape {x.shape}, that of y, got {x[:1].shape}"


@messages
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_a_single_example_goes_forward_and_is_named_on_the_way_back(name, key):
    layer, _ = NORMS[name]
    params, x = layer.init(key), drawn.normal(6)
    y, cache = layer.forward(params, x)
    np.testing.assert_allclose(y, jax.jit(layer.apply)(params, x[None])[0], rtol=1e-6)
    with pytest.raises(ValueError) as error:
        layer.backward(params, cache, y)
    assert str(error.value) == (
        f"{LABELS[name]}: backward needs the examples as the first axis, got y of shape (6,); "
        "pass a single example as x[None]"
    )


@messages
def test_a_group_of_a_single_number_is_refused(key):
    for layer in (jn.instance_norm(6), jn.group_norm(6, 6)):
        assert what_forward_says(layer, layer.init(key), jnp.ones((4, 6))) == (
            f"{layer!r}: expected x of shape (m, ..., 6) with more than one number in a group, got (4, 6)"
        )
    for layer in (jn.instance_norm(6), jn.group_norm(6, 6)):
        assert what_forward_says(layer, layer.init(key), jnp.ones((4, 1, 6))) == (
            f"{layer!r}: expected x of shape (m, ..., 6) with more than one number in a group, got (4, 1, 6)"
        )


def test_the_docs_say_why_there_is_no_batch_norm_and_what_to_use():
    sentence = "batch norm mixes examples, so that an example's gradient does not exist"
    page = (Path(jn.__file__).parents[1] / "docs" / "derivations" / "norms.md").read_text()
    for text in (jn.group_norm.__doc__, page):
        assert sentence in " ".join(text.split()).lower()
    assert not hasattr(jn, "batch_norm")
