"""Layers with random options, shapes and lengths: backward is `jax.vjp` of forward, example by example.

Convolutions, pools and attention in blocks have grids of their own. HYPOTHESIS_PROFILE=thorough tries many more.
"""

from functools import partial

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxnet as jn
from jaxnet import per_example
from jaxnet.testing.closeness import is_floating
from jaxnet.weighting import weighted

m = 3
# A program is compiled for each.
FEW = settings(max_examples=max(3, hypothesis.settings.default.max_examples // 4))


def sizes(least=1, most=4):
    return st.integers(least, most)


@st.composite
def transposed(draw):
    """What makes a layer, the shape of each input that has a derivative, and the integers that come after them."""
    axes, groups = draw(st.integers(1, 2)), draw(sizes(1, 2))

    def each(least, most):
        return tuple(draw(st.lists(sizes(least, most), min_size=axes, max_size=axes)))

    channels = groups * draw(sizes(1, 2)), groups * draw(sizes(1, 2))
    padding = draw(st.sampled_from(["SAME", "VALID"]))
    options = {"stride": each(1, 3), "dilation": each(1, 2), "padding": padding, "groups": groups}
    layer = partial(jn.conv_transpose, *channels, each(1, 3), bias=draw(st.booleans()), **options)
    return layer, [(*each(1, 3), channels[0])], []


@st.composite
def norms(draw):
    groups, of_each, bias = draw(sizes(1, 3)), draw(sizes(1, 3)), draw(st.booleans())
    positions = draw(st.lists(sizes(2, 3), min_size=1, max_size=2))
    make = partial(all_norms, groups, groups * of_each, draw(st.sampled_from([1e-5, 0.1])), bias)
    return make, [(*positions, groups * of_each)], []


def all_norms(groups, channels, epsilon, bias):
    options = {"epsilon": epsilon, "bias": bias}
    of_positions = jn.group_norm(groups, channels, **options), jn.instance_norm(channels, **options)
    return jn.branches(jn.layer_norm(channels, **options), jn.rms_norm(channels, epsilon=epsilon), *of_positions)


@st.composite
def over_time(draw):
    inputs, hidden, times = draw(sizes()), draw(sizes()), draw(sizes())
    make = draw(st.sampled_from([jn.rnn, jn.gru, jn.lstm]))
    layer = partial(make, inputs, hidden, last=draw(st.booleans()), bias=draw(st.booleans()))
    lengths = draw(st.none() | st.lists(sizes(0, times), min_size=m, max_size=m))
    return layer, [(times, inputs)], [] if lengths is None else [lengths]


@st.composite
def attentions(draw):
    kv_heads, of_each, keys = draw(sizes(1, 2)), draw(sizes(1, 2)), draw(sizes())
    heads, c, f = kv_heads * of_each, draw(sizes(1, 2)), draw(sizes(1, 2))
    options = {"causal": draw(st.booleans()), "window": draw(st.none() | sizes(1, 3))}
    aligned = options["causal"] or options["window"] is not None
    lengths = draw(st.none() | st.lists(sizes(0, keys), min_size=m, max_size=m))
    layer = partial(jn.attention, heads, kv_heads=kv_heads, block=draw(st.none() | sizes(1, 3)), **options)
    shapes = [(keys if aligned else draw(sizes()), heads * c), (keys, kv_heads * c), (keys, kv_heads * f)]
    return layer, shapes, [] if lengths is None else [lengths]


@st.composite
def tables(draw):
    rows, d, times = draw(sizes()), draw(sizes()), draw(sizes())
    padding = draw(st.none() | sizes(0, rows - 1))
    ids = draw(st.lists(st.lists(sizes(0, rows - 1), min_size=times, max_size=times), min_size=m, max_size=m))
    return partial(jn.embedding, rows, d, padding=padding), [], [ids]


@st.composite
def without_parameters(draw):
    times, half = draw(sizes()), draw(sizes(1, 3))
    before, behind = draw(sizes(0, 2)), draw(sizes(0, 2))
    return partial(all_without_parameters, half, before, behind), [(times, 2 * half)], []


def all_without_parameters(half, before, behind):
    """Of all of them one program."""
    layers = jn.glu, jn.swiglu, jn.geglu, jn.log_softmax, jn.flatten, jn.global_mean, jn.rotary(half), jn.sinusoidal()
    return jn.branches(*layers, jn.transpose((2, 1)), jn.pad(((before, behind), (behind, before))))


@st.composite
def at_positions(draw):
    times, d, outputs, bias = draw(sizes()), draw(sizes()), draw(sizes()), draw(st.booleans())
    axis = draw(st.sampled_from([1, 2, -1]))
    size = times if axis == 1 else d
    part = draw(st.integers(-size, size - 1) | st.slices(size).filter(lambda part: len(range(size)[part]) > 0))
    shape = draw(st.sampled_from([(times * d,), (-1, d), (d, times), (1, times, d), (times, -1, 1)]))
    make = partial(all_at_positions, times + draw(sizes(0, 2)), d, outputs, bias, part, axis, shape)
    return make, [(times, d)], []


def all_at_positions(length, d, outputs, bias, part, axis, shape):
    """Of all of them one program: a table before a dense layer, a part, another shape before a dense layer."""
    before, behind = (jn.dense(inputs, outputs, bias=bias) for inputs in (d, shape[-1]))
    return jn.branches(
        jn.chain(jn.position_table(length, d), before), jn.take(part, axis=axis), jn.chain(jn.reshape(shape), behind)
    )


# What makes layers, and not layers: the checks of annotations draw at random, which strategies must not.
KINDS = {
    "at positions": at_positions(),
    "attention": attentions(),
    "conv_transpose": transposed(),
    "embedding": tables(),
    "norms": norms(),
    "over time": over_time(),
    "without parameters": without_parameters(),
}


@pytest.mark.parametrize("kind", KINDS)
@FEW
@given(data=st.data())
def test_whatever_the_options_backward_is_that_of_jax(kind, data):
    make, shapes, integers = data.draw(KINDS[kind])
    layer = make()
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        inputs = tuple(jnp.asarray(rng.standard_normal((m, *shape))) for shape in shapes)
        others = tuple(jnp.asarray(of_one, jnp.int32) for of_one in integers)
        blank = jax.eval_shape(layer.init, jax.random.key(0))
        params = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), blank)
        weights = jnp.asarray(rng.standard_normal(m))

        @jax.jit
        def both(params, inputs):
            def given_to(inputs):
                parts = (*inputs, *others)
                return parts[0] if len(parts) == 1 else parts

            def apply(params, inputs):
                return floating(layer.apply(params, given_to(inputs)))

            y, cache = layer.forward(params, given_to(inputs))
            expected, vjp = jax.vjp(apply, params, inputs)
            # Lengths that are handed on have none.
            dy = jax.tree.map(lambda leaf: cosines(leaf) if is_floating(leaf) else None, y)
            dparams, dx = layer.backward(params, cache, dy)
            of_weighted, _ = vjp([weighted(weights, leaf) for leaf in jax.tree.leaves(dy)])
            _, of_inputs = vjp(jax.tree.leaves(dy))
            ours = floating(y), per_example.total(dparams, weights), jax.tree.leaves(dx)
            return ours, (expected, of_weighted, list(of_inputs))

        actual, expected = both(params, inputs)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for ours, theirs in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * max(1, np.abs(theirs).max(initial=0)))


def floating(tree):
    return list(filter(is_floating, jax.tree.leaves(tree)))


def cosines(like):
    return jnp.cos(jnp.arange(like.size, dtype=like.dtype)).reshape(like.shape)
