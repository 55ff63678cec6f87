"""Attention in blocks is attention: the same numbers, without the matrix of all probabilities."""

import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn
from jaxnet import curvature
from jaxnet.attending.in_blocks import Blocks
from jaxnet.attending.sight import Sight

# heads, options, and the shapes of q, k and v besides the examples; lengths where there are four.
CASES = {
    "one head": (1, {}, (7, 2), (5, 2), (5, 3)),
    "causal, grouped": (4, {"causal": True, "kv_heads": 2}, (7, 8), (7, 4), (7, 2)),
    "causal, window": (2, {"causal": True, "window": 3}, (6, 4), (6, 4), (6, 4)),
    "window to both sides, lengths": (2, {"window": 2}, (7, 4), (7, 4), (7, 4), ()),
    "causal, lengths, dropout": (2, {"causal": True, "dropout": 0.4}, (5, 4), (5, 4), (5, 4), ()),
    "keys fewer than a block": (1, {}, (7, 2), (1, 2), (1, 2)),
    "no keys": (1, {}, (4, 2), (0, 2), (0, 2)),
}
LENGTHS = (0, 2, 5)
BLOCK = 3
every_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def in_blocks_on_cpus(monkeypatch):
    """Few positions are many, and go in blocks of 2, where the platform decides."""
    monkeypatch.setattr("jaxnet.attending.in_blocks.ON_CPUS", 1)
    monkeypatch.setattr("jaxnet.attending.in_blocks.BLOCK", 2)


def layer_of(name, key, block):
    heads, options, *_ = CASES[name]
    return jn.bind(jn.attention(heads, block=block, **options), key)


def signals(name, key, dtype=None):
    shapes = CASES[name][2:]
    keys = jax.random.split(key, 3)
    x = [jax.random.normal(k, (3, *shape), dtype) for k, shape in zip(keys, shapes, strict=False)]
    return (*x, jnp.array(LENGTHS)) if len(shapes) == 4 else tuple(x)


def values(layer, x, dys):
    """Forward, backward, and columns sent back at once."""
    y, cache = layer.forward((), x)
    return y, cache[4:6], jax.vmap(lambda dy: layer.backward((), cache, dy)[1])(dys)


@every_case
def test_in_blocks_values_and_columns_are_those_of_all_at_once(name, x64, key):
    x = signals(name, key)
    whole, in_blocks = (layer_of(name, key, block) for block in (100, BLOCK))
    dys = jax.random.normal(key, (2, *jax.eval_shape(whole.apply, (), x).shape))

    @jax.jit
    def all_three(x, dys):
        plain = lambda *three: whole.apply((), (*three, *x[3:]))  # noqa: E731
        _, pullback = jax.vjp(plain, *x[:3])
        return values(in_blocks, x, dys), values(whole, x, dys), jax.vmap(pullback)(dys)

    actual, expected, by_autodiff = all_three(x, dys)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    ours = jax.tree.leaves((actual, actual[2]))
    for one, other in zip(ours, jax.tree.leaves((expected, by_autodiff)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * max(1, np.abs(other).max(initial=0.0)))


def test_in_blocks_backward_equals_autodiff(key):
    name = "window to both sides, lengths"
    jn.testing.check_layer(layer_of(name, key, BLOCK), signals(name, key), key)


def scans_of(name, key, block):
    """How often each scan of the forward pass goes round."""
    jaxpr = jax.make_jaxpr(layer_of(name, key, block).forward)((), signals(name, key))
    return [equation.params["length"] for equation in jaxpr.eqns if equation.primitive.name == "scan"]


@pytest.mark.parametrize(
    ("name", "block", "pairs"),
    [
        ("one head", 2, 4 * 3),
        ("causal, grouped", 2, 4 + 3 + 2 + 1),
        ("causal, window", 2, 3 + 2),
        ("window to both sides, lengths", 2, 4 + 3 + 3),
        ("causal, window", 1, 6 + 5 + 4),
    ],
)
def test_blocks_that_see_nothing_of_each_other_are_left_out(name, block, pairs, key):
    assert scans_of(name, key, block) == [pairs]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 13), st.booleans(), st.none() | st.integers(1, 13))
@settings(max_examples=100)
def test_blocks_that_see_something_of_each_other_are_all_there(t, s, block, causal, window):
    back = np.arange(t)[:, None] - np.arange(s)[None]
    seen = (back >= 0) | (not causal)
    seen &= np.abs(back) < (window or t + s)
    blocks = Blocks(block, t, s)
    expected = sorted({(i // blocks.sizes[0], j // blocks.sizes[1]) for i, j in np.argwhere(seen)})
    pairs = sorted(zip(*np.asarray(blocks.pairs(Sight(causal, window, None, 0.0, None))), strict=True))
    assert set(expected) <= set(pairs)
    # One more at most for each block of queries: of the last, those that only fill up may see a key.
    assert len(pairs) <= len(expected) + -(-t // blocks.sizes[0]) * (t % blocks.sizes[0] > 0 or s % blocks.sizes[1] > 0)


def test_by_default_more_positions_than_1024_go_in_blocks_of_256(key):
    def scans(t, s):
        q, k = (jax.ShapeDtypeStruct((1, length, 2), jnp.float32) for length in (t, s))
        jaxpr = jax.make_jaxpr(jn.attention(1).forward)((), (q, k, k))
        return [equation.params["length"] for equation in jaxpr.eqns if equation.primitive.name == "scan"]

    assert scans(1024, 1024) == []
    assert scans(1025, 1024) == [5 * 4]
    # One query at a time, however many keys.
    assert scans(1, 2**17) == []


@pytest.mark.parametrize(
    ("t", "options", "platform", "in_blocks"),
    [
        (512, {"causal": True}, "cpu", True),
        (512, {"window": 100}, "cpu", True),
        (512, {"causal": True}, "cuda", False),
        (511, {"causal": True}, "cpu", False),
        (512, {}, "cpu", False),
        (512, {"causal": True, "block": 512}, "cpu", False),
    ],
)
def test_on_cpus_512_positions_that_do_not_all_see_each_other_go_in_blocks(t, options, platform, in_blocks):
    layer, x = jn.attention(1, **options), jax.ShapeDtypeStruct((1, t, 2), jnp.float32)

    def both(q, k, v):
        y, cache = layer.forward((), (q, k, v))
        return layer.backward((), cache, y)[1]

    for program in (layer.apply, lambda params, x: both(*x)):
        lowered = jax.jit(program).trace((), (x, x, x)).lower(lowering_platforms=(platform,))
        assert ("stablehlo.while" in lowered.as_text()) == in_blocks


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_on_cpus_blocks_by_default_are_attention_at_once(dropout, x64, key):
    q, k, v, dy = jax.random.normal(key, (4, 2, 512, 4))
    lengths = jnp.array([512, 300])

    def columns(block):
        layer = jn.bind(jn.attention(2, causal=True, window=200, block=block, dropout=dropout), key)

        def gradients(dy):
            y, cache = layer.forward((), (q, k, v, lengths))
            return y, layer.backward((), cache, dy)[1]

        return jax.jit(jax.vmap(gradients))(jnp.stack([dy, jnp.flip(dy)]))

    chex.assert_trees_all_close(columns(None), columns(512), rtol=1e-12, atol=1e-12)


def test_outside_of_jit_a_second_pass_compiles_nothing(key, caplog):
    layer, x = jn.attention(1, causal=True), tuple(jax.random.normal(key, (3, 1, 512, 2)))
    for compiles in (True, False):
        caplog.clear()
        with jax.log_compiles():
            y, cache = layer.forward((), x)
            layer.backward((), cache, y)
        assert ("Compiling" in caplog.text) == compiles


def test_compiled_every_product_contracts_the_last_axis_of_its_first_factor():
    """The others are left to a library that takes twice as long for them on a CPU."""
    layer, x = jn.attention(4, causal=True, block=256), jax.ShapeDtypeStruct((4, 1024, 128), jnp.float32)

    def both(q, k, v, dy):
        y, cache = layer.forward((), (q, k, v))
        return y, layer.backward((), cache, dy)

    program = jax.jit(both).lower(x, x, x, x).compile().as_text()
    # Forward has two products, backward five.
    assert re.findall(r" dot\(.*lhs_contracting_dims={(\d)}", program) == ["3"] * 7


def test_at_2048_positions_memory_is_at_most_a_quarter_of_autodiffs():
    x = jax.ShapeDtypeStruct((4, 2048, 256), jnp.float32)
    loss = jn.losses.half_squared_error
    net, whole = (jn.multi_head_attention(256, 4, causal=True, block=block) for block in (None, 2048))

    def mean_loss(params, x, y):
        return loss.forward(whole.apply(params, x), y).mean()

    params = jax.eval_shape(net.init, jax.random.key(0))
    ours, theirs = (
        jax.jit(gradient).lower(params, x, x).compile().memory_analysis().temp_size_in_bytes
        for gradient in (jn.value_and_grad(net, loss), jax.value_and_grad(mean_loss))
    )
    assert ours <= theirs / 4


def test_memory_grows_as_positions_do():
    def memory(t):
        x = jax.ShapeDtypeStruct((1, t, 32), jnp.float32)
        layer = jn.attention(2, block=64)

        def both(q, k, v):
            y, cache = layer.forward((), (q, k, v))
            return layer.backward((), cache, y)[1]

        return jax.jit(both).lower(x, x, x).compile().memory_analysis().temp_size_in_bytes

    assert memory(2048) <= 2.2 * memory(1024)
    assert memory(4096) <= 2.2 * memory(2048)


def test_in_bfloat16_what_runs_is_longer(key):
    """Sums of exponentials of 512 keys, which rounding in bfloat16 would leave at 256."""
    q, k, v = (jnp.zeros((1, t, 1), jnp.bfloat16) + value for t, value in ((1, 0), (512, 0), (512, 1)))
    layer = jn.attention(1, block=64)
    y, cache = layer.forward((), (q, k, v))
    assert (y.dtype, cache.total.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_array_equal(cache.total, 512)
    np.testing.assert_array_equal(np.float32(y), 1.0)
    _, dx = layer.backward((), cache, jnp.ones_like(y))
    assert {d.dtype for d in dx} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("block", [2, 100, None], ids=["in blocks", "at once", "as the platform has it"])
def test_over_a_mesh_with_heads_over_devices_it_is_what_one_device_has(kind, block, x64, key, in_blocks_on_cpus):
    layer = jn.bind(jn.attention(2, causal=True, block=block, dropout=0.3), key)
    x = (*np.asarray(jax.random.normal(key, (3, 8, 5, 4))), np.arange(8) % 6)

    def both(x):
        y, cache = layer.forward((), x)
        return y, jax.vmap(lambda scale: layer.backward((), cache, scale * jnp.cos(y))[1])(jnp.arange(2.0))

    expected = jax.device_get(jax.jit(both)(jax.tree.map(jnp.asarray, x)))
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)
    specs = *[PartitionSpec("data", None, "model")] * 3, PartitionSpec("data")
    with jax.set_mesh(mesh):
        spread = tuple(jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip(x, specs, strict=True))
        actual = jax.device_get(jax.jit(both)(spread))
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_products_with_the_hessian_equal_those_of_all_at_once(x64, key, in_blocks_on_cpus):
    x, y = jax.random.normal(key, (2, 5, 4)), jnp.ones((2, 5, 4))
    products = []
    for block in (2, None, 100):
        net = jn.multi_head_attention(4, 2, causal=True, block=block)
        params = net.init(key)
        arguments = net, jn.losses.half_squared_error, params, x, y, jax.tree.map(jnp.cos, params)
        product = partial(curvature.hessian_vector_product, *arguments[:2])
        products.append(jax.jit(product)(*arguments[2:]))
    for *ours, theirs in zip(*map(jax.tree.leaves, products), strict=True):
        for one in ours:
            np.testing.assert_allclose(one, theirs, rtol=0, atol=1e-14 + 1e-12 * np.abs(theirs).max())


@pytest.mark.parametrize("block", [2, None], ids=["in blocks", "at once"])
def test_values_and_gradients_are_those_of_jaxs_own_attention(block, x64, key, optax_promotion):
    """With heads of keys that serve two of queries, causal, with lengths. JAX's softmax is in float32."""
    q, k, v = (jax.random.normal(key, (3, 5, width)) for width in (8, 4, 4))
    lengths = jnp.array([1, 3, 5], jnp.int32)
    layer = jn.attention(4, causal=True, kv_heads=2, block=block)

    def by_jax(q, k, v):
        q, k, v = (x.reshape(3, 5, -1, 2) for x in (q, k, v))
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True, key_value_seq_lengths=lengths)
        return y.reshape(3, 5, 8)

    @jax.jit
    def both(q, k, v):
        expected, pullback = jax.vjp(by_jax, q, k, v)
        y, cache = layer.forward((), (q, k, v, lengths))
        return (y, layer.backward((), cache, jnp.cos(y))[1]), (expected, (*pullback(jnp.cos(y)), None))

    actual, expected = both(q, k, v)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for ours, theirs in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
