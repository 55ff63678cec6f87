"""What attention leaves out: keys beyond an example's length, and probabilities at random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn

LENGTHS = jnp.array([0, 2, 5])


def signals(key, t=4, s=5, width=4):
    q, k, v = (jax.random.normal(of, (3, n, width)) for of, n in zip(jax.random.split(key, 3), (t, s, s), strict=True))
    return q, k, v, LENGTHS


def test_with_lengths_backward_equals_autodiff(key):
    jn.testing.check_layer(
        jn.attention(2, kv_heads=1), (*signals(key)[:1], *(x[..., :2] for x in signals(key)[1:3]), LENGTHS), key
    )


def test_an_example_is_what_it_is_without_what_fills_it_up(x64, key):
    q, k, v, lengths = signals(key)
    layer = jn.attention(2)
    y, cache = layer.forward((), (q, k, v, lengths))
    dy = jnp.cos(y)
    _, dx = layer.backward((), cache, dy)
    for number, length in enumerate(LENGTHS):
        one = q[number, None], k[number, None, :length], v[number, None, :length]
        expected, its_cache = layer.forward((), one)
        np.testing.assert_allclose(y[number], expected[0], rtol=0, atol=1e-14)
        _, of_one = layer.backward((), its_cache, dy[number, None])
        np.testing.assert_allclose(dx[0][number], of_one[0][0], rtol=0, atol=1e-14)
        for ours, theirs in zip(dx[1:3], of_one[1:], strict=True):
            np.testing.assert_allclose(ours[number, :length], theirs[0], rtol=0, atol=1e-14)
            np.testing.assert_array_equal(ours[number, length:], 0)
    assert dx[3] is None


@pytest.mark.parametrize("block", [2, None], ids=["in blocks", "at once"])
def test_a_query_that_sees_no_key_has_output_0_and_no_gradient(block, key):
    """No key at all, or none in the window; for autodiff too there is no nan."""
    layer = jn.attention(2, causal=True, window=2, block=block)
    *three, lengths = signals(key, t=5)
    y, cache = layer.forward((), (*three, lengths))
    blind = np.arange(5)[None] > np.asarray(lengths)[:, None]
    blind[0] = True
    np.testing.assert_array_equal(np.asarray(y == 0).all(-1), blind)
    _, (dq, dk, dv, _) = layer.backward((), cache, jnp.ones_like(y))
    np.testing.assert_array_equal(np.asarray(dq)[blind], 0)
    by_autodiff = jax.grad(lambda three: layer.apply((), (*three, lengths)).sum())(tuple(three))
    for ours, theirs in zip((dq, dk, dv), by_autodiff, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("lengths", [jnp.ones(3), jnp.ones(2, int), jnp.ones((3, 1), int)], ids=str)
@pytest.mark.usefixtures("without_shape_annotations")
def test_other_lengths_are_refused(lengths, key):
    with pytest.raises(ValueError) as error:
        jn.attention(2).forward((), (*signals(key)[:3], lengths))
    assert str(error.value) == (
        "attention(2): expected lengths of whole numbers, one for each of 3 examples, "
        f"got {lengths.dtype}{lengths.shape}"
    )


def test_dropout_is_drawn_as_bind_says_and_backward_draws_the_same(key):
    layer, x = jn.attention(2, causal=True, dropout=0.4), signals(key, t=5)
    bound = jn.bind(layer, key)
    jn.testing.check_layer(bound, x[:3], key)
    np.testing.assert_array_equal(layer.apply((), x), jn.attention(2, causal=True).apply((), x))
    others = [jn.bind(net, k).apply((), x) for net, k in ((layer, jax.random.key(1)), (bound, key))]
    assert not np.allclose(bound.apply((), x), others[0])
    np.testing.assert_array_equal(bound.apply((), x), others[1])
    undrawn = jn.attention(2, dropout=0.0)
    assert jn.bind(undrawn, key) is undrawn


def test_so_many_probabilities_are_left_out_and_the_others_are_larger(key):
    """Of equal ones, with a value of its own for each key, the output shows each."""
    t = 32
    q, v = jnp.zeros((4, t, 2)), jnp.broadcast_to(jnp.eye(t)[None], (4, t, t))
    v = jnp.concatenate([v, v], -1)
    p = np.asarray(jn.bind(jn.attention(2, dropout=0.3), key).apply((), (q, q, v)))
    np.testing.assert_allclose(np.unique(p), [0, 1 / t / 0.7], rtol=1e-5)
    # 8,192 draws: a standard error of 0.5%.
    np.testing.assert_allclose(np.mean(p == 0), 0.3, atol=0.025)
    masks = (p != 0).reshape(4, t, 2, t)
    assert not (masks[0] == masks[1]).all()
    assert not (masks[:, :, 0] == masks[:, :, 1]).all()


def test_in_repeat_recompute_and_mixed_precision_each_layer_has_a_mask_of_its_own(x64, key):
    block = jn.residual(jn.multi_head_attention(4, 2, dropout=0.3))
    net = jn.bind(jn.repeat(jn.recompute(block), 2), key)
    params, x, loss = net.init(key), jax.random.normal(key, (3, 4, 4)), jn.losses.half_squared_error

    @jax.jit
    def both(params):
        expected = jax.value_and_grad(lambda params: loss.forward(net.apply(params, x), x).mean())(params)
        return jn.value_and_grad(net, loss)(params, x, x), expected

    actual, expected = both(params)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14 + 1e-12 * np.abs(theirs).max())
    y, short = (n.apply(net.init(key), x) for n in (net, jn.bind(jn.mixed_precision(net), key)))
    np.testing.assert_allclose(short, y, rtol=0, atol=0.05 * np.abs(y).max())


@pytest.mark.parametrize("rate", [1, -0.1, float("nan"), "0.1"])
@pytest.mark.usefixtures("without_shape_annotations")
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(ValueError) as error:
        jn.attention(2, dropout=rate)
    assert str(error.value) == f"attention: expected dropout in [0, 1), got {rate!r}"


def test_it_is_printed_as_it_was_made(key):
    layer = jn.attention(4, kv_heads=2, block=8, dropout=0.1)
    assert repr(layer) == "attention(4, kv_heads=2, block=8, dropout=0.1)"
    assert repr(jn.bind(layer, key)) == "attention(4, kv_heads=2, block=8, dropout=0.1, key=key<fry>[])"


def test_exported_for_every_platform_it_is_the_same(key):
    x = signals(key)

    def both(seed, x):
        layer = jn.bind(jn.attention(2, block=2, dropout=0.5), jax.random.wrap_key_data(seed))
        y, cache = layer.forward((), x)
        return y, layer.backward((), cache, jnp.cos(y))[1]

    arguments = jax.random.key_data(key), x
    exported = jax.export.export(jax.jit(both), platforms=("cpu", "cuda", "tpu"))(*arguments)
    called = jax.export.deserialize(exported.serialize()).call(*arguments)
    for ours, theirs in zip(jax.tree.leaves(called), jax.tree.leaves(jax.jit(both)(*arguments)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
