"""For rules that are not ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from broken import EXAMPLES, INPUTS

from jaxnet.testing import check_vjp

pytestmark = pytest.mark.usefixtures("without_shape_annotations")


def logsumexp(x, scale):
    return jax.nn.logsumexp(scale["a"] * x, axis=-1)


def with_custom_vjp(mistake=1.0):
    @jax.custom_vjp
    def f(x, scale):
        return logsumexp(x, scale)

    def forward(x, scale):
        return f(x, scale), (jax.nn.softmax(scale["a"] * x), x, scale)

    def backward(saved, dy):
        p, x, scale = saved
        return mistake * scale["a"] * p * dy[:, None], {"a": (p * x * dy[:, None]).sum()}

    f.defvjp(forward, backward)
    return f


def test_a_custom_vjp_passes_or_is_told(key):
    args = jax.random.normal(key, (EXAMPLES, INPUTS)), {"a": jnp.float32(0.5)}
    check_vjp(logsumexp, with_custom_vjp(), *args)
    nested = jax.jit(with_custom_vjp())
    check_vjp(logsumexp, nested, *args)
    with pytest.raises(AssertionError) as error:
        check_vjp(logsumexp, with_custom_vjp(1 / EXAMPLES), *args)
    assert str(error.value).startswith("check_vjp: logsumexp, float64, eager:\n  d(argument 0)[")
    assert str(error.value).endswith("; off by a factor of 1/5, the length of an axis: a mean for a sum?")


def test_a_function_returning_its_pullback_passes_or_is_told(key):
    args = jax.random.normal(key, (EXAMPLES, INPUTS)), {"a": jnp.float32(0.5)}
    check_vjp(logsumexp, lambda *args: jax.vjp(logsumexp, *args), *args)

    def forgets_one(x, scale):
        y, pullback = jax.vjp(logsumexp, x, scale)
        return y, lambda dy: pullback(dy)[:1]

    with pytest.raises(AssertionError, match="one for each of 2 arguments, got a tuple of 1$"):
        check_vjp(logsumexp, forgets_one, *args)


def test_a_rule_for_another_function_is_told(key):
    args = jax.random.normal(key, (EXAMPLES, INPUTS)), {"a": jnp.float32(0.5)}
    with pytest.raises(AssertionError, match=r"eager:\n  y\[\d\]: by hand .*; off by the factor 2 everywhere"):
        check_vjp(logsumexp, lambda *args: jax.vjp(lambda *args: 2 * logsumexp(*args), *args), *args)


def test_what_check_grads_lets_pass_is_caught():
    """A mean over 1,000 elements, with a gradient that is 10% wrong."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=1000), jnp.float32)

    def f(x):
        return (x**2).mean()

    def rule(x):
        return f(x), lambda dy: (1.1 * 2 * x / 1000 * dy,)

    with pytest.raises(AssertionError, match="off by the factor 1.1 everywhere"):
        check_vjp(f, rule, x)


def test_a_plain_function_with_a_wrong_rule_inside_is_told_by_central_differences(key):
    @jax.custom_jvp
    def doubled(x):
        return x**2

    doubled.defjvp(lambda primals, tangents: (primals[0] ** 2, 3 * primals[0] * tangents[0]))
    with pytest.raises(AssertionError) as error:
        check_vjp(doubled, lambda x: jax.vjp(doubled, x), jax.random.normal(key, (EXAMPLES, INPUTS)))
    assert "central differences: along a random direction" in str(error.value)
    assert str(error.value).endswith("a rule inside the plain function is wrong, or it jumps here")


def test_integer_arguments_have_no_cotangent(key):
    x, rows = jax.random.normal(key, (EXAMPLES, INPUTS)), jnp.array([0, 2])

    def pick(x, rows):
        return x[rows] ** 2

    def rule(x, rows):
        return pick(x, rows), lambda dy: (jnp.zeros_like(x).at[rows].add(2 * x[rows] * dy), None)

    check_vjp(pick, rule, x, rows)


def test_transposes_and_scattered_signs_are_told(key):
    x = jax.random.normal(key, (EXAMPLES, EXAMPLES))
    weights = np.random.default_rng(1).normal(size=(EXAMPLES, EXAMPLES))

    def f(x):
        return x * weights.astype(x.dtype)

    for wrong, told in (
        (lambda g: g.T, "; transposed"),
        (lambda g: -g.T, "; transposed, with the sign flipped"),
        (jnp.abs, "; some signs flipped"),
    ):
        with pytest.raises(AssertionError) as error:
            check_vjp(f, lambda x, wrong=wrong: (f(x), lambda dy: (wrong(dy * weights.astype(x.dtype)),)), x)
        assert str(error.value).endswith(told)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            np.ones(3, complex),
            "check_vjp: square: expected real numbers, got complex ones; take their real and imaginary parts apart",
        ),
        (np.ones(3, int), "check_vjp: square: expected an argument that holds floating-point numbers, got none"),
    ],
)
def test_arguments_that_nothing_can_be_asked_of_are_named(argument, message):
    def square(x):
        return (x * x).astype(float) if np.issubdtype(x.dtype, np.integer) else x * x

    with pytest.raises(ValueError) as error:
        check_vjp(square, square, argument)
    assert str(error.value) == message
