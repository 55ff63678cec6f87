from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn
from jaxnet import curvature, per_example

LAYERS = {"dropout": jn.dropout, "drop_path": jn.drop_path}
every_layer = pytest.mark.parametrize("name", LAYERS)
LOSS, OPTIMIZER = jn.losses.half_squared_error, optax.sgd(0.1, momentum=0.9)


def network(name):
    block = jn.residual(jn.chain(jn.dense(4, 4), jn.tanh, LAYERS[name](0.3)))
    return jn.chain(LAYERS[name](0.2), jn.repeat(jn.recompute(block), 3), jn.dense(4, 2))


def assert_close(actual, expected):
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


BESIDE = jn.branches(*(make(0.4) for make in LAYERS.values()))


@every_layer
def test_backward_equals_autodiff(name, key):
    jn.testing.check_layer(jn.bind(LAYERS[name](0.4), key), jax.random.normal(key, (5, 3)), key)


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3)], ids=str)
def test_with_and_without_positions_backward_equals_autodiff(shape, key):
    jn.testing.check_layer(jn.bind(BESIDE, key), jax.random.normal(key, shape), key)


def test_unbound_backward_equals_autodiff(key):
    jn.testing.check_layer(BESIDE, jax.random.normal(key, (5, 3)), key)


@every_layer
def test_inside_combinators_backward_equals_autodiff(name, key):
    net = jn.bind(network(name), key)
    jn.testing.check_layer(net, jax.random.normal(key, (6, 4)), key, short_types=("float32",))


@every_layer
def test_unbound_it_is_the_identity_and_keeps_nothing(name, key):
    x = jax.random.normal(key, (5, 3))
    y, cache = LAYERS[name](0.4).forward((), x)
    assert y is x
    assert cache == ()


@every_layer
def test_a_rate_of_0_draws_nothing(name, key):
    layer = LAYERS[name](0.0)
    assert jn.bind(layer, key) is layer


def test_so_many_numbers_are_0_and_the_others_larger(key):
    x = jnp.ones((100, 10, 10))
    y = jn.bind(jn.dropout(0.3), key).apply((), x)
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.7], rtol=1e-6)
    # 10,000 draws: a standard error of 0.5%.
    np.testing.assert_allclose(np.mean(np.asarray(y) == 0), 0.3, atol=0.02)


def test_an_examples_path_is_dropped_as_a_whole(key):
    x = jnp.ones((1000, 4, 3))
    y = np.asarray(jn.bind(jn.drop_path(0.3), key).apply((), x))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :1], y.shape))
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.7], rtol=1e-6)
    np.testing.assert_allclose(np.mean(y == 0), 0.3, atol=0.06)


@every_layer
def test_the_cache_is_a_byte_for_each_number_drawn(name, key):
    _, mask = jn.bind(LAYERS[name](0.5), key).forward((), jnp.ones((5, 3)))
    assert mask.dtype == bool
    assert mask.shape == {"dropout": (5, 3), "drop_path": (5, 1)}[name]


@every_layer
def test_readings_and_curvature_are_those_of_the_same_masks(name, x64, key):
    net = jn.bind(network(name), key)
    params, x, y = net.init(key), jax.random.normal(key, (5, 4)), jnp.ones((5, 2))
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    @jax.jit
    def both(flat):
        def losses(flat):
            return LOSS.forward(net.apply(unflatten(flat), x), y)

        params = unflatten(flat)
        _, each = jn.value_and_grad(net, LOSS, read=lambda d, _: per_example.each(d))(params, x, y)
        ours = (
            each,
            curvature.hessian_diagonal(net, LOSS, params, x, y),
            curvature.ggn_diagonal(net, LOSS, params, x, y),
        )
        jacobian = jax.jacfwd(lambda flat: net.apply(unflatten(flat), x))(flat)
        hessian = jnp.diag(jax.hessian(lambda flat: losses(flat).mean())(flat))
        ggn = (jacobian**2).sum(1).mean(0)
        return ours, (jax.vmap(unflatten)(jax.jacfwd(losses)(flat)), unflatten(hessian), unflatten(ggn))

    assert_close(*both(flat))


@every_layer
def test_training_draws_anew_in_each_step_by_the_states_key(name, x64, key):
    """Steps and an epoch, each gradient beside that of jax.grad of the network bound to the step's key."""
    net = network(name)
    params, x, y = net.init(key), jax.random.normal(key, (6, 4)), jnp.ones((6, 2))

    def state():
        return jn.TrainState.create(jax.tree.map(jnp.copy, params), OPTIMIZER, key=key)

    @jax.jit
    def expected(params, opt_state, number):
        bound = jn.bind(net, jax.random.fold_in(jax.random.fold_in(key, 2**32 - 1), number))
        mean = lambda params: LOSS.forward(bound.apply(params, x), y).mean()  # noqa: E731
        value, grads = jax.value_and_grad(mean)(params)
        updates, opt_state = OPTIMIZER.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    step, of_steps, losses = jn.make_step(net, LOSS, OPTIMIZER), state(), []
    by_autodiff, opt_state = params, OPTIMIZER.init(params)
    for number in range(3):
        of_steps, metrics = step(of_steps, x, y)
        by_autodiff, opt_state, value = expected(by_autodiff, opt_state, number)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-12)
        losses.append(float(value))
    assert_close(of_steps.params, by_autodiff)
    # One batch is the whole epoch, in another order: the same key draws other masks for the same example.
    of_epoch, of_another = (
        jn.make_epoch(net, LOSS, OPTIMIZER, batch_size=6)(jn.TrainState.create(params, OPTIMIZER, key=k), x, y)[0]
        for k in jax.random.split(key)
    )
    assert not np.allclose(*(jax.tree.leaves(one.params)[0] for one in (of_epoch, of_another)))


@every_layer
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("spec", [("data",), ("data", None, "model")], ids=str)
def test_on_every_mesh_the_mask_is_that_of_one_device(name, kind, spec, key):
    x = np.random.default_rng(0).normal(size=(8, 3, 4)).astype(np.float32)

    def both(x):
        layer = jn.bind(LAYERS[name](0.5), key)
        y, cache = layer.forward((), x)
        return y, layer.backward((), cache, y)[1]

    expected = jax.device_get(jax.jit(both)(x))
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)
    with jax.set_mesh(mesh):
        actual = jax.jit(both)(jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec))))
    for ours, theirs in zip(jax.device_get(actual), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@every_layer
def test_in_mixed_precision_the_mask_is_the_same(name, key):
    x = jnp.ones((6, 5))
    kept, also = (net.apply((), x) != 0 for net in (jn.bind(LAYERS[name](0.5), key), short(name, key)))
    np.testing.assert_array_equal(kept, also)


def short(name, key):
    return jn.bind(jn.mixed_precision(LAYERS[name](0.5)), key)


@every_layer
def test_exported_for_every_platform_it_draws_the_same(name, key):
    def both(seed, x):
        layer = jn.bind(LAYERS[name](0.5), jax.random.wrap_key_data(seed))
        y, cache = layer.forward((), x)
        return y, layer.backward((), cache, x)[1]

    arguments = jax.random.key_data(key), jax.random.normal(key, (5, 3))
    exported = jax.export.export(jax.jit(both), platforms=("cpu", "cuda", "tpu"))(*arguments)
    called = jax.export.deserialize(exported.serialize()).call(*arguments)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), called, both(*arguments))


@every_layer
def test_it_is_printed_as_it_was_made(name, key):
    assert repr(LAYERS[name](0.1)) == f"{name}(0.1)"
    assert repr(jn.bind(LAYERS[name](0.1), key)) == f"{name}(0.1, key=key<fry>[])"


@every_layer
@pytest.mark.parametrize("rate", [1, -0.1, float("nan"), "0.1"])
@pytest.mark.usefixtures("without_shape_annotations")
def test_a_rate_outside_0_to_1_is_refused(name, rate):
    with pytest.raises(ValueError) as error:
        LAYERS[name](rate)
    assert str(error.value) == f"{name}: expected a rate in [0, 1), got {rate!r}"


@every_layer
@pytest.mark.usefixtures("without_shape_annotations")
def test_what_has_no_examples_is_refused(name):
    for x, got in ((jnp.float32(1), "()"), ((jnp.ones(3),), "a tuple")):
        with pytest.raises(ValueError) as error:
            LAYERS[name](0.25).forward((), x)
        assert str(error.value) == f"{name}(0.25): expected x of shape (m, ...), the examples first, got {got}"
