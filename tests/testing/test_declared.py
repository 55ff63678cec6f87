"""What a layer says of itself must be so."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

import jaxnet as jn
from jaxnet.testing import check_layer

pytestmark = pytest.mark.usefixtures("without_shape_annotations")


def scaled(inner, by=2.0, told=None):
    """y = by f(x), which tells `made` of f, and of the other options as it is told to."""

    def scaled_forward(params, x):
        y, cache = inner.forward(params, x)
        return by * y, cache

    def scaled_backward(params, cache, dy):
        return inner.backward(params, cache, by * dy)

    made = partial(scaled, inner, by=by) if told is None else told
    return jn.Layer(inner.init, scaled_forward, scaled_backward, made=made)


def softmax_forward(params, x):
    y = jax.nn.softmax(x)
    return y, y


def softmax_backward(params, y, dy):
    return (), y * (dy - (y * dy).sum(-1, keepdims=True))


SOFTMAX = jn.Layer(lambda key: (), softmax_forward, softmax_backward)
MISTAKES = {
    "curved": (
        jn.tanh._replace(kind="linear"),
        "tanh: kind is 'linear', but dy/dx is not the same matrix for all examples and positions; leave kind out",
    ),
    "mixing": (
        SOFTMAX._replace(kind="elementwise"),
        "softmax: kind is 'elementwise', but dx depends on dy in other places; leave kind out, or say 'linear'",
    ),
    "another shape": (
        jn.dense(4, 3)._replace(kind="elementwise"),
        "dense: kind is 'elementwise', but dx depends on dy in other places; leave kind out, or say 'linear'",
    ),
    "no kind": (jn.tanh._replace(kind="curved"), "tanh: kind is 'curved', expected 'linear', 'elementwise' or None"),
    "an option forgotten": (
        scaled(jn.tanh, 3.0, told=partial(scaled, jn.tanh)),
        "scaled: made() makes another layer, of another y; give made every layer and option",
    ),
    "a layer forgotten": (
        scaled(jn.tanh, told=partial(scaled)),
        "scaled: made() makes another layer, which raises TypeError: scaled() missing 1 required positional argument: "
        "'inner'; give made every option",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_said_wrongly_is_told(name, key):
    layer, message = MISTAKES[name]
    with pytest.raises(AssertionError) as error:
        check_layer(layer, jax.random.normal(key, (5, 4)), key, short_types=())
    assert str(error.value) == f"check_layer: {message}"


def test_a_kind_is_said_of_one_array(key):
    layer = jn.Layer(
        lambda key: (), lambda p, x: (x[0] + x[1], ()), lambda p, cache, dy: ((), (dy, dy)), None, "linear"
    )
    with pytest.raises(AssertionError) as error:
        check_layer(layer, (jnp.ones((5, 4)), jnp.ones((5, 4))), key, short_types=())
    assert str(error.value) == (
        "check_layer: <lambda>: kind is 'linear', which is said of one array alone; leave it out of a layer that takes "
        "a tuple"
    )


@pytest.mark.parametrize("shape", [(5, 4), (5, 2, 4)], ids=str)
def test_what_is_said_rightly_passes(shape, key):
    x = jax.random.normal(key, shape)
    for layer in (jn.dense(4, 3), jn.softplus, scaled(scaled(jn.tanh), 3.0), jn.repeat(jn.dense(4, 4), 2)):
        check_layer(layer, x, key, short_types=())
