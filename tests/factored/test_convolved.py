"""Convolutions that find more places than are asked for, so that all processors work: the numbers are the same."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from jaxnet.factored import Window
from jaxnet.factored import convolved as module

# Sums of up to 9 * 24 products in float32, 6e-8 each, in another order, relative to the largest.
TOLERANCE = 2e-6
SAME = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
WINDOWS = {
    "same": SAME,
    "none outside": Window((2, 3), (1, 1), ((0, 0), (1, 1)), (1, 1)),
    "dilated": Window((3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2)),
    "of one": Window((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
}


@pytest.fixture(autouse=True)
def on_one_processor(monkeypatch):
    monkeypatch.setattr(module, "ON_ONE_PROCESSOR", True)


def signals(positions=(15, 9), channels=(24, 20), size=(3, 3)):
    rng = np.random.default_rng(0)
    inputs, outputs = channels
    shapes = (4, *positions, inputs), (outputs, *size, inputs)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def convolved(asked, x, W):
    """By JAX, which is told the same."""
    order = lax.ConvDimensionNumbers((0, 3, 1, 2), (0, 3, 1, 2), (0, 3, 1, 2))
    return lax.conv_general_dilated(x, W, asked.stride, asked.padding, None, asked.dilation, order)


def rows_of(function, *arrays):
    """How many places along the first axis each convolution of the program has."""
    text = jax.jit(function).lower(*arrays).as_text()
    lines = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    return [int(line.rsplit("tensor<", 1)[1].split("x")[1]) for line in lines]


@pytest.mark.parametrize("name", WINDOWS)
def test_the_numbers_are_those_of_the_places_that_are_asked_for(name):
    asked = WINDOWS[name]
    x, W = signals(size=asked.size)
    products = partial(asked.products, groups=1)
    expected, back = jax.vjp(partial(convolved, asked), x, W)
    dz = jax.random.normal(jax.random.key(0), expected.shape)
    signal = jax.jit(partial(asked.spread, groups=1, positions=x.shape[1:-1]))(dz, W)
    # Each of the windows finds more, and leaves out what it found.
    assert rows_of(products, x, W)[0] > expected.shape[1]
    for ours, theirs in (
        (products(x, W), expected),
        (jax.jit(products)(x, W), expected),
        (jax.vmap(products, (0, None))(x[:, None], W)[:, 0], expected),
        (signal, back(dz)[0]),
        *zip(jax.vjp(products, x, W)[1](dz), back(dz), strict=True),
        (jax.jvp(products, (x, W), (x, W))[1], 2 * expected),
        (jax.jvp(partial(products, x), (W,), (W,))[1], expected),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * np.abs(theirs).max())


def test_autodiff_of_it_is_that_of_the_places_that_are_asked_for():
    """JAX's own way back from a row that is left out takes several times as long."""
    x, W = signals()

    def loss(products, x, W):
        return products(x, W).sum()

    ours, theirs = (
        jax.jit(jax.grad(partial(loss, products), 1)).lower(x, W).compile().cost_analysis()["flops"]
        for products in (partial(SAME.products, groups=1), partial(convolved, SAME))
    )
    assert ours <= 1.001 * theirs


def test_what_is_not_finite_stays_where_it_was():
    x, W = signals()
    x = x.at[0, -1, 0, 0].set(jnp.nan)
    np.testing.assert_array_equal(
        np.isnan(SAME.products(x, W, 1)), np.isnan(convolved(SAME, x, W)), err_msg="NaN of the last row"
    )


@pytest.mark.parametrize(
    ("positions", "channels", "changed", "further"),
    [
        pytest.param((15, 9), (24, 20), {}, 1, id="as many places as positions"),
        pytest.param((15, 9), (24, 20), {"padding": ((0, 0), (0, 0)), "size": (2, 2)}, 2, id="fewer places"),
        pytest.param((6, 9), (24, 20), {}, 0, id="too few places for another"),
        pytest.param((15, 9), (24, 20), {"stride": (2, 1)}, 0, id="a stride leaves half of them"),
        pytest.param((15, 9), (24, 20), {"padding": ((1, 2), (1, 1))}, 0, id="more places already"),
        pytest.param((15, 9), (24, 20), {"padding": ((1, 1), (1, 2))}, 0, id="more along the second axis"),
        pytest.param((15, 9), (16, 16), {}, 0, id="few channels"),
        pytest.param((15, 9), (1, 20), {}, 0, id="one channel"),
    ],
)
def test_another_place_is_found_where_it_is_worth_the_other_processors(positions, channels, changed, further):
    asked = SAME._replace(**changed)
    x, W = signals(positions, channels, asked.size)
    places, _ = asked.places(positions)
    assert rows_of(partial(asked.products, groups=1), x, W)[0] == places + further


def test_other_types_and_other_versions_find_what_is_asked_for(monkeypatch, x64):
    x, W = signals()
    assert rows_of(partial(SAME.products, groups=1), x.astype(float), W.astype(float)) == [15]
    monkeypatch.setattr(module, "ON_ONE_PROCESSOR", False)
    assert rows_of(partial(SAME.products, groups=1), x, W) == [15]


@pytest.mark.parametrize(("platform", "further"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_other_platforms_find_what_is_asked_for(platform, further):
    x, W = signals()
    program = export.export(jax.jit(partial(SAME.products, groups=1)), platforms=[platform])(x, W)
    assert ("tensor<4x16x9x20xf32>" in program.mlir_module()) == further


def test_outside_of_jit_a_second_convolution_compiles_nothing(caplog):
    x, W = signals((17, 13))  # no other test's

    def compiled():
        caplog.clear()
        with jax.log_compiles():
            SAME.products(x, W, 1)
        return [message for message in caplog.messages if "XLA compilation" in message]

    assert compiled()
    assert compiled() == []
