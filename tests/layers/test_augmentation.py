"""Images that training moves, crops and mirrors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn

LAYERS = {"shift": jn.random_shift(2), "crop": jn.random_crop(2), "flip": jn.random_flip}
every_layer = pytest.mark.parametrize("name", LAYERS)


def both(name, key, x):
    layer = jn.bind(LAYERS[name], key)
    y, cache = layer.forward((), x)
    return y, layer.backward((), cache, x)[1]


@every_layer
def test_backward_equals_autodiff(name, key):
    jn.testing.check_layer(jn.bind(LAYERS[name], key), jax.random.normal(key, (5, 4, 3, 2)), key)


@every_layer
def test_before_convolutions_backward_equals_autodiff(name, key):
    x = jax.random.normal(key, (5, 4, 3, 2))
    net = jn.chain(LAYERS[name], jn.conv(2, 3, (3, 3)), jn.repeat(jn.chain(LAYERS[name], jn.conv(3, 3, (3, 3))), 2))
    jn.testing.check_layer(jn.bind(net, key), x, key)


def test_what_is_cropped_is_transposed_on_its_way_back(x64):
    """<y, dy> = <x, dx> for every offset, of images as small as can be padded so far."""
    x, dy = np.random.default_rng(0).normal(size=(2, 200, 3, 4, 2))
    layer = jn.bind(LAYERS["crop"], jax.random.key(1))
    y, offsets = layer.forward((), jnp.asarray(x))
    assert len(np.unique(offsets, axis=0)) == 25
    _, dx = layer.backward((), offsets, jnp.asarray(dy))
    np.testing.assert_allclose((y * dy).sum((1, 2, 3)), (x * dx).sum((1, 2, 3)), rtol=1e-12, atol=1e-12)


@every_layer
def test_after_training_nothing_moves(name, key):
    x = jax.random.normal(key, (2, 4, 3, 1))
    assert LAYERS[name].apply((), x) is x


@pytest.mark.parametrize(("name", "padding"), [("shift", "constant"), ("crop", "reflect")])
def test_images_move_by_every_offset_alike_and_zeros_or_mirror_images_come_in(name, padding, key):
    x = jnp.arange(1.0, 21).reshape(1, 5, 4, 1).repeat(500, 0)
    y, _ = both(name, key, x)
    np.testing.assert_array_equal(y, both(name, key, x)[0])
    assert (y != both(name, jax.random.fold_in(key, 1), x)[0]).any()
    padded = np.pad(np.asarray(x[0, ..., 0]), 2, mode=padding)
    possible = [padded[down : down + 5, right : right + 4] for down in range(5) for right in range(5)]
    which = [next(k for k, of_k in enumerate(possible) if (of_k == image).all()) for image in np.asarray(y[..., 0])]
    counts = np.bincount(which, minlength=25)
    # Of 500 draws from 25, each 20 times, 4.4 more or less: five of these.
    assert counts.min() >= 1
    assert counts.max() <= 42


def test_half_of_the_images_are_mirrored_along_the_last_axis_of_positions(key):
    x = jnp.arange(1.0, 13).reshape(1, 2, 3, 2).repeat(400, 0)
    y, _ = both("flip", key, x)
    mirrored = (y == x[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (y == x).all((1, 2, 3))).all()
    assert 150 < mirrored.sum() < 250


@every_layer
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_on_every_mesh_it_is_that_of_one_device(name, kind, key):
    x = np.random.default_rng(0).normal(size=(8, 4, 3, 2)).astype(np.float32)
    expected = jax.device_get(jax.jit(both, static_argnums=0)(name, key, x))
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)
    for spec in (("data",), ("data", None, None, "model")):
        with jax.set_mesh(mesh):
            split = jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
            actual = jax.jit(both, static_argnums=0)(name, key, split)
        for ours, theirs in zip(jax.device_get(actual), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_what_has_no_positions_is_refused():
    for name, where in (("shift", "random_shift(2)"), ("crop", "random_crop(2)"), ("flip", "random_flip")):
        with pytest.raises(ValueError) as error:
            LAYERS[name].apply((), jnp.ones((3, 4)))
        expected = f"{where}: expected x (m, *positions, channels) with axes of positions, got shape (3, 4)"
        assert str(error.value) == expected
    with pytest.raises(ValueError) as error:
        jn.random_shift(0)
    assert str(error.value) == "random_shift: expected most to be a positive integer, got 0"
    with pytest.raises(ValueError) as error:
        jn.random_crop(0)
    assert str(error.value) == "random_crop: expected margin to be a positive integer, got 0"
    with pytest.raises(ValueError) as error:
        LAYERS["crop"].apply((), jnp.ones((1, 5, 2, 1)))
    expected = "random_crop(2): expected images of more than 2 positions along each axis, got 5 x 2"
    assert str(error.value) == expected
