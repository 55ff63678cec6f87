"""Where gradients are formed before they are read, and what that saves: counted by the compiler, never run."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn
from jaxnet import per_example
from jaxnet.factored import BUDGET, Stacked, forming
from jaxnet.layer import at_leaves

LOSS = jn.losses.half_squared_error
EXAMPLES = 16


def outer(positions, o=12, i=12, examples=EXAMPLES):
    return jn.Outer(jnp.ones((examples, positions, o)), jnp.ones((examples, positions, i)))


def is_formed(leaf, **options):
    return isinstance(per_example.formed(leaf, **options), jn.Each)


@pytest.mark.parametrize(
    ("positions", "for_norms", "without_budget", "for_moments", "moments_without_budget"),
    [
        # 3 o i = 432 and o i = 144; 2 T^2 (o + i) is 48, 192, 432, 768 and 1728, T (o + i) 24 to 144, T^2 (o + i) too.
        (1, False, False, False, False),
        (2, False, False, True, False),
        (3, False, False, True, True),
        (4, True, False, True, True),
        (6, True, True, True, True),
    ],
)
def test_a_gradient_is_formed_where_that_takes_fewer_operations(
    positions, for_norms, without_budget, for_moments, moments_without_budget
):
    form = outer(positions)
    assert is_formed(form) == for_norms
    assert is_formed(form, budget=0) == without_budget
    assert is_formed(form, moments=True) == for_moments
    assert is_formed(form, budget=0, moments=True) == moments_without_budget


def test_the_budget_is_for_all_weights_together_and_what_finds_no_room_stays():
    leaf, numbers = outer(4), EXAMPLES * 12 * 12
    kinds = {
        budget: [isinstance(form, jn.Each) for form in per_example.formed([leaf, leaf, outer(6), leaf], budget)]
        for budget in (numbers - 1, numbers, 2 * numbers, 3 * numbers)
    }
    assert kinds == {
        numbers - 1: [False, False, True, False],
        numbers: [True, False, True, False],
        2 * numbers: [True, True, True, False],
        3 * numbers: [True, True, True, True],
    }
    stacked = Stacked(jax.tree.map(lambda array: jnp.stack([array] * 3), leaf))
    assert isinstance(per_example.formed(stacked, 3 * numbers).layers, jn.Each)
    assert isinstance(per_example.formed(stacked, 3 * numbers - 1).layers, jn.Outer)


def test_of_an_unknown_number_of_examples_only_what_costs_no_numbers_is_formed():
    kinds = []

    def read(few, many):
        kinds.extend(type(form) for form in per_example.formed((jn.Outer(few, few), jn.Outer(many, many))))
        return few

    (m,) = jax.export.symbolic_shape("m")
    few, many = (jax.ShapeDtypeStruct((m, positions, 12), jnp.float32) for positions in (4, 6))
    jax.export.export(jax.jit(read))(few, many)
    assert kinds == [jn.Outer, jn.Each]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_what_is_formed_is_read_in_the_type_that_the_factors_are_read_in(dtype, key):
    dz, a = (jax.random.normal(k, (EXAMPLES, 6, 12), dtype) for k in jax.random.split(key))
    form = jn.Outer(dz, a)
    formed = per_example.formed(form)
    assert formed.g.dtype == jnp.float32
    exact = np.einsum("mto,mti->moi", *(np.asarray(array, np.float64) for array in (dz, a)))
    for read in (per_example.total, per_example.each, per_example.second_moment, per_example.gram):
        assert read(formed).dtype == read(form).dtype == dtype
    np.testing.assert_allclose(np.asarray(formed.total(None), float), exact.sum(0), atol=200 * jnp.finfo(dtype).eps)
    long = formed.summed_in(jnp.float32)
    assert long.total(None).dtype == jnp.float32
    np.testing.assert_allclose(long.total(None), exact.sum(0), atol=1e-4)


def lowered(read, sizes=(64, 128, 64), positions=(40,)):
    """The program of the loss and a reading, of a dense network."""
    net = jn.mlp(sizes, jn.relu)
    x, y = (jax.ShapeDtypeStruct((EXAMPLES, *positions, size), jnp.float32) for size in (sizes[0], sizes[-1]))
    return jax.jit(jn.value_and_grad(net, LOSS, read=read)).lower(jax.eval_shape(net.init, KEY), x, y)


def compiled(read):
    return lowered(read).compile()


KEY = jax.eval_shape(lambda: jax.random.key(0))


def operations(program):
    return program.cost_analysis()["flops"]


def numbers_kept(program):
    return program.memory_analysis().temp_size_in_bytes


def of_reading(reading):
    return lambda dparams, weights: reading(dparams)


WITH_BUDGETS = (per_example.noise_scale, per_example.second_moment, per_example.variance, per_example.signal_to_noise)


@pytest.mark.parametrize(
    "read",
    [per_example.clipped(1.0), *map(of_reading, WITH_BUDGETS)],
    ids=["clipped", *(reading.__name__ for reading in WITH_BUDGETS)],
)
def test_with_positions_a_reading_takes_few_operations_more_than_the_gradient(read):
    """T = 40 positions at weights (128, 64): 2 T^2 (o + i) is 25 times 3 o i, and T (o + i) 15 / 16 of o i."""
    assert operations(compiled(read)) <= 1.05 * operations(compiled(None))


def test_unformed_clipping_would_take_a_third_more_operations_and_a_fifth_more_memory():
    formed, unformed = compiled(per_example.clipped(1.0)), compiled(per_example.clipped(1.0, budget=0))
    assert operations(unformed) >= 1.25 * operations(formed)
    assert numbers_kept(unformed) >= 1.2 * numbers_kept(formed)


def test_several_readings_of_what_is_formed_take_an_eighth_more_operations_than_the_gradient():
    def everything(dparams, weights):
        dparams = per_example.formed(dparams, moments=True)
        return (
            per_example.mean(dparams),
            per_example.squared_norms_by_leaf(dparams),
            per_example.variance(dparams),
            per_example.noise_scale(dparams),
            per_example.clipped_mean(dparams, 1.0),
        )

    assert operations(compiled(everything)) <= 1.125 * operations(compiled(None))


@pytest.mark.parametrize(
    "readings",
    [[per_example.clipped(1.0, budget=budget) for budget in (BUDGET, 0)]]
    + [[of_reading(partial(reading, budget=budget)) for budget in (BUDGET, 0)] for reading in WITH_BUDGETS],
    ids=["clipped", *(reading.__name__ for reading in WITH_BUDGETS)],
)
def test_without_positions_nothing_is_formed(readings):
    whole, none = (lowered(read, positions=()).as_text() for read in readings)
    assert whole == none


BLOCK = jn.residual(jn.chain(jn.dense(32, 32), jn.tanh))
DEEP = jn.repeat(jn.recompute(BLOCK), 8)


def deep(net, positions=128):
    signal = jax.ShapeDtypeStruct((EXAMPLES, positions, 32), jnp.float32)
    return jax.eval_shape(net.init, KEY), signal, signal


def test_a_repeated_layers_scan_hands_on_gradients_and_not_their_factors():
    """T (o + i) = 8192 numbers for an example, against o i = 1024."""

    def leaves(net):
        def backward(params, x, dy):
            _, cache = net.forward(params, x)
            return net.backward(params, cache, dy)[0]

        return [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(backward, *deep(net)))]

    assert leaves(DEEP) == [(8, EXAMPLES, 128, 32), (8, EXAMPLES, 128, 32), (8, EXAMPLES, 32)]
    assert leaves(at_leaves(forming, DEEP)) == [(8, EXAMPLES, 32, 32), (8, EXAMPLES, 32)]


def test_clipping_of_a_repeated_layer_keeps_less_where_its_leaves_form():
    clip = per_example.clipped(1.0)
    inside, afterwards = (
        numbers_kept(jax.jit(jn.value_and_grad(DEEP, LOSS, read=read)).lower(*deep(DEEP)).compile())
        for read in (clip, clip.read)
    )
    assert inside <= 0.75 * afterwards


@pytest.mark.parametrize("wrap", [lambda net: net, jn.recompute, jn.mixed_precision])
def test_clipped_inside_a_scan_is_what_is_clipped_after_it(wrap, x64, key):
    net = jn.chain(jn.repeat(wrap(BLOCK), 2), jn.dense(32, 4))
    dtype = jnp.float32 if wrap is jn.mixed_precision else jnp.float64
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), net.init(key))
    x, y = jax.random.normal(key, (5, 40, 32), dtype), jax.random.normal(key, (5, 40, 4), dtype)
    weights = jnp.array([0.5, 0.0, 0.25, -0.5, 1.0], dtype)
    clip = per_example.clipped(0.5)
    inside, afterwards = (
        jax.jit(jn.value_and_grad(net, LOSS, read=read))(params, x, y, weights) for read in (clip, clip.read)
    )
    for actual, expected in zip(*map(jax.tree.leaves, (inside, afterwards)), strict=True):
        atol = 1e-5 if dtype == jnp.float32 else 1e-12
        np.testing.assert_allclose(actual, expected, rtol=0, atol=atol * np.abs(expected).max())
