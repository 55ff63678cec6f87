"""The table of positions, sinusoidal positions and rotations, against automatic differentiation and complex numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from test_per_example import EXAMPLES, assert_close, assert_every_reading

import jaxnet as jn
from jaxnet import curvature, per_example
from jaxnet.parameters import Sides, sides_of

LOSS = jn.losses.half_squared_error
LAYERS = {
    # name: layer, shape of x.
    "table, sinusoidal and rotary": (jn.branches(jn.position_table(5, 4), jn.sinusoidal(), jn.rotary()), (3, 5, 4)),
    "table, shorter examples": (
        jn.chain(jn.position_table(5, 4), jn.recompute(jn.residual(jn.position_table(3, 4)))),
        (3, 2, 4),
    ),
    "sinusoidal, of another base": (jn.sinusoidal(base=2.0), (3, 5, 4)),
    "rotary, in heads": (jn.repeat(jn.recompute(jn.rotary(2, base=3.0)), 2), (2, 3, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_backward_equals_autodiff(name, key):
    layer, shape = LAYERS[name]
    zero = name == "table, shorter examples"
    jn.testing.check_layer(layer, jax.random.normal(key, shape), key, zero_gradients=zero)


def test_readings_and_curvature_of_the_table_are_those_of_what_is_formed(x64, key):
    net = jn.chain(jn.dense(3, 4), jn.position_table(5, 4), jn.tanh, jn.rotary(2), jn.sinusoidal(), jn.dense(4, 2))
    params = net.init(key)
    x = jax.random.normal(key, (EXAMPLES, 3, 3))
    y = jax.random.normal(key, (EXAMPLES, 3, 2))
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    def losses(flat):
        return LOSS.forward(net.apply(unflatten(flat), x), y)

    @jax.jit
    def both(flat):
        params = unflatten(flat)
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, LOSS.backward(z, y))
        of_curvature = [read(net, LOSS, params, x, y) for read in (curvature.ggn_diagonal, curvature.hessian_diagonal)]
        J = jax.jacrev(lambda flat: net.apply(unflatten(flat), x))(flat).reshape(EXAMPLES, -1, flat.size)
        hessian = jnp.diag(jax.hessian(lambda flat: losses(flat).mean())(flat))
        formed = jax.vmap(unflatten)(jax.jacrev(losses)(flat))
        return dparams, of_curvature, formed, [unflatten((J**2).sum(1).mean(0)), unflatten(hessian)]

    dparams, of_curvature, formed, expected = both(flat)
    assert isinstance(dparams[1].E, jn.Each)
    # Positions that no example has give neither signal nor noise.
    assert_every_reading(dparams, formed, but=["signal_to_noise"])
    for ours, theirs in zip(of_curvature, jax.device_get(expected), strict=True):
        assert_close(ours, theirs)
    assert Sides() == sides_of(net, params, x)[1].E


def test_kfac_takes_the_table_as_a_matrix(key):
    net = jn.chain(jn.dense(3, 4), jn.position_table(5, 4))
    optimizer = jn.optimizers.kfac(net, LOSS, 0.1, key=key)

    def update(x, y):
        params = net.init(key)
        _, grads = jn.value_and_grad(net, LOSS)(params, x, y)
        return optimizer.update(grads, optimizer.init(params), params, x=x, y=y)

    _, state = jax.eval_shape(update, jnp.ones((2, 5, 3)), jnp.zeros((2, 5, 4)))
    assert [factor.shape for factor in state.factors[1].E] == [(5, 5), (4, 4)]


@pytest.mark.parametrize("heads", [1, 2])
def test_rotations_are_products_with_complex_numbers(heads, x64, key):
    x = np.asarray(jax.random.normal(key, (2, 5, 8)))
    width = 8 // heads
    turns = np.exp(1j * np.arange(5)[:, None] * 10000.0 ** (-np.arange(0, width, 2) / width))
    pairs = x.reshape(2, 5, heads, width // 2, 2)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * turns[:, None]
    expected = np.stack([turned.real, turned.imag], -1).reshape(x.shape)
    np.testing.assert_allclose(jn.rotary(heads).apply((), jnp.asarray(x)), expected, rtol=1e-12, atol=1e-14)


def test_products_of_rotated_vectors_depend_on_the_distance_alone(x64, key):
    q, k = (jnp.broadcast_to(row, (1, 9, 6)) for row in jax.random.normal(key, (2, 6)))
    scores = np.asarray(jn.rotary().apply((), q)[0] @ jn.rotary().apply((), k)[0].T)
    for distance in range(-8, 9):
        np.testing.assert_allclose(np.ptp(np.diag(scores, distance)), 0, atol=1e-13)


def test_sines_and_cosines_stand_beside_one_another():
    waves = np.asarray(jn.sinusoidal().apply((), jnp.zeros((1, 7, 6))))[0]
    angles = np.arange(7)[:, None] / 10000.0 ** (np.arange(0, 6, 2) / 6)
    np.testing.assert_allclose(waves[:, ::2], np.sin(angles), atol=1e-6)
    np.testing.assert_allclose(waves[:, 1::2], np.cos(angles), atol=1e-6)


def test_in_eight_bits_positions_are_still_known():
    x = jnp.ones((1, 1001, 2), jnp.bfloat16)
    exact = jn.rotary().apply((), jnp.ones((1, 1001, 2)))
    np.testing.assert_allclose(jn.rotary().apply((), x).astype(jnp.float32), exact, atol=0.02)
    net = jn.mixed_precision(jn.chain(jn.position_table(1001, 2), jn.sinusoidal()))
    assert net.apply(net.init(jax.random.key(0)), jnp.ones((1, 4, 2))).dtype == jnp.float32


def test_they_are_exported_for_cpu_cuda_and_tpu_with_any_number_of_examples(key):
    net = jn.chain(jn.position_table(5, 4), jn.sinusoidal(), jn.rotary(2))

    def gradient(E, x):
        params = (jn.PositionTable(E), (), ())
        return jn.value_and_grad(net, LOSS, read=per_example.clipped(1.0))(params, x, x)[1][0].E

    E, x = net.init(key)[0].E, jax.random.normal(key, (3, 4, 4))
    (m,) = export.symbolic_shape("m")
    like = jax.ShapeDtypeStruct((m, 4, 4), np.float32)
    exported = export.export(jax.jit(gradient), platforms=["cpu", "cuda", "tpu"])(E, like)
    actual = export.deserialize(exported.serialize()).call(E, x)
    np.testing.assert_allclose(actual, gradient(E, x), rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda: jn.position_table(0, 4), "position_table: expected length to be a positive integer, got 0"),
        (lambda: jn.rotary(1.5), "rotary: expected heads to be a positive integer, got 1.5"),
        (lambda: jn.rotary(base=1), "rotary: expected base to be larger than 1, got 1"),
        (lambda: jn.sinusoidal(base="x"), "sinusoidal: expected base to be larger than 1, got 'x'"),
        (
            lambda: jn.position_table(5, 4).forward(jn.PositionTable(jnp.ones((5, 4))), jnp.ones((2, 6, 4))),
            "position_table(5, 4): expected x of shape (m, t, 4) with t of at most 5, got (2, 6, 4)",
        ),
        (
            lambda: jn.position_table(5, 4).forward(jn.PositionTable(jnp.ones((5, 4))), jnp.ones((2, 5, 4), int)),
            "position_table(5, 4): expected x of E's dtype float32, got int32; convert it with x.astype('float32')",
        ),
        (
            lambda: jn.position_table(5, 4).forward(jn.PositionTable(jnp.ones((6, 4))), jnp.ones((2, 5, 4))),
            "position_table(5, 4): expected parameters E (5, 4), got E (6, 4); they are another layer's",
        ),
        (
            lambda: jn.position_table(5, 4).backward((), (), jnp.ones((2, 5, 4))),
            "position_table(5, 4): expected parameters PositionTable(E), got a tuple",
        ),
        (
            lambda: jn.sinusoidal().forward((), jnp.ones((2, 5, 3))),
            "sinusoidal: expected x of shape (m, t, d) with an even number of features, got (2, 5, 3)",
        ),
        (
            lambda: jn.rotary(2).forward((), jnp.ones((2, 5, 6))),
            "rotary: expected x of shape (m, t, d) with a multiple of 4 features, got (2, 5, 6)",
        ),
    ],
)
def test_misuse_is_named(misuse, message):
    with pytest.raises(ValueError) as error:
        misuse()
    assert str(error.value) == message
