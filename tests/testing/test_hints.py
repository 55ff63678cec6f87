"""A hint is given where it explains the whole difference, and nowhere else."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.testing.hints import value_hint

RIGHT = np.random.default_rng(0).normal(size=(4, 5))
ONE = np.zeros_like(RIGHT)
ONE[1, 2] = 1
FACTORS = [2.0, 1.01, 1 + 1e-5, 1 - 1e-6, -0.5, 1e6]


@pytest.mark.parametrize("factor", FACTORS)
def test_one_factor_everywhere_is_told(factor):
    assert value_hint(factor * RIGHT, RIGHT, ()) == f"; off by the factor {factor:.6g} everywhere"


@pytest.mark.parametrize("mistake", [1e-12, 1e-9, 1e-6, 1e-4, 1e-2, 1.0, -3.0, 1e6])
def test_one_wrong_element_is_no_factor(mistake):
    assert "factor" not in value_hint(RIGHT * (1 + mistake * ONE), RIGHT, RIGHT.shape)
    assert "factor" not in value_hint(RIGHT + mistake * ONE, RIGHT, RIGHT.shape)


@pytest.mark.parametrize("mistake", [1e-12, 1e-9, 1e-6, 1e-4, 1e-2])
def test_small_differences_here_and_there_are_no_factor(mistake):
    differences = np.random.default_rng(1).normal(size=RIGHT.shape)
    assert value_hint(RIGHT * (1 + mistake * differences), RIGHT, ()) == ""


@pytest.mark.parametrize("factor", FACTORS)
def test_a_factor_that_the_small_elements_have_not_is_none(factor):
    """A column a million times smaller is right, whatever the large ones are times."""
    right = RIGHT * np.array([1, 1, 1, 1, 1e-6])
    hand = right * np.array([*[factor] * 4, 1.0])
    assert "factor" not in value_hint(hand, right, ())


def test_what_rounding_makes_of_a_short_type_is_no_factor():
    for dtype in (jnp.float32, jnp.bfloat16):
        assert value_hint(RIGHT.astype(dtype), RIGHT, ()) == ""
    assert value_hint((2 * RIGHT).astype(jnp.float32), RIGHT, ()) == "; off by the factor 2 everywhere"
