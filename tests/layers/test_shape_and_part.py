import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_reading import assert_readings_are_autodiffs
from jax import export
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn

messages = pytest.mark.usefixtures("without_shape_annotations")
# name: the layer and what NumPy makes of x (m, 4, 6)
LAYERS = {
    "flatten": (jn.flatten, lambda x: x.reshape(len(x), 24)),
    "reshape": (jn.reshape((2, 12)), lambda x: x.reshape(len(x), 2, 12)),
    "reshape, what is left": (jn.reshape([3, -1, 2]), lambda x: x.reshape(len(x), 3, 4, 2)),
    "transpose": (jn.transpose((2, 1)), lambda x: x.transpose(0, 2, 1)),
    "pad": (jn.pad(((1, 2),)), lambda x: np.pad(x, ((0, 0), (1, 2), (0, 0)))),
    "pad, another value": (
        jn.pad([(0, 1), [2, 0]], value=3.0),
        lambda x: np.pad(x, ((0, 0), (0, 1), (2, 0)), constant_values=3.0),
    ),
    "take, the last position": (jn.take(-1), lambda x: x[:, -1]),
    "take, a position": (jn.take(np.int64(2)), lambda x: x[:, 2]),
    "take, positions": (jn.take(slice(1, 3)), lambda x: x[:, 1:3]),
    "take, every second position": (jn.take(slice(1, None, 2)), lambda x: x[:, 1::2]),
    "take, positions backwards": (jn.take(slice(None, None, -1)), lambda x: x[:, ::-1]),
    "take, features": (jn.take(slice(0, 2), axis=-1), lambda x: x[..., :2]),
    "take, features backwards, by threes": (jn.take(slice(5, 0, -3), axis=2), lambda x: x[..., 5:0:-3]),
    "take, a feature": (jn.take(-2, axis=-1), lambda x: x[..., -2]),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
# One of each kind is asked by itself, with its second derivative; all of them beside one another.
ALONE = ["flatten", "reshape", "transpose", "pad", "take, positions backwards"]
NETWORKS = {
    "flatten, and the last position": jn.chain(
        jn.dense(3, 4),
        jn.tanh,
        jn.fan_out(jn.chain(jn.flatten, jn.dense(16, 2)), jn.chain(jn.take(-1), jn.dense(4, 2))),
    ),
    "transposed and back, repeated": jn.repeat(
        jn.recompute(jn.residual(jn.chain(jn.transpose((2, 1)), jn.dense(4, 4), jn.tanh, jn.transpose((2, 1))))), 2
    ),
    "padded, parts, reshaped": jn.chain(
        jn.pad(((1, 1),)),
        jn.dense(3, 4),
        jn.softplus,
        jn.take(slice(None, None, 2)),
        jn.reshape((2, -1)),
        jn.dense(6, 2),
    ),
}


def of_every_layer(function):
    """`(x, ...) -> function of each layer`, in one program."""
    return jax.jit(lambda *arrays: {name: function(layer, *arrays) for name, (layer, _) in LAYERS.items()})


def test_forward_is_numpys(key):
    x = jax.random.normal(key, (3, 4, 6))
    for name, y in of_every_layer(lambda layer, x: layer.apply((), x))(x).items():
        np.testing.assert_array_equal(y, LAYERS[name][1](np.asarray(x)), err_msg=name)


@pytest.mark.parametrize("name", ALONE)
def test_backward_equals_autodiff(name, key):
    jn.testing.check_layer(LAYERS[name][0], jax.random.normal(key, (3, 4, 6)), key)


def test_beside_one_another_backward_equals_autodiff(key):
    layers = jn.branches(*(layer for layer, _ in LAYERS.values()))
    jn.testing.check_layer(layers, jax.random.normal(key, (3, 4, 6)), key)


@every_layer
def test_nothing_is_kept(name):
    _, cache = jax.eval_shape(LAYERS[name][0].forward, (), jax.ShapeDtypeStruct((3, 4, 6), np.float32))
    assert sum(leaf.size for leaf in jax.tree.leaves(cache)) == 0


def test_integers_go_through_and_have_no_cotangent():
    def there_and_back(layer, x):
        y, cache = layer.forward((), x)
        return y, layer.backward((), cache, None)

    x = jnp.arange(48).reshape(2, 4, 6)
    for name, (y, gradients) in of_every_layer(there_and_back)(x).items():
        np.testing.assert_array_equal(y, LAYERS[name][1](np.asarray(x)), err_msg=name)
        assert y.dtype == x.dtype
        assert gradients == ((), None)


def test_mixed_precision_rounds_and_no_more(key):
    x = jax.random.normal(key, (3, 4, 6))
    rounded = np.asarray(x.astype(jnp.bfloat16).astype(x.dtype))
    for name, y in of_every_layer(lambda layer, x: jn.mixed_precision(layer).apply((), x))(x).items():
        np.testing.assert_array_equal(y, LAYERS[name][1](rounded), err_msg=name)


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_readings_go_through_them(net, x64):
    assert_readings_are_autodiffs(net, drawn.normal(4, 4, 3))


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_the_hessians_diagonal_goes_through_them(net, x64, key):
    loss, params = jn.losses.half_squared_error, net.init(key)
    x = jax.random.normal(key, (4, 4, 3))
    y = jax.random.normal(key, jax.eval_shape(net.apply, params, x).shape)
    flat, unravel = ravel_pytree(params)

    def mean_loss(flat):
        return loss.forward(net.apply(unravel(flat), x), y).sum() / len(x)

    expected = jnp.diagonal(jax.jit(jax.hessian(mean_loss))(flat))
    diagonal = jax.jit(lambda *arguments: jn.curvature.hessian_diagonal(net, loss, *arguments))
    actual, _ = ravel_pytree(diagonal(params, x, y))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-11 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_over_devices_they_are_what_they_are_on_one(axis_type, key):
    x = jax.random.normal(key, (8, 4, 6))
    cotangents = jax.tree.map(jnp.cos, of_every_layer(lambda layer, x: layer.apply((), x))(x))

    @jax.jit
    def there_and_back(x, cotangents):
        def of(layer, dy):
            y, cache = layer.forward((), x)
            of_columns = jax.vmap(lambda dy: layer.backward((), cache, dy)[1])(jnp.stack([dy, 2 * dy]))
            return y, layer.backward((), cache, dy)[1], of_columns

        return {name: of(LAYERS[name][0], dy) for name, dy in cotangents.items()}

    expected = jax.device_get(there_and_back(x, cotangents))
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    with jax.set_mesh(mesh):
        rows = NamedSharding(mesh, PartitionSpec("data"))
        actual = there_and_back(*jax.device_put((x, cotangents), rows))
    for name, (y, *back) in actual.items():
        if axis_type == AxisType.Explicit:
            assert back[0].sharding.is_equivalent_to(rows, x.ndim), name
        np.testing.assert_array_equal(y, LAYERS[name][1](np.asarray(x)), err_msg=name)
        for ours, theirs in zip(back, expected[name][1:], strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_they_are_exported_for_cpu_cuda_and_tpu(key):
    def there_and_back(layer, x):
        y, cache = layer.forward((), x)
        return y, layer.backward((), cache, y)[1]

    (m,) = export.symbolic_shape("m")
    like = jax.ShapeDtypeStruct((m, 4, 6), np.float32)
    of_all = of_every_layer(there_and_back)
    exported = export.export(of_all, platforms=["cpu", "cuda", "tpu"])(like)
    x = jax.random.normal(key, (3, 4, 6))
    expected = of_all(x)
    for name, (y, dx) in export.deserialize(exported.serialize()).call(x).items():
        np.testing.assert_array_equal(y, LAYERS[name][1](np.asarray(x)), err_msg=name)
        np.testing.assert_array_equal(dx, expected[name][1], err_msg=name)


def test_they_print_as_they_were_made():
    net = jn.chain(jn.flatten, jn.reshape((2, -1)), jn.transpose((2, 1)), jn.pad(((1, 2),)), jn.take(0))
    assert (
        repr(net)
        == "chain(flatten, reshape(shape=(2, -1)), transpose(axes=(2, 1)), pad(widths=((1, 2),)), take(0, axis=1))"
    )


@messages
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jn.reshape(3), "reshape: expected shape to be positive lengths, at most one of them -1, got 3"),
        (
            lambda: jn.reshape((-1, -1)),
            "reshape: expected shape to be positive lengths, at most one of them -1, got (-1, -1)",
        ),
        (
            lambda: jn.reshape((2.0,)),
            "reshape: expected shape to be positive lengths, at most one of them -1, got (2.0,)",
        ),
        (lambda: jn.transpose((0, 1)), "transpose: expected axes to be the numbers 1 to n in some order, got (0, 1)"),
        (lambda: jn.transpose(2), "transpose: expected axes to be the numbers 1 to n in some order, got 2"),
        (lambda: jn.pad((1, 2)), "pad: expected widths to be pairs (before, after) of at least 0, got (1, 2)"),
        (lambda: jn.pad(((-1, 2),)), "pad: expected widths to be pairs (before, after) of at least 0, got ((-1, 2),)"),
        (lambda: jn.pad(1), "pad: expected widths to be pairs (before, after) of at least 0, got 1"),
        (lambda: jn.take(1, axis=0), "take: expected an axis other than 0, that of the examples, got 0"),
        (lambda: jn.take(1.0), "take: expected part to be an integer or a slice, got 1.0"),
        (lambda: jn.take("1"), "take: expected part to be an integer or a slice, got '1'"),
    ],
)
def test_a_wrong_argument_is_named(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


@messages
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (jn.reshape((5, 5)), "reshape((5, 5)): expected 25 numbers in an example, got x of shape (3, 4, 6)"),
        (
            jn.reshape((5, -1)),
            "reshape((5, -1)): expected a multiple of 5 numbers in an example, got x of shape (3, 4, 6)",
        ),
        (jn.transpose((1,)), "transpose((1,)): expected x with 1 axes after the examples, got shape (3, 4, 6)"),
        (
            jn.pad(((0, 0),) * 3),
            "pad(((0, 0), (0, 0), (0, 0))): expected x with at least 3 axes after the examples, got shape (3, 4, 6)",
        ),
        (jn.take(4), "take(4, axis=1): expected x with that position along the axis, got shape (3, 4, 6)"),
        (jn.take(-5), "take(-5, axis=1): expected x with that position along the axis, got shape (3, 4, 6)"),
        (jn.take(0, axis=3), "take(0, axis=3): expected x with that axis after the examples, got shape (3, 4, 6)"),
        (jn.take(0, axis=-3), "take(0, axis=-3): expected x with that axis after the examples, got shape (3, 4, 6)"),
        (
            jn.take(slice(4, 9)),
            "take(slice(4, 9, None), axis=1): expected a part with something in it, got none of x's shape (3, 4, 6)",
        ),
    ],
    ids=str,
)
def test_a_wrong_input_is_named(layer, message):
    with pytest.raises(ValueError) as error:
        layer.forward((), jnp.ones((3, 4, 6)))
    assert str(error.value) == message


@messages
@pytest.mark.parametrize(("layer", "call"), [(jn.flatten, "flatten"), (jn.reshape((1,)), "reshape((1,))")])
def test_a_scalar_is_named(layer, call):
    with pytest.raises(ValueError) as error:
        layer.forward((), jnp.float32(1))
    assert str(error.value) == f"{call}: expected x of shape (m, ...), got a scalar"
