"""A rule that is right where it is given alone is blamed itself, and not the plain function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn
from jaxnet.testing import check_layer, check_vjp

pytestmark = pytest.mark.usefixtures("without_shape_annotations")

Z = np.random.default_rng(0).normal(size=(3, 5))
TARGETS = np.eye(5)[[0, 2, 4]] * 0.9 + 0.02


def cross_entropy(z, t):
    return -(t * jax.nn.log_softmax(z)).sum(-1)


def for_targets_that_sum_to_one(z, t):
    """Right on the simplex alone."""

    def pullback(dy):
        return dy[:, None] * (jax.nn.softmax(z) - t), -dy[:, None] * jax.nn.log_softmax(z)

    return cross_entropy(z, t), pullback


def rule(f, slope):
    return lambda x: (f(x), lambda dy: (slope(x) * dy,))


def test_targets_that_sum_to_one():
    with pytest.raises(AssertionError) as error:
        check_vjp(cross_entropy, for_targets_that_sum_to_one, Z, TARGETS)
    first, second = str(error.value).splitlines()
    assert first == (
        "check_vjp: cross_entropy, float64, with each argument moved by 0.001 of its size, though right as given:"
    )
    assert second.startswith("  d(argument 0)[")


# With how far one has to go, in the arguments' sizes.
RIGHT_NEARBY_ALONE = {
    "within one": (lambda x: jnp.where(jnp.abs(x) <= 1, 2 * x, jnp.sign(x)), 0.3),
    "for positive numbers": (lambda x: 2 * jnp.abs(x), 1),
    "while it is small": (lambda x: 2 * jnp.clip(x, -2, 2), 3),
}


@pytest.mark.parametrize("where", RIGHT_NEARBY_ALONE)
def test_a_branch_that_the_given_point_does_not_take(where):
    slope, far = RIGHT_NEARBY_ALONE[where]
    with pytest.raises(AssertionError, match=rf"^check_vjp: square, float64, with each argument moved by {far} of its"):
        check_vjp(jnp.square, rule(jnp.square, slope), np.linspace(0.3, 0.9, 12))


def test_a_layer_that_is_right_for_small_inputs_alone(key):
    tanh = jn.tanh._replace(forward=lambda p, z: (jnp.tanh(z), z), second=None)
    clipped = tanh._replace(backward=lambda p, z, da: ((), da * (1 - jnp.tanh(jnp.clip(z, -1, 1)) ** 2)))
    x = 0.5 * np.cos(np.arange(15.0)).reshape(5, 3)
    with pytest.raises(AssertionError, match=r"^check_layer: <lambda>, float64, with each argument moved by "):
        check_layer(clipped, x, key)


LIMITED = {
    "log": (jnp.log, lambda x: 1 / x, np.array([0.1, 0.5, 2.0, 3.0])),
    "log of 1 - x": (lambda x: jnp.log1p(-x), lambda x: -1 / (1 - x), np.array([0.1, 0.5, 0.99])),
    "sqrt": (jnp.sqrt, lambda x: 0.5 / jnp.sqrt(x), np.array([0.05, 1.0])),
    "arcsin": (jnp.arcsin, lambda x: 1 / jnp.sqrt((1 - x) * (1 + x)), np.array([-0.9, 0.0, 0.9])),
    "exp": (jnp.exp, jnp.exp, np.array([-5.0, 500.0])),
    "a levelled one": (jnp.tanh, lambda x: 1 / jnp.cosh(x) ** 2, np.array([0.1])),
}


@pytest.mark.parametrize("name", LIMITED)
def test_a_function_that_ends_before_is_asked_as_far_as_it_goes(name):
    f, slope, x = LIMITED[name]
    check_vjp(f, rule(f, slope), x, short_types=())
    with pytest.raises(AssertionError, match=r"^check_vjp: \S+, float64, with each argument moved by "):
        # Wrong wherever it is not at the given point.
        check_vjp(f, rule(f, lambda z: slope(z) * (1 + 1e-3 * (z != x).any().astype(z.dtype))), x, short_types=())


def test_integers_and_constants_stay(key):
    """Rows and one-hot targets are what they were, wherever the floating arguments go."""
    rows, seen = jnp.array([2, 0]), []

    def pick(x, rows):
        jax.debug.callback(lambda rows: seen.append(tuple(int(row) for row in rows)), rows)
        return x[rows] ** 2

    def by_hand(x, rows):
        return pick(x, rows), lambda dy: (jnp.zeros_like(x).at[rows].add(2 * x[rows] * dy), None)

    check_vjp(pick, by_hand, np.array([0.5, -1.0, 2.0]), rows, short_types=())
    jax.effects_barrier()
    assert set(seen) == {(2, 0)}
