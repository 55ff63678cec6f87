"""Norms without a bias; and in bfloat16, where what is rounded twice hides behind what is rounded once."""

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_reading import assert_readings_are_autodiffs

import jaxnet as jn

WITHOUT_BIAS = {
    "layer_norm": (jn.layer_norm(6), jn.layer_norm(6, bias=False)),
    "group_norm": (jn.group_norm(3, 6), jn.group_norm(3, 6, bias=False)),
    "instance_norm": (jn.instance_norm(6), jn.instance_norm(6, bias=False)),
}
# Of x (32, 3, 6): its groups apart, and the axes that a statistic is over.
NORMS = {
    "layer_norm": (jn.layer_norm(6), (32, 3, 1, 6), (2, 3)),
    "rms_norm": (jn.rms_norm(6), (32, 3, 1, 6), (2, 3)),
    "group_norm": (jn.group_norm(3, 6), (32, 3, 3, 2), (1, 3)),
    "instance_norm": (jn.instance_norm(6), (32, 3, 6, 1), (1, 3)),
}


@pytest.mark.parametrize("name", WITHOUT_BIAS)
def test_without_a_bias_it_is_the_layer_whose_bias_is_zero(name, key):
    with_bias, without = WITHOUT_BIAS[name]
    x, dy = jax.random.normal(key, (2, 4, 3, 6))
    params, of_both = without.init(key), with_bias.init(key)
    assert params.bias is None
    assert repr(without) == f"{repr(with_bias)[:-1]}, bias=False)"
    (y, cache), (expected_y, of_both_cache) = without.forward(params, x), with_bias.forward(of_both, x)
    dparams, dx = without.backward(params, cache, dy)
    expected, expected_dx = with_bias.backward(of_both, of_both_cache, dy)
    assert dparams.bias is None
    for ours, theirs in ((y, expected_y), (dx, expected_dx), (dparams.gain.g, expected.gain.g)):
        np.testing.assert_array_equal(ours, theirs)


def test_without_biases_everything_is_read_as_ever(x64):
    block = jn.residual(jn.chain(jn.layer_norm(6, bias=False), jn.dense(6, 6), jn.group_norm(2, 6, bias=False)))
    assert_readings_are_autodiffs(jn.repeat(jn.recompute(block), 2), drawn.normal(4, 2, 6))


@pytest.mark.usefixtures("without_shape_annotations")
@pytest.mark.parametrize("name", WITHOUT_BIAS)
def test_parameters_with_a_bias_are_refused_without_one_and_the_other_way_round(name, key):
    with_bias, without = WITHOUT_BIAS[name]
    x = np.ones((2, 3, 6), np.float32)
    for layer, other, expected, got in (
        (with_bias, without, "(6,)", "None"),
        (without, with_bias, "None", "(6,)"),
    ):
        with pytest.raises(ValueError) as error:
            layer.forward(other.init(key), x)
        assert str(error.value) == (
            f"{layer!r}: expected parameters gain (6,) and bias {expected}, got gain (6,) and bias {got}; "
            "they are another layer's"
        )


def exact_forward(name, params, x):
    """y, n and r, by their definition."""
    _, apart, axes = NORMS[name]
    c = x.reshape(apart)
    if name != "rms_norm":
        c = c - c.mean(axes, keepdims=True)
    r = ((c**2).mean(axes, keepdims=True) + 1e-5) ** -0.5
    n = (c * r).reshape(x.shape)
    return n * params[0] + (params[1] if len(params) > 1 else 0), n, r


def exact_backward(name, params, n, r, dy):
    """dx, and each example's dgain and dbias, from n and r as they were kept."""
    _, apart, axes = NORMS[name]
    dn, n_apart = (dy * params[0]).reshape(apart), n.reshape(apart)
    r = r.reshape([1 if axis in axes else size for axis, size in enumerate(apart)])
    dc = r * (dn - n_apart * (dn * n_apart).mean(axes, keepdims=True))
    if name != "rms_norm":
        # The mean of n is 0 before it is rounded.
        dc = dc - r * dn.mean(axes, keepdims=True)
    return dc.reshape(n.shape), (dy * n).sum(1), *([dy.sum(1)] if len(params) > 1 else [])


def assert_rounded_once(actual, exact):
    """By half a unit of bfloat16's last place, and what float32 errs by."""
    assert actual.dtype == jnp.bfloat16
    unit = 2.0 ** (np.floor(np.log2(np.abs(exact))) - 7)
    assert (np.abs(np.asarray(actual, np.float64) - exact) <= 0.51 * unit + 2e-6 * np.abs(exact).max()).all()


@pytest.mark.parametrize("name", NORMS)
def test_in_bfloat16_every_number_is_rounded_once(name, key):
    """Neither a statistic nor the terms of a gain's gradient are rounded on the way: op by op, as they stand."""
    layer, keys = NORMS[name][0], jax.random.split(key, 3)
    x = jnp.exp(jax.random.normal(keys[0], (32, 1, 1))) * (1 + jax.random.normal(keys[1], (32, 3, 6)))
    dy, params = jax.random.normal(keys[2], x.shape), layer.init(key)
    params = jax.tree.map(lambda leaf: leaf + jnp.linspace(0.1, 1, 6), params)
    x, dy, params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (x, dy, params))
    y, cache = layer.forward(params, x)
    dparams, dx = layer.backward(params, cache, dy)
    long_x, long_dy, long_cache, of_params = jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64), (x, dy, cache, tuple(params))
    )
    exact_y, exact_n, exact_r = exact_forward(name, of_params, long_x)
    np.testing.assert_allclose(np.ravel(long_cache[1]), np.ravel(exact_r), rtol=2e-6)
    gradients = jn.per_example.each(dparams)
    exact = exact_y, exact_n, *exact_backward(name, of_params, *long_cache, long_dy)
    for ours, theirs in zip((y, cache[0], dx, *gradients), exact, strict=True):
        assert_rounded_once(ours, theirs)
