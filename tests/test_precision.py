"""Mixed precision: short arithmetic, long parameters and sums."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from own_layers import lookup

import jaxnet as jn
from jaxnet import per_example

LOSS = jn.losses.softmax_cross_entropy_with_integer_labels
NETWORKS = {
    "deep": jn.mlp((6, 8, 8, 4), jn.tanh),
    "relu": jn.mlp((6, 8, 4), jn.relu),
    "residual, repeated, recomputed": jn.chain(
        jn.dense(6, 8),
        jn.repeat(jn.recompute(jn.residual(jn.chain(jn.dense(8, 8), jn.tanh))), 3),
        jn.dense(8, 4),
    ),
}
EXAMPLES = 16
READINGS = {
    "mean": per_example.mean,
    "each": per_example.each,
    "squared_norms": per_example.squared_norms,
    "clipped_mean": lambda dparams: per_example.clipped_mean(dparams, 0.5),
    "second_moment": per_example.second_moment,
    "gram": per_example.gram,
}


def readings(net, params, x, y):
    z, cache = net.forward(params, x)
    dparams, dx = net.backward(params, cache, LOSS.backward(z, y))
    return z, dx, {name: read(dparams) for name, read in READINGS.items()}


def errors(net, dtype, key):
    """The largest difference of every quantity from that without mixed precision, relative to its largest value."""
    params, x = net.init(key), jax.random.normal(key, (EXAMPLES, 6))
    y = jnp.arange(EXAMPLES) % 4
    actual, expected = (
        jax.jit(readings, static_argnums=0)(f, params, x, y) for f in (jn.mixed_precision(net, dtype), net)
    )
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    assert {leaf.dtype for leaf in jax.tree.leaves(actual)} == {x.dtype}
    return [
        float(np.abs(a - e).max() / np.abs(e).max())
        for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_values_gradients_and_readings_err_as_the_short_type_does(name, key):
    """Half a unit in the last of 8 bits is 2^-9; some ten roundings in a row, and squares, which double an error."""
    worst = max(errors(NETWORKS[name], jnp.bfloat16, key))
    assert 2**-9 < worst < 20 * 2**-9


@pytest.mark.parametrize("name", NETWORKS)
def test_in_float32_below_float64_it_errs_as_float32_does(name, x64, key):
    worst = max(errors(NETWORKS[name], jnp.float32, key))
    assert 2**-26 < worst < 20 * 2**-24


@pytest.mark.parametrize("name", NETWORKS)
def test_in_its_own_type_nothing_changes(name, key):
    assert max(errors(NETWORKS[name], jnp.float32, key)) == 0


def test_caches_are_short_and_the_structure_stays(key):
    net = jn.mixed_precision(jn.chain(jn.dense(6, 8), jn.tanh))
    _, cache = net.forward(net.init(key), jnp.ones((EXAMPLES, 6)))
    assert [leaf.dtype for leaf in jax.tree.leaves(cache)] == [jnp.bfloat16] * 2
    assert len(jn.signals(net, net.init(key), cache, jnp.ones((EXAMPLES, 8)))) == 3


def test_sums_over_examples_are_long(key):
    """257 is no bfloat16, and a sum of ones in that type ends at 256."""
    layer = jn.mixed_precision(jn.dense(1, 1))
    params, x = jn.Dense(W=jnp.ones((1, 1)), b=jnp.ones(1)), jnp.ones((257, 1))
    dparams, _ = layer.backward(params, layer.forward(params, x)[1], x)
    for read in (per_example.total, lambda d: per_example.total(d, jnp.ones(257))):
        assert jax.tree.leaves(read(dparams)) == [257, 257]
    assert per_example.dot(dparams, params).dtype == jnp.float32


def test_products_take_short_factors_and_give_long_sums(key):
    net = jn.mixed_precision(jn.dense(6, 4))
    params, x = net.init(key), jnp.ones((EXAMPLES, 6))
    text = jax.jit(jn.value_and_grad(net, LOSS)).lower(params, x, jnp.zeros(EXAMPLES, int)).as_text()
    assert "(tensor<16x4xbf16>, tensor<16x6xbf16>) -> tensor<4x6xf32>" in text


def test_small_updates_are_not_lost_in_large_weights(key):
    """1 - 2^-10 is no bfloat16; a thousand such steps must add up."""
    net = jn.mixed_precision(jn.dense(1, 1))
    params, x = jn.Dense(W=jnp.ones((1, 1)), b=jnp.zeros(1)), jnp.ones((4, 1))
    optimizer = optax.sgd(2.0**-10)
    state = jn.TrainState.create(params, optimizer)
    step = jn.make_step(net, jn.losses.half_squared_error, optimizer)
    for _ in range(1000):
        state, metrics = step(state, x, jnp.zeros((4, 1)))
    assert metrics["loss"] < 0.02


def test_curvature_goes_through(key):
    net = jn.mlp((6, 5, 4), jn.tanh)
    params, x, y = net.init(key), jax.random.normal(key, (EXAMPLES, 6)), jnp.arange(EXAMPLES) % 4
    quantities = jn.curvature.ggn_diagonal, jn.curvature.hessian_diagonal, jn.curvature.kflr

    @jax.jit
    def pairs(*arguments):
        return [[quantity(f, LOSS, *arguments) for f in (jn.mixed_precision(net), net)] for quantity in quantities]

    for ours, theirs in pairs(params, x, y):
        for a, e in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, e, rtol=0, atol=20 * 2**-9 * np.abs(e).max())


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint16, jnp.bool_])
def test_integers_and_booleans_stay_what_they_are(dtype, key):
    """Token 257 is no bfloat16; outputs and gradients keep the type that the parameters have."""
    rows = 2 if dtype == jnp.bool_ else 300
    net = jn.chain(lookup(rows, 4), jn.dense(4, 3))
    params, x = net.init(key), jnp.array([[257], [1]]).astype(dtype)
    short = jn.mixed_precision(net)

    @jax.jit
    def everything(params, x):
        z, cache = short.forward(params, x)
        dparams, dx = short.backward(params, cache, jax.random.normal(key, z.shape))
        assert dx is None
        return z, net.apply(params, x), cache, per_example.mean(dparams)

    z, expected, cache, mean = everything(params, x)
    assert z.dtype == jnp.float32
    assert jax.tree.leaves(cache)[0].dtype == dtype
    np.testing.assert_allclose(z, expected, atol=20 * 2**-9 * float(jnp.abs(z).max()))
    assert {leaf.dtype for leaf in jax.tree.leaves(mean)} == {jnp.dtype(jnp.float32)}


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.bool_])
@pytest.mark.parametrize("wrap", [lambda net: net, jn.with_hand_derived_vjp, jax.jit], ids=["apply", "vjp", "jit"])
def test_a_layer_that_takes_no_integers_refuses_them_in_its_own_words(dtype, wrap, key):
    net = jn.mixed_precision(jn.dense(3, 2))
    function = wrap(net.apply) if wrap is jax.jit else getattr(wrap(net), "apply", wrap(net))
    with pytest.raises(ValueError) as error:
        function(net.init(key), np.ones((2, 3), dtype))
    name = np.dtype(dtype).name
    assert str(error.value).splitlines()[0] == (
        f"dense(3, 2): expected x of W's dtype float32, got {name}; convert it with x.astype('float32')"
    )


def test_a_type_without_fractions_is_refused():
    with pytest.raises(ValueError, match=r"^mixed_precision: expected a floating-point type, got int8$"):
        jn.mixed_precision(jn.dense(3, 2), jnp.int8)
