import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_results import RESULTS

import jaxnet as jn
from jaxnet import curvature, per_example

LOSS = jn.losses.half_squared_error
NETS = {
    "causal": jn.multi_head_attention(4, 2, causal=True),
    "grouped": jn.multi_head_attention(4, 2, kv_heads=1, window=2),
}
every_net = pytest.mark.parametrize("name", NETS)


def block(name):
    return jn.residual(jn.chain(NETS[name], jn.tanh))


@every_net
def test_backward_equals_autodiff(name, key):
    jn.testing.check_layer(NETS[name], jax.random.normal(key, (3, 4, 4)), key)


def test_repeated_and_recomputed_backward_equals_autodiff(key):
    net = jn.repeat(jn.recompute(jn.chain(*map(block, NETS))), 2)
    jn.testing.check_layer(net, jax.random.normal(key, (3, 4, 4)), key, short_types=("float32",))


def test_forward_and_backward_equal_pytorchs(x64):
    name = "multi_head_attention(4, 2, causal=True)"
    (x, W, b, Wo, bo), gradients = ([jnp.asarray(v) for v in RESULTS[name][k]] for k in ("inputs", "gradients"))
    net = NETS["causal"]
    params = (tuple(map(jn.Dense, jnp.split(W, 3), jnp.split(b, 3))), (), jn.Dense(Wo, bo))
    y, cache = net.forward(params, x)
    np.testing.assert_allclose(y, RESULTS[name]["y"], rtol=1e-10, atol=1e-12)
    dparams, dx = net.backward(params, cache, jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))
    of_qkv, _, of_output = per_example.total(dparams)
    ours = dx, *(jnp.concatenate(parts) for parts in zip(*of_qkv, strict=True)), *of_output
    for actual, expected in zip(ours, gradients, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


def test_readings_and_curvature_equal_autodiffs(x64, key):
    net = jn.chain(jn.repeat(jn.recompute(jn.chain(*map(block, NETS))), 2), jn.dense(4, 2))
    params, x, y = net.init(key), jax.random.normal(key, (3, 4, 4)), jnp.ones((3, 4, 2))
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    @jax.jit
    def pairs(params, flat):
        z, cache = net.forward(params, x)
        dparams, _ = net.backward(params, cache, LOSS.backward(z, y))
        each = jax.jacrev(lambda flat: LOSS.forward(net.apply(unflatten(flat), x), y))(flat)
        jacobian = jax.jacrev(lambda flat: net.apply(unflatten(flat), x))(flat)
        squares = (each**2).sum(1)
        scales = jnp.minimum(1, 0.5 / jnp.sqrt(squares))
        return (
            (per_example.each(dparams), jax.vmap(unflatten)(each)),
            (per_example.squared_norms(dparams), squares),
            (per_example.clipped_mean(dparams, 0.5), unflatten((each * scales[:, None]).mean(0))),
            (per_example.second_moment(dparams), unflatten((each**2).mean(0))),
            (per_example.gram(dparams), each @ each.T),
            (per_example.dot(dparams, params), each @ flat),
            (curvature.ggn_diagonal(net, LOSS, params, x, y), unflatten((jacobian**2).sum((1, 2)).mean(0))),
        )

    for actual, expected in pairs(params, flat):
        for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            # Of the biases of keys, all gradients are 0.
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14 + 1e-11 * np.abs(theirs).max())


def test_repeated_it_keeps_each_array_once():
    """x for three products; q, k, v; the heads' output, for its own backward and for the last product."""
    net = jn.repeat(NETS["causal"], 5)
    params = jax.eval_shape(net.init, jax.random.key(0))
    _, (_, kept) = jax.eval_shape(net.forward, params, jax.ShapeDtypeStruct((3, 7, 4), jnp.float32))
    shapes = sorted(leaf.shape for leaf in jax.tree.leaves(kept))
    assert shapes == sorted([(5, 3, 7, 4)] * 5 + [(5, 3, 2, 1, 7)] * 2)


@every_net
def test_in_mixed_precision_it_computes_in_the_short_type(name, key):
    params, x = NETS[name].init(key), jax.random.normal(key, (3, 4, 4))
    nets = jn.mixed_precision(NETS[name]), NETS[name]
    grads, expected = jax.jit(lambda *arguments: [jn.value_and_grad(net, LOSS)(*arguments)[1] for net in nets])(
        params, x, x
    )
    for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.01 + 0.03 * np.abs(theirs).max())


def test_it_is_printed_as_it_was_made():
    net = jn.multi_head_attention(8, 4, kv_heads=2)
    assert repr(net) == (
        "chain(branches(dense(8, 8), dense(8, 4), dense(8, 4)), attention(4, kv_heads=2), dense(8, 8))"
    )


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((0, 1), {}, "multi_head_attention: expected d to be a positive integer, got 0"),
        ((8, 0), {}, "multi_head_attention: expected heads to be a positive integer, got 0"),
        ((8, 3), {}, "multi_head_attention: expected heads to divide d 8, got 3"),
        ((8, 4), {"kv_heads": 3}, "attention: expected kv_heads to divide heads 4, got 3"),
    ],
)
@pytest.mark.usefixtures("without_shape_annotations")
def test_wrong_numbers_are_refused(sizes, options, message):
    with pytest.raises(ValueError) as error:
        jn.multi_head_attention(*sizes, **options)
    assert str(error.value) == message
