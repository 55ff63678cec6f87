"""Kinks that a formula brings into a smooth function, at points that a random one never meets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from broken import EXAMPLES, INPUTS

import jaxnet as jn
from jaxnet.testing import check_layer, check_loss
from jaxnet.testing.kinks import check_kinks, special_points

pytestmark = pytest.mark.usefixtures("without_shape_annotations", "x64")

SQUARED = jn.losses.half_squared_error


def by_example(values):
    return values.sum(axis=tuple(range(1, values.ndim)))


# log cosh z, a smooth absolute value, by three forms: the last two branch where z is 0.
def smooth(z):
    return z + jax.nn.softplus(-2 * z) - jnp.log(2.0)


def by_sign(z):
    return jnp.sign(z) * z + jax.nn.softplus(-2 * jnp.sign(z) * z) - jnp.log(2.0)


def by_maximum(z):
    return jnp.maximum(z, -z) + jnp.log1p(jnp.exp(-2 * jnp.abs(z))) - jnp.log(2.0)


def tanh_by_abs(z):
    """tanh z as sign(z) times what it is at |z|, whose derivative at 0 is 0."""
    e = jnp.exp(-2 * jnp.abs(z))
    return jnp.sign(z) * (1 - e) / (1 + e)


def asked(value, slope, curvature=None, shape=(4, 3), targets=None):
    z = np.random.default_rng(0).normal(size=shape)
    points, examples, coordinates = special_points(z, targets)
    targets = np.zeros(len(points)) if targets is None else targets[examples]
    forward = lambda z, y: by_example(value(z, y))  # noqa: E731
    check_kinks("f", forward, slope, curvature, points, targets, coordinates)


def along(curvature):
    return lambda z, y, d: curvature(z) * d


def sech_squared(z):
    return 1 - jnp.tanh(z) ** 2


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3), (1, 2, 5)], ids=str)
def test_what_is_right_passes(shape):
    asked(lambda z, y: smooth(z), lambda z, y: jnp.tanh(z), along(sech_squared), shape)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (by_maximum, "the slope of forward is 1 by steps to either side, and 0 by jax.grad of forward"),
        (by_sign, "the slope of backward is 1 by steps to either side, and 0 by jax.jvp of jax.grad of forward"),
    ],
)
def test_a_kink_in_the_form_of_forward_is_told(form, told):
    with pytest.raises(AssertionError) as error:
        asked(lambda z, y: form(z) + z, lambda z, y: jnp.tanh(z) + 1, along(sech_squared))
    assert str(error.value) == f"f, at the special point [0., 0., 0.], along number 0: {told}"


def test_a_kink_in_the_form_of_backward_is_told():
    with pytest.raises(AssertionError) as error:
        asked(lambda z, y: smooth(z), lambda z, y: tanh_by_abs(z), along(sech_squared))
    assert str(error.value) == (
        "f, at the special point [0., 0., 0.], along number 0: the slope of backward is 1 by steps to either side, and "
        "0 by jax.jvp of backward"
    )


def test_a_wrong_curvature_at_one_point_alone_is_told():
    def curvature(z):
        return jnp.where(z == 1, 0.0, sech_squared(z))

    with pytest.raises(AssertionError) as error:
        asked(lambda z, y: smooth(z), lambda z, y: jnp.tanh(z), along(curvature))
    assert str(error.value) == (
        "f, at the special point [1., 1., 1.], along number 0: the slope of backward is 0.419974 by steps to either "
        "side, and 0 by root_hessian"
    )


@pytest.mark.parametrize("wrong", [jnp.nan, 0.5])
@pytest.mark.parametrize("at", [0.0, 1.0, -1.0, 6.0])
def test_a_wrong_value_at_one_point_alone_is_told(at, wrong):
    with pytest.raises(AssertionError, match=rf"point \[{at:g}.* by backward$"):
        asked(lambda z, y: z**2, lambda z, y: jnp.where(z == at, wrong, 2 * z))


def test_at_minus_zero_it_is_asked_as_well():
    def slope(z, y):
        return jnp.where((z == 0) & jnp.signbit(z), 1.0, jnp.tanh(z))

    with pytest.raises(AssertionError, match=r"point \[-0., -0., -0.\], .* by backward$"):
        asked(lambda z, y: smooth(z), slope)


def test_where_two_outputs_tie_it_is_asked_as_well():
    """The largest of two is not smooth; the sum of the largest and the smallest is, and its derivative 1."""

    def value(z, y):
        return jnp.maximum(z[:, 0], z[:, 1])[:, None] + jnp.minimum(z[:, 0], z[:, 1])[:, None]

    def slope(z, y):
        return 1.0 + (z == z[:, ::-1]).astype(z.dtype)

    asked(value, lambda z, y: jnp.ones_like(z), shape=(4, 2))
    with pytest.raises(AssertionError, match=r" by backward$"):
        asked(value, slope, shape=(4, 2))


def test_where_outputs_equal_their_targets_it_is_asked_as_well():
    targets = np.random.default_rng(1).normal(size=(4, 3))

    def slope(z, y):
        return jnp.where(z == y, 1.0, z - y)

    asked(lambda z, y: (z - y) ** 2 / 2, lambda z, y: z - y, targets=targets)
    with pytest.raises(AssertionError, match=r" the slope of forward is .* and 1 by backward$"):
        asked(lambda z, y: (z - y) ** 2 / 2, slope, targets=targets)


@pytest.mark.parametrize("slope", [-1.0, 0.0, 0.3, 1.0])
def test_at_a_true_kink_either_side_is_allowed_and_what_is_between(slope):
    def backward(z, y):
        return jnp.where(z == 0, slope, jnp.sign(z))

    asked(lambda z, y: jnp.abs(z), backward)


@pytest.mark.parametrize("slope", [-1.1, 2.0, jnp.nan])
def test_at_a_true_kink_nothing_else_is_allowed(slope):
    with pytest.raises(AssertionError, match=r"is -1 to 1 by steps to either side, and \S+ by backward$"):
        asked(lambda z, y: jnp.abs(z), lambda z, y: jnp.where(z == 0, slope, jnp.sign(z)))


def test_huber_whose_second_derivative_jumps_passes(key):
    def huber(z, y):
        r = jnp.abs(z - y)
        return by_example(jnp.where(r <= 1, r**2 / 2, r - 0.5))

    def root(z, y):
        curved = (jnp.abs(z - y) <= 1).astype(z.dtype)
        return jnp.eye(z.shape[1])[:, None] * curved[None]

    z = np.random.default_rng(0).normal(size=(4, 3))
    y = z + 0.3
    points, examples, coordinates = special_points(z, y)

    def curvature(z, y, d):
        return root(z, y).sum(0) * d

    check_kinks("huber", huber, lambda z, y: jnp.clip(z - y, -1, 1), curvature, points, y[examples], coordinates)


def test_beyond_a_functions_domain_nothing_is_asked():
    asked(lambda z, y: jnp.log(z), lambda z, y: 1 / z, along(lambda z: -1 / z**2))


def test_a_loss_with_a_kink_in_its_form_is_told(key):
    """As the usual stable form of binary cross-entropy has it."""
    loss = jn.losses.sigmoid_binary_cross_entropy

    def forward(z, y):
        return by_example(jnp.maximum(z, 0) - y * z + jnp.log1p(jnp.exp(-jnp.abs(z))))

    z, y = jax.random.normal(key, (EXAMPLES, INPUTS)), jax.random.uniform(key, (EXAMPLES, INPUTS))
    with pytest.raises(AssertionError) as error:
        check_loss(loss._replace(forward=forward), z, y, short_types=())
    assert str(error.value).startswith("check_loss: ")
    assert ", at the special point [0., 0., 0.], along number 0: the slope of forward is " in str(error.value)


def test_an_activation_with_a_kink_in_its_form_is_told(key):
    x = jax.random.normal(key, (EXAMPLES, INPUTS))
    tanh = jn.tanh._replace(forward=lambda p, z: (tanh_by_abs(z),) * 2)
    with pytest.raises(AssertionError, match=r"^check_layer: <lambda>, at the special point \[0., 0., 0.\], "):
        check_layer(tanh, x, key, short_types=())
    without_second_at_zero = jn.tanh._replace(
        second=lambda p, a, da: jnp.where(a == jnp.tanh(1.0), 0, jn.tanh.second(p, a, da))
    )
    with pytest.raises(AssertionError, match=r"^check_layer: tanh, at the special point \[1., 1., 1.\].* by second$"):
        check_layer(without_second_at_zero, x, key, short_types=())
