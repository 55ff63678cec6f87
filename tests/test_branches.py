"""Layers side by side, and what takes a tuple of what they put out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_layers import attend, lookup, squares, total, weight

import jaxnet as jn
from jaxnet import curvature, per_example

LOSS = jn.losses.half_squared_error


def dense():
    return jn.dense(4, 4)


ATTENTION = jn.residual(jn.chain(jn.branches(dense(), weight(4, 4), dense()), attend, dense()))
WRAPPED = {
    "alone": ATTENTION,
    "repeat of recompute": jn.repeat(jn.recompute(ATTENTION), 2),
}


def assert_close(actual, expected, tolerance=1e-12):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def test_the_oracle_agrees_about_attention(key):
    jn.testing.check_layer(ATTENTION, jax.random.normal(key, (3, 5, 4)), key, short_types=("float32",))


def test_the_oracle_takes_tuples(key):
    x = tuple(jax.random.normal(jax.random.fold_in(key, k), (3, 4)) for k in range(2))
    for layer in (squares, jn.chain(squares, total)):
        jn.testing.check_layer(layer, x, key, short_types=("float32",))


def test_the_oracle_agrees_about_sums(key):
    layer = jn.fan_out(jn.chain(dense(), jn.tanh), jn.identity, jn.branches(dense()))
    with pytest.raises(
        ValueError, match=r"^fan_out: expected outputs of the same shape, got \(3, 4\), \(3, 4\), tuple"
    ):
        layer.forward(layer.init(key), jnp.ones((3, 4)))
    layer = jn.fan_out(jn.chain(dense(), jn.tanh), jn.identity)
    jn.testing.check_layer(layer, jax.random.normal(key, (3, 4)), key, short_types=("float32",))


@pytest.mark.parametrize("name", WRAPPED)
def test_readings_and_curvature_of_attention_are_those_of_autodiff(name, x64, key):
    net = WRAPPED[name]
    x, y = (jax.random.normal(jax.random.fold_in(key, k), (3, 5, 4)) for k in (1, 2))
    flat, unflatten = jax.flatten_util.ravel_pytree(net.init(key))

    def ours(flat):
        params = unflatten(flat)
        read = jn.value_and_grad(net, LOSS, read=lambda d, _: (per_example.each(d), per_example.squared_norms(d)))
        short = jn.value_and_grad(jn.mixed_precision(net, jnp.float32), LOSS)
        gradient, ggn = jn.value_and_grad(net, LOSS), curvature.ggn_diagonal(net, LOSS, params, x, y)
        return gradient(params, x, y)[1], short(params, x, y)[1], *read(params, x, y)[1], ggn

    def theirs(flat):
        each = jax.jacrev(lambda flat: LOSS.forward(net.apply(unflatten(flat), x), y))(flat)
        J = jax.jacrev(lambda flat: net.apply(unflatten(flat), x).reshape(3, -1))(flat)
        return each, (J**2).sum(1).mean(0)

    both = jax.jit(lambda flat: (ours(flat), theirs(flat)))
    (gradient, short, each, norms, ggn), (expected, expected_ggn) = both(flat)
    assert_close(gradient, unflatten(expected.mean(0)))
    for ours_short, right in zip(jax.tree.leaves(short), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(ours_short, right, rtol=0, atol=1e-5)
    assert_close(each, jax.vmap(unflatten)(expected))
    np.testing.assert_allclose(norms, (expected**2).sum(1), rtol=1e-11)
    assert_close(ggn, unflatten(expected_ggn))
    with pytest.raises(ValueError) as error:
        curvature.hessian_diagonal(net, LOSS, unflatten(flat), x, y)
    assert str(error.value) == (
        "curvature.hessian_diagonal: attend does not tell its second derivative; give it one with "
        "Layer(init, forward, backward, second), or use ggn_diagonal"
    )


def test_the_hessians_signal_takes_one_of_its_kind_for_each_part_of_a_tuple(x64, key):
    two = jn.branches(jn.chain(dense(), jn.tanh), jn.residual(jn.chain(dense(), jn.sigmoid)))
    net = jn.chain(dense(), jn.tanh, two, squares, total, dense())
    x, y = (jax.random.normal(jax.random.fold_in(key, k), (3, 4)) for k in (1, 2))
    flat, unflatten = jax.flatten_util.ravel_pytree(net.init(key))
    expected = jax.jit(jax.hessian(lambda flat: LOSS.forward(net.apply(unflatten(flat), x), y).mean()))(flat)
    actual = jax.jit(lambda flat: curvature.hessian_diagonal(net, LOSS, unflatten(flat), x, y))(flat)
    assert_close(actual, unflatten(jnp.diag(expected)))


def test_integers_have_no_cotangent(x64, key):
    """Nor do their sums where two paths meet, under jit, vmap and jax.grad."""
    net = jn.chain(jn.fan_out(lookup(7, 4), lookup(7, 4)), jn.branches(dense(), dense()), total)
    params, x = net.init(key), jnp.array([[1, 2], [6, 0], [3, 3]])
    y, cache = net.forward(params, x)
    assert jax.jit(net.backward)(params, cache, y)[1] is None
    assert jn.signals(net, params, cache, y)[0] is None
    apply = jn.with_hand_derived_vjp(net)
    both = jax.jit(lambda params: [jax.grad(lambda p, f=f: (f(p, x) ** 2).sum())(params) for f in (apply, net.apply)])
    assert_close(*both(params))
    _, pullback = jax.vjp(apply, params, x)
    assert pullback(y)[1].dtype == jax.dtypes.float0


def test_the_oracle_names_a_cotangent_of_integers(key):
    layer = lookup(7, 4)
    wrong = layer._replace(backward=lambda p, c, dy: (layer.backward(p, c, dy)[0], jnp.zeros(c.shape)))
    jn.testing.check_layer(layer, jnp.array([1, 2, 6]), key, short_types=())
    with pytest.raises(AssertionError) as error:
        jn.testing.check_layer(wrong, jnp.array([1, 2, 6]), key, short_types=())
    assert str(error.value) == (
        "check_layer: lookup: dx of int32 inputs is an array of shape (3,); give None in their place"
    )


def test_an_array_that_several_layers_keep_is_stacked_once(key):
    x = jnp.ones((16, 4))
    layer = jn.fan_out(dense(), dense(), dense())
    repeated = jn.repeat(layer, 5)
    params = repeated.init(key)
    _, (_, caches) = repeated.forward(params, x)
    assert [leaf.shape for leaf in jax.tree.leaves(caches)] == [(5, 16, 4)]

    def memory(*layers):
        net = jn.repeat(jn.fan_out(*layers), 64)
        params = jax.eval_shape(net.init, key)
        x = jax.ShapeDtypeStruct((1024, 4), jnp.float32)
        compiled = jax.jit(jn.value_and_grad(net, LOSS)).lower(params, x, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # One stack of inputs is 64 * 1024 * 4 numbers, a MiB.
    assert memory(dense(), dense(), dense()) < memory(dense()) + 2**19


@pytest.mark.usefixtures("without_shape_annotations")
def test_misuse_is_named(key):
    x = jnp.ones((5, 4))
    for misuse, message in (
        (jn.branches, "branches: expected at least one layer, got none"),
        (jn.fan_out, "fan_out: expected at least one layer, got none"),
        (
            lambda: jn.fan_out(jn.tanh, 3),
            "fan_out: expected a Layer at position 1, such as jaxnet.dense(4, 4), got 3",
        ),
        (
            lambda: jn.residual(squares).forward((), (x, x)),
            "residual: expected x to be an array, got a tuple of 2 arrays",
        ),
        (
            lambda: jn.residual(jn.branches(jn.tanh, jn.tanh)).forward(((), ()), x),
            "residual: expected branches to keep the shape (5, 4) of x, got a tuple of 2 arrays",
        ),
        (
            lambda: jn.repeat(jn.branches(jn.tanh, jn.tanh), 2).forward(((), ()), x),
            "repeat: expected branches to keep the shape and dtype of x, (5, 4) float32, "
            "got ((5, 4) float32, (5, 4) float32)",
        ),
    ):
        with pytest.raises(ValueError) as error:
            misuse()
        assert str(error.value) == message
