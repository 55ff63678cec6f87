"""float32 and bfloat16 are asked as ordinary programs run them, where JAX can run them at all."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from broken import EXAMPLES, INPUTS

import jaxnet as jn
from jaxnet.testing import check_layer, check_loss, check_network, check_vjp

pytestmark = pytest.mark.usefixtures("without_shape_annotations", "usual_promotion")

X = np.array([0.3, -1.2, 0.7])
FLOAT32 = ("float32",)
# Each makes an array whose type follows from whether 64-bit types are enabled.
OF_THE_DEFAULT_TYPE = {
    "arange": lambda x: x / (jnp.arange(3) + 1),
    "eye": lambda x: jnp.eye(3) @ x,
    "zeros": lambda x: jnp.where(x > 0, x, jnp.zeros(3)),
    "linspace": lambda x: x * jnp.linspace(1, 2, 3),
    "a list": lambda x: x * jnp.array([1.0, 2.0, 3.0]),
    "random numbers": lambda x: x * jax.random.normal(jax.random.key(0), (3,)),
}


@pytest.fixture
def usual_promotion():
    """As users have it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@jax.custom_vjp
def solve(A, b):
    return jnp.linalg.solve(A, b)


def solve_forward(A, b):
    u = jnp.linalg.solve(A, b)
    return u, (A, u)


def solve_backward(saved, du):
    A, u = saved
    db = jnp.linalg.solve(A.T, du)
    return -jnp.outer(db, u), db


solve.defvjp(solve_forward, solve_backward)


def spectrum(x):
    return jnp.abs(jnp.fft.rfft(x)) ** 2


def root(A):
    return jnp.linalg.cholesky(A @ A.T + jnp.eye(3, dtype=A.dtype))


# What JAX raises of LAPACK's types, before 0.12 and since.
OF_LAPACK = ("NotImplementedError: ", "TypeError: ")
WITHOUT_BFLOAT16 = {
    "solve": (jnp.linalg.solve, solve, ((4, 4), (4,)), OF_LAPACK),
    "fft": (spectrum, spectrum, ((8,),), ("ValueError: RFFT input must be float32 or float64, got bfloat16",)),
    "cholesky": (root, root, ((3, 3),), OF_LAPACK),
}


def arguments(shapes):
    draw = np.random.default_rng(0)
    return [draw.standard_normal(shape) + (4 * np.eye(*shape) if len(shape) == 2 else 0) for shape in shapes]


def with_rule(f, backward):
    @jax.custom_vjp
    def rule(x):
        return f(x)

    rule.defvjp(lambda x: (f(x), x), backward)
    return rule


@pytest.mark.parametrize("made_by", OF_THE_DEFAULT_TYPE)
def test_arrays_of_the_default_type_are_no_mistake(made_by):
    f = OF_THE_DEFAULT_TYPE[made_by]
    check_vjp(f, with_rule(f, lambda x, dy: jax.vjp(f, x)[1](dy)), X)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_short_type_is_run_with_64_bit_types_on(dtype):
    """Autodiff, rule, huge and tiny arguments: all of it."""
    seen = []

    def f(x):
        seen.append((x.dtype, bool(jax.config.jax_enable_x64)))
        return x**2

    check_vjp(f, with_rule(f, lambda x, dy: (seen.append((x.dtype, jax.config.jax_enable_x64)) or 2 * x * dy,)), X)
    assert {enabled for type_, enabled in seen if type_ == dtype} == {False}
    assert {enabled for type_, enabled in seen if type_ == "float64"} == {True}


def test_a_rule_that_is_wrong_in_an_ordinary_float32_program_alone_is_found():
    """Right wherever 64-bit types are enabled, whatever the type."""

    def backward(x, dy):
        return ((2 if jnp.arange(1).dtype == "int64" else 2.01) * x * dy,)

    with pytest.raises(AssertionError) as error:
        check_vjp(jnp.square, with_rule(jnp.square, backward), X)
    assert str(error.value).startswith("check_vjp: square, float32, jitted:\n  d(argument 0)[")


@pytest.mark.parametrize("name", WITHOUT_BFLOAT16)
def test_a_type_that_jax_cannot_run_the_plain_function_in_is_left_out_with_a_warning(name):
    f, rule, shapes, reasons = WITHOUT_BFLOAT16[name]
    with pytest.warns(UserWarning, match="is left out") as warned:
        check_vjp(f, rule, *arguments(shapes))
    (warning,) = warned
    told = str(warning.message)
    start = f"check_vjp: {f.__name__}: bfloat16 is left out, since JAX cannot run the plain function in it ("
    assert told.startswith(tuple(start + reason for reason in reasons))
    assert told.endswith("); short_types names those to ask")


@pytest.mark.parametrize("name", WITHOUT_BFLOAT16)
def test_a_type_that_is_not_asked_is_not_warned_of(name):
    f, rule, shapes, _ = WITHOUT_BFLOAT16[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_vjp(f, rule, *arguments(shapes), short_types=FLOAT32)


def test_the_types_that_are_asked_are_those_named():
    for short_types in ((), ("bfloat16",), ("float16", "float32")):
        seen = set()

        def f(x, seen=seen):
            seen.add(str(x.dtype))
            return x**2

        check_vjp(f, f, X, short_types=short_types)
        assert seen == {"float64", *short_types}


@pytest.mark.parametrize("short_types", ["float32", ("float64",), ("single",)], ids=str)
def test_types_of_another_name_are_refused(short_types):
    with pytest.raises(ValueError) as error:
        check_vjp(jnp.sin, jnp.sin, X, short_types=short_types)
    assert str(error.value) == (
        "check_vjp: expected short_types to be a tuple of 'float32', 'bfloat16' and 'float16', "
        f"got {short_types!r}; float64 is always asked"
    )


def test_a_rule_that_fails_where_the_plain_function_runs_is_found():
    def backward(x, dy):
        if dy.dtype == jnp.bfloat16:
            raise NotImplementedError("no bfloat16 here\nnor anywhere")
        return (2 * x * dy,)

    with pytest.raises(AssertionError) as error:
        check_vjp(jnp.square, with_rule(jnp.square, backward), X)
    assert str(error.value) == "check_vjp: square, bfloat16, jitted: raised NotImplementedError: no bfloat16 here"


def test_a_rule_that_cannot_be_compiled_where_the_plain_function_can_is_found():
    """JAX finds out late that LAPACK has no bfloat16."""

    def f(A, b):
        return A @ b

    def rule(A, b):
        return f(A, b), lambda dy: (jnp.outer(dy, b) + 0 * jnp.linalg.inv(A), A.T @ dy)

    with pytest.raises(AssertionError) as error:
        check_vjp(f, rule, *arguments(((4, 4), (4,))))
    start = "check_vjp: f, bfloat16, jitted: raised "
    assert str(error.value).startswith(tuple(start + reason for reason in OF_LAPACK))


def test_the_other_checks_take_the_types_as_well(key):
    """What is wrong in bfloat16 alone passes where that is not asked, and only there."""

    def mistaken(cotangent):
        return cotangent * (2 if cotangent.dtype == jnp.bfloat16 else 1)

    tanh = jn.tanh._replace(backward=lambda p, a, da: ((), mistaken(jn.tanh.backward(p, a, da)[1])), second=None)
    loss = jn.losses.half_squared_error
    broken_loss = loss._replace(backward=lambda z, y: mistaken(loss.backward(z, y)))
    x, y = jax.random.normal(key, (EXAMPLES, INPUTS)), jnp.ones((EXAMPLES, INPUTS))
    for check in (
        lambda **types: check_layer(tanh, x, key, **types),
        lambda **types: check_loss(broken_loss, x, y, **types),
        lambda **types: check_network(tanh, loss, (), x, y, **types),
    ):
        check(short_types=())
        with pytest.raises(AssertionError, match=r"bfloat16, jitted:\n  d"):
            check(short_types=("bfloat16",))
