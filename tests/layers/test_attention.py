from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from torch_results import RESULTS, assert_as_torch

import jaxnet as jn
from jaxnet import curvature, per_example

# The shapes of q, k and v besides.
CASES = {
    "one head, causal, window to both sides": (
        jn.branches(jn.attention(1), jn.attention(2, causal=True), jn.attention(2, window=2)),
        *[(4, 4)] * 3,
    ),
    "grouped, causal, window": (jn.attention(4, causal=True, window=2, kv_heads=2), (5, 8), (5, 4), (5, 4)),
    "other lengths and widths": (jn.attention(2, kv_heads=1), (3, 4), (5, 2), (5, 3)),
    "one position": (jn.attention(2, causal=True), (1, 4), (1, 4), (1, 4)),
}
every_case = pytest.mark.parametrize("name", CASES)


def triple(name, key, dtype=None):
    keys = jax.random.split(key, 3)
    return tuple(jax.random.normal(k, (3, *shape), dtype) for k, shape in zip(keys, CASES[name][1:], strict=True))


@every_case
def test_backward_equals_autodiff(name, key):
    # Of one position the probability is 1, whatever q and k are.
    jn.testing.check_layer(CASES[name][0], triple(name, key), key, zero_gradients=name == "one position")


@pytest.mark.parametrize("name", [name for name in RESULTS if name.startswith("attention")])
def test_forward_and_backward_equal_pytorchs(name, x64):
    assert_as_torch(name, eval(f"jn.{name}"))


def projected(width=4, heads=2, **options):
    return jn.chain(jn.branches(*(jn.dense(width, width) for _ in range(3))), jn.attention(heads, **options))


def test_inside_combinators_backward_equals_autodiff(key):
    net = jn.repeat(jn.recompute(jn.residual(projected(causal=True))), 2)
    jn.testing.check_layer(net, jax.random.normal(key, (3, 4, 4)), key)


def test_readings_and_curvature_equal_autodiffs(x64, key):
    net, loss = jn.chain(projected(causal=True), jn.dense(4, 2)), jn.losses.half_squared_error
    params, x, y = net.init(key), jax.random.normal(key, (3, 4, 4)), jnp.ones((3, 4, 2))
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    @jax.jit
    def both(flat):
        params = unflatten(flat)
        _, each = jn.value_and_grad(net, loss, read=lambda d, _: per_example.each(d))(params, x, y)
        jacobian = jax.jacfwd(lambda flat: net.apply(unflatten(flat), x))(flat)
        gradients = jax.jacfwd(lambda flat: loss.forward(net.apply(unflatten(flat), x), y))(flat)
        of_hand = each, curvature.ggn_diagonal(net, loss, params, x, y)
        return of_hand, (jax.vmap(unflatten)(gradients), unflatten((jacobian**2).sum((1, 2)).mean(0)))

    for ours, theirs in zip(*map(jax.tree.leaves, both(flat)), strict=True):
        # Of the bias of keys, all gradients are 0.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13 + 1e-12 * np.abs(theirs).max())
    with pytest.raises(ValueError, match="attention"):
        curvature.hessian_diagonal(net, loss, params, x, y)


def test_a_position_sees_what_it_may_and_nothing_else(key):
    """How the output changes with each position of v."""
    q, k, v = jax.random.normal(key, (3, 1, 6, 2))
    seen = {
        jn.attention(1, causal=True): np.tri(6),
        jn.attention(1, causal=True, window=2): np.tri(6) - np.tri(6, k=-2),
        jn.attention(1, window=3): np.tri(6, k=2) - np.tri(6, k=-3),
        jn.attention(1, window=9): np.ones((6, 6)),
    }
    jacobians = jax.jit(jax.jacobian(lambda v: [layer.apply((), (q, k, v))[0].sum(-1) for layer in seen]))(v)
    for jacobian, expected in zip(jacobians, seen.values(), strict=True):
        np.testing.assert_array_equal(np.asarray(jacobian)[:, 0].sum(-1) != 0, expected)


def test_the_cache_holds_no_probabilities(key):
    name = "grouped, causal, window"
    x = triple(name, key)
    y, cache = CASES[name][0].forward((), x)
    assert all(kept is given for kept, given in zip(cache, (*x, y), strict=False))
    assert cache.largest.shape == cache.total.shape == (3, 2, 2, 5)


def test_far_out_the_largest_score_takes_all():
    q, k = jnp.full((1, 1, 1), 1e4), jnp.array([[[-1e4], [1e4], [0.0]]])
    v = jnp.array([[[1.0], [2.0], [3.0]]])
    y, cache = jn.attention(1).forward((), (q, k, v))
    np.testing.assert_array_equal(y, [[[2.0]]])
    _, dx = jn.attention(1).backward((), cache, jnp.ones_like(y))
    np.testing.assert_array_equal(dx[2], [[[0.0], [1.0], [0.0]]])
    np.testing.assert_array_equal(dx[0], [[[0.0]]])


def test_in_bfloat16_sums_are_longer(key):
    """Over 512 positions, each of a probability that rounding in bfloat16 would make a sum of 256 at most."""
    q, k = jnp.zeros((1, 1, 1), jnp.bfloat16), jnp.zeros((1, 512, 1), jnp.bfloat16)
    y, cache = jn.attention(1).forward((), (q, k, jnp.ones((1, 512, 1), jnp.bfloat16)))
    assert y.dtype == jnp.bfloat16
    assert cache.total.dtype == jnp.float32
    np.testing.assert_array_equal(cache.total, 512)
    np.testing.assert_array_equal(np.float32(y), 1.0)


def test_where_scores_are_large_probabilities_still_sum_to_1(key):
    """All that comes back to the values is all that was sent; log-sum-exp alone would lose two digits."""
    q, k, v = 12 * jax.random.normal(key, (3, 8, 6, 4))
    y, cache = jn.attention(1).forward((), (q, k, v))
    _, (_, _, dv) = jn.attention(1).backward((), cache, jnp.ones_like(y))
    assert np.abs(cache.largest).max() > 100
    np.testing.assert_allclose(dv.sum(1), np.full((8, 4), 6.0), rtol=1e-6)


@jax.jit
def gradients(of_net, x, y):
    """Of whole heads on a device, and of heads that the devices share."""
    return {
        kv_heads: jn.value_and_grad(over_mesh(kv_heads), jn.losses.half_squared_error)(params, x, y)
        for kv_heads, params in of_net.items()
    }


def over_mesh(kv_heads):
    return jn.chain(jn.multi_head_attention(4, 2, kv_heads=kv_heads, causal=True), jn.dense(4, 2))


@cache
def on_one_device():
    """What is asked, and the answers; with 64-bit types enabled."""
    key = jax.random.key(2026)
    of_net = {kv_heads: over_mesh(kv_heads).init(key) for kv_heads in (1, 2)}
    given = jax.device_get((of_net, jax.random.normal(key, (8, 4, 4)), jnp.ones((8, 4, 2))))
    return given, jax.device_get(gradients(*given))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("spec", [(), ("model",)], ids=["batch", "batch and neurons"])
def test_over_a_mesh_it_is_what_one_device_has(kind, spec, x64):
    (of_net, *batch), expected = on_one_device()
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)
    with jax.set_mesh(mesh):
        of_params, rows = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (spec, ("data",)))
        actual = jax.device_get(gradients(jax.device_put(of_net, of_params), *jax.device_put(batch, rows)))
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)


def test_exported_for_every_platform_it_is_the_same(key):
    name = "grouped, causal, window"
    layer, x = CASES[name][0], triple(name, key)

    def both(x):
        y, cache = layer.forward((), x)
        return y, layer.backward((), cache, jnp.cos(y))[1]

    exported = jax.export.export(jax.jit(both), platforms=("cpu", "cuda", "tpu"))(x)
    called = jax.export.deserialize(exported.serialize()).call(x)
    for ours, theirs in zip(jax.tree.leaves(called), jax.tree.leaves(both(x)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_it_is_printed_as_it_was_made():
    assert repr(jn.attention(4)) == "attention(4)"
    assert repr(CASES["grouped, causal, window"][0]) == "attention(4, causal=True, window=2, kv_heads=2)"


@pytest.mark.parametrize(
    ("heads", "options", "message"),
    [
        (0, {}, "attention: expected heads to be a positive integer, got 0"),
        (4, {"kv_heads": 3}, "attention: expected kv_heads to divide heads 4, got 3"),
        (4, {"kv_heads": 0}, "attention: expected kv_heads to be a positive integer, got 0"),
        (4, {"window": 0}, "attention: expected window to be a positive integer, got 0"),
    ],
)
@pytest.mark.usefixtures("without_shape_annotations")
def test_wrong_numbers_are_refused(heads, options, message):
    with pytest.raises(ValueError) as error:
        jn.attention(heads, **options)
    assert str(error.value) == message


ARRAYS = "expected a tuple of q (m, t, d), k (m, s, e) and v (m, s, f), got"
EIGHT = (2, 3, 8)


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        (jn.attention(2), (EIGHT, EIGHT), f"attention(2): {ARRAYS} (2, 3, 8), (2, 3, 8)"),
        (jn.attention(2), (EIGHT, EIGHT, (2, 8)), f"attention(2): {ARRAYS} (2, 3, 8), (2, 3, 8), (2, 8)"),
        (
            jn.attention(3),
            (EIGHT, EIGHT, EIGHT),
            "attention(3): expected q (m, t, 3 c), k (m, s, 3 c) and v (m, s, 3 f), "
            "got (2, 3, 8), (2, 3, 8) and (2, 3, 8)",
        ),
        (
            jn.attention(4, kv_heads=2),
            (EIGHT, EIGHT, EIGHT),
            "attention(4, kv_heads=2): expected q (m, t, 4 c), k (m, s, 2 c) and v (m, s, 2 f), "
            "got (2, 3, 8), (2, 3, 8) and (2, 3, 8)",
        ),
        (
            jn.attention(2),
            (EIGHT, (2, 5, 8), EIGHT),
            "attention(2): expected q (m, t, 2 c), k (m, s, 2 c) and v (m, s, 2 f), "
            "got (2, 3, 8), (2, 5, 8) and (2, 3, 8)",
        ),
        (
            jn.attention(2, causal=True),
            (EIGHT, (2, 5, 8), (2, 5, 8)),
            "attention(2): expected k to be as long as q, since causal and window compare positions, got 5 and 3",
        ),
    ],
)
@pytest.mark.usefixtures("without_shape_annotations")
def test_shapes_that_do_not_fit_are_refused(layer, shapes, message):
    with pytest.raises(ValueError) as error:
        layer.forward((), tuple(map(jnp.ones, shapes)))
    assert str(error.value) == message
    with pytest.raises(ValueError) as error:
        layer.forward((), jnp.ones(EIGHT))
    assert str(error.value).startswith(repr(layer).replace(", causal=True", "") + f": {ARRAYS} a ")


def test_products_with_the_hessian_equal_autodiffs(x64, key):
    net, loss = jn.chain(projected(causal=True), jn.dense(4, 2)), jn.losses.half_squared_error
    params, x, y = net.init(key), jax.random.normal(key, (3, 4, 4)), jnp.ones((3, 4, 2))
    direction = jax.tree.map(jnp.cos, params)
    gradient = jax.grad(lambda params: loss.forward(net.apply(params, x), y).mean())

    @jax.jit
    def both(params, direction):
        _, expected = jax.jvp(gradient, (params,), (direction,))
        return curvature.hessian_vector_product(net, loss, params, x, y, direction), expected

    actual, expected = both(params, direction)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14 + 1e-12 * np.abs(theirs).max())


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"kv_heads": 2}], ids=str)
def test_compiled_no_matrix_of_scores_is_turned_round(options):
    layer = jn.attention(4, **options)
    q, k = (jax.ShapeDtypeStruct((4, 256, heads * 32), jnp.float32) for heads in (4, options.get("kv_heads", 4)))

    def both(q, k, v, dy):
        y, cache = layer.forward((), (q, k, v))
        return y, layer.backward((), cache, dy)

    program = jax.jit(both).lower(q, k, k, q).compile()
    turned = [line for line in program.as_text().splitlines() if " transpose(" in line and "256,256" in line]
    assert turned == []
    # Probabilities, their cotangents and what both are made of; with positions before heads it is one more.
    assert program.memory_analysis().temp_size_in_bytes <= 3.6 * 4 * 4 * 256**2 * 4


def test_in_a_chain_of_blocks_one_matrix_of_scores_is_kept_for_each():
    def temporaries(depth):
        net = jn.transformer(65, width=128, heads=4, depth=depth, length=256, repeat=False)
        gradient = jn.value_and_grad(net, jn.losses.softmax_cross_entropy_with_integer_labels)
        ids = jax.ShapeDtypeStruct((4, 256), jnp.int32)
        program = jax.jit(gradient).lower(jax.eval_shape(net.init, jax.random.key(0)), ids, ids).compile()
        return program.memory_analysis().temp_size_in_bytes

    # All else that is kept of a block is as much as three such matrices; a second one would be four and one.
    assert temporaries(4) - temporaries(2) <= 2 * 4 * (4 * 4 * 256**2 * 4)
