"""Signals that are carried along: lengths and contexts, through blocks that are repeated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn
from jaxnet import curvature, per_example

LOSS = jn.losses.half_squared_error
LENGTHS = jnp.array([0, 2, 4])


def feed_forward(width):
    return jn.carried(jn.residual(jn.chain(jn.layer_norm(width), jn.dense(width, width), jn.gelu)))


def attending(width, **options):
    attend = jn.multi_head_attention(width, 2, **options)
    return jn.carried_residual(jn.chain(jn.carried(jn.layer_norm(width)), attend))


def encoder(depth=2, wrap=lambda block: block):
    """From (ids, lengths) to two numbers at each position."""
    block = jn.chain(attending(4, lengths=True), feed_forward(4))
    start = jn.chain(jn.carried(jn.embedding(7, 4)), jn.carried(jn.position_table(4, 4)))
    return jn.chain(start, jn.repeat(wrap(block), depth), jn.pick(0), jn.dense(4, 2))


def decoder():
    """From (x, context, lengths of the context)."""
    block = jn.chain(jn.carried(jn.residual(jn.multi_head_attention(4, 2, causal=True))), feed_forward(4))
    block = jn.chain(block, attending(4, context=3, lengths=True))
    return jn.chain(jn.repeat(jn.recompute(block), 2), jn.pick(0))


def ids(key):
    return jax.random.randint(key, (3, 4), 0, 7), LENGTHS


def test_alone_they_have_autodiffs_gradients_of_every_part(key):
    """The context's too, which reaches the output by itself and by what looks at it."""
    x, context = jax.random.normal(key, (2, 3, 4, 2))
    block = jn.chain(jn.carried(jn.dense(2, 2)), jn.carried_residual(jn.multi_head_attention(2, 1, context=2)))
    jn.testing.check_layer(block, (x, context), key)


def test_a_repeated_encoder_with_lengths_has_autodiffs_readings(x64, key):
    net, x, y = encoder(wrap=jn.recompute), ids(key), jnp.ones((3, 4, 2))
    params = net.init(key)
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    @jax.jit
    def both(flat):
        params = unflatten(flat)
        z, cache = net.forward(params, x)
        dparams, dx = net.backward(params, cache, LOSS.backward(z, y))
        assert dx == (None, None)
        each = jax.jacfwd(lambda flat: LOSS.forward(net.apply(unflatten(flat), x), y))(flat)
        scales = jnp.minimum(1, 0.5 / jnp.linalg.norm(each, axis=1))
        J = jax.jacfwd(lambda flat: net.apply(unflatten(flat), x))(flat)
        ours = {
            "gradient": jn.value_and_grad(net, LOSS)(params, x, y)[1],
            "each": per_example.each(dparams),
            "norms": per_example.norms(dparams),
            "clipped": per_example.clipped_mean(dparams, 0.5),
            "GGN": curvature.ggn_diagonal(net, LOSS, params, x, y),
        }
        theirs = {
            "gradient": unflatten(each.mean(0)),
            "each": jax.vmap(unflatten)(each),
            "norms": jnp.linalg.norm(each, axis=1),
            "clipped": unflatten((each * scales[:, None]).mean(0)),
            "GGN": unflatten((J**2).sum((1, 2)).mean(0)),
        }
        return ours, theirs

    actual, expected = both(flat)
    for name, trees in expected.items():
        for ours, theirs in zip(jax.tree.leaves(actual[name]), jax.tree.leaves(trees), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14 + 1e-11 * np.abs(theirs).max(), err_msg=name)


def test_what_fills_an_example_up_makes_no_difference_before_it(key):
    net, (of_ids, lengths) = encoder(), ids(key)
    params = net.init(key)
    y, other = (net.apply(params, (given, lengths)) for given in (of_ids, of_ids.at[1, 2:].set(6)))
    np.testing.assert_array_equal(y[1, :2], other[1, :2])
    assert np.isfinite(np.asarray(y)).all()
    alone = net.apply(params, (of_ids[1:2, :2], lengths[1:2]))
    np.testing.assert_allclose(y[1, :2], alone[0], rtol=1e-5, atol=1e-6)


def test_a_repeated_decoder_that_looks_at_a_context_has_autodiffs_gradients(x64, key):
    x, context, y = jax.random.normal(key, (3, 4, 4)), jax.random.normal(key, (3, 4, 3)), jnp.ones((3, 4, 4))
    net = decoder()
    params = net.init(key)

    @jax.jit
    def both(params, x, context):
        def losses(params, x, context):
            return LOSS.forward(net.apply(params, (x, context, LENGTHS)), y).sum()

        z, cache = net.forward(params, (x, context, LENGTHS))
        dparams, (*dx, of_lengths) = net.backward(params, cache, LOSS.backward(z, y))
        assert of_lengths is None
        return (per_example.total(dparams), *dx), jax.grad(losses, (0, 1, 2))(params, x, context)

    actual, expected = both(params, x, context)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14 + 1e-12 * np.abs(theirs).max())


def test_walks_go_through(key):
    """Mixed precision, which leaves lengths alone; what is drawn; and what a summary counts."""
    net, x = encoder(), ids(key)
    params = net.init(key)
    y, short = (each.apply(params, x) for each in (net, jn.mixed_precision(net)))
    np.testing.assert_allclose(short, y, rtol=0, atol=0.1 * np.abs(y).max())
    layer = jn.carried(jn.dropout(0.5))
    bound = jn.bind(layer, key)
    dropped, lengths = bound.apply((), (jnp.ones((3, 4)), LENGTHS))
    assert 0 < np.mean(np.asarray(dropped) == 0) < 1
    assert lengths is LENGTHS
    assert "carried_residual" in str(jn.summary(net, params, x))


def test_the_hessians_diagonal_goes_through(x64, key):
    x, other, y = (*jax.random.normal(key, (2, 3, 2)), jnp.ones((3, 2)))
    net = jn.chain(jn.carried(jn.dense(2, 2)), jn.carried_residual(jn.chain(jn.pick(1), jn.dense(2, 2), jn.tanh)))
    net = jn.chain(net, jn.carried(jn.tanh), jn.pick(0))
    params = net.init(key)
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    actual = jax.jit(lambda p: curvature.hessian_diagonal(net, LOSS, p, (x, other), y))(params)
    loss = lambda flat: LOSS.forward(net.apply(unflatten(flat), (x, other)), y).mean()  # noqa: E731
    expected = unflatten(jnp.diag(jax.jit(jax.hessian(loss))(flat)))
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


ARRAY = jnp.ones((3, 4))


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (jn.carried(jn.tanh), ARRAY, "carried: expected x to be a tuple of arrays, got an array"),
        (jn.carried(jn.tanh), (), "carried: expected x to be a tuple of arrays, got a tuple of 0"),
        (jn.carried_residual(jn.pick(0)), ARRAY, "carried_residual: expected x to be a tuple of arrays, got an array"),
        (
            jn.carried_residual(jn.pick(1)),
            (ARRAY, LENGTHS),
            "carried_residual: expected pick to give the shape (3, 4) of x's first part, got (3,)",
        ),
        (
            jn.carried_residual(jn.carried(jn.tanh)),
            (ARRAY, LENGTHS),
            "carried_residual: expected carried to give the shape (3, 4) of x's first part, got a tuple",
        ),
        (jn.pick(2), (ARRAY, LENGTHS), "pick(2): expected x to be a tuple of at least 3 parts, got a tuple of 2"),
        (jn.pick(0), ARRAY, "pick(0): expected x to be a tuple of at least 1 parts, got a ArrayImpl"),
    ],
)
@pytest.mark.usefixtures("without_shape_annotations")
def test_other_inputs_are_refused(layer, x, message):
    with pytest.raises(ValueError) as error:
        layer.forward(layer.init(None), x)
    assert str(error.value) == message


@pytest.mark.parametrize("number", [-1, 0.5, "0"])
@pytest.mark.usefixtures("without_shape_annotations")
def test_a_part_of_no_number_is_refused(number):
    with pytest.raises(ValueError) as error:
        jn.pick(number)
    assert str(error.value) == f"pick: expected the number of a part, from 0, got {number!r}"


@pytest.mark.usefixtures("without_shape_annotations")
def test_what_is_no_layer_is_refused():
    for make, message in (
        (jn.carried, "carried: expected layer to be a Layer, such as jaxnet.dense(4, 4), got 3"),
        (jn.carried_residual, "carried_residual: expected inner to be a Layer, such as jaxnet.pick(0), got 3"),
    ):
        with pytest.raises(ValueError) as error:
            make(3)
        assert str(error.value) == message


def test_picked_alone_it_has_autodiffs_gradient(key):
    x = jax.random.normal(key, (3, 2)), jax.random.normal(key, (3, 4, 1)), LENGTHS
    jn.testing.check_layer(jn.pick(1), x, key, zero_gradients=True)
    assert jax.tree.map(jnp.size, jn.pick(1).forward((), x)[1][0]) == (0, 0)
