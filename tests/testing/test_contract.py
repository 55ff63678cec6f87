"""The commonest mistakes of who writes a layer, each by its name and with its remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from broken import EXAMPLES, INPUTS

import jaxnet as jn
from jaxnet.testing import check_layer, check_network, check_vjp

pytestmark = pytest.mark.usefixtures("without_shape_annotations")

OUTPUTS = 4


def affine(
    forward=lambda params, x: (x @ params["W"].T + params["b"][None], x),
    backward=lambda params, x, dy: ({"W": jn.Outer(dy, x), "b": jn.Each(dy)}, dy @ params["W"]),
    init=lambda key: {"W": jnp.ones((OUTPUTS, INPUTS)), "b": jnp.zeros(OUTPUTS)},
):
    """y = W x + b, of a user's own, with one of its functions in another form."""

    def affine_forward(params, x):
        return forward(params, x)

    return jn.Layer(init, affine_forward, backward)


def gradients(params, x, dy):
    return {"W": jn.Outer(dy, x), "b": jn.Each(dy)}, dy @ params["W"]


def output(params, x):
    return x @ params["W"].T + params["b"][None]


def returns(dparams):
    """A backward whose dparams are those, of (x, dy)."""
    return affine(backward=lambda params, x, dy: (dparams(x, dy), dy @ params["W"]))


def gain(forms):
    """y = gain * x with a gain as the only parameter, by itself."""
    return jn.Layer(lambda key: jnp.ones(INPUTS), lambda g, x: (g[None] * x, x), forms)


ONE_WEIGHT = "wrap it: Outer(dz, x), or Each(g, ndim=2)"
OF_A_SUM = "leave the sum over the examples to the reading, and wrap what is summed"
MISTAKES = {
    "init without a key": (
        affine(init=lambda: {"W": jnp.ones((OUTPUTS, INPUTS)), "b": jnp.zeros(OUTPUTS)}),
        "init(key) raised TypeError: <lambda>() takes 0 positional arguments but 1 was given; init is (key) -> params",
    ),
    "forward without a cache": (
        affine(forward=output),
        "forward gives an array of shape (5, 4), expected (y, cache); where backward needs nothing, (y, ())",
    ),
    "forward gives a list": (
        affine(forward=lambda params, x: [output(params, x), x]),
        "forward gives a list, expected (y, cache); where backward needs nothing, (y, ())",
    ),
    "forward gives a triple": (
        affine(forward=lambda params, x: (output(params, x), x, params)),
        "forward gives a tuple of 3, expected (y, cache); where backward needs nothing, (y, ())",
    ),
    "a number in the cache": (
        affine(forward=lambda params, x: (output(params, x), {"x": x, "m": len(x)})),
        "cache['m'] is an int; keep arrays alone in the cache, which is all that goes through a scan",
    ),
    "a function in the cache": (
        affine(forward=lambda params, x: (output(params, x), (x, jnp.tanh))),
        "cache[1] is a function; keep arrays alone in the cache, which is all that goes through a scan",
    ),
    "features first": (
        affine(forward=lambda params, x: (output(params, x).T, x)),
        "forward gives y of shape (4, 5) for x of shape (5, 3); the first axis of both is the example",
    ),
    "a mean over examples": (
        affine(forward=lambda params, x: (output(params, x).mean(0), x)),
        "forward gives y of shape (4,) for x of shape (5, 3); the first axis of both is the example",
    ),
    "dparams alone": (
        affine(backward=lambda params, x, dy: gradients(params, x, dy)[0]),
        "backward gives a dict, expected (dparams, dx), in the order of jax.vjp(f, params, x)",
    ),
    "dx alone": (
        affine(backward=lambda params, x, dy: gradients(params, x, dy)[1]),
        "backward gives an array of shape (5, 3), expected (dparams, dx), in the order of jax.vjp(f, params, x)",
    ),
    "swapped": (
        affine(backward=lambda params, x, dy: gradients(params, x, dy)[::-1]),
        "backward gives (dx, dparams), expected (dparams, dx)",
    ),
    "swapped and not wrapped": (
        affine(backward=lambda params, x, dy: (dy @ params["W"], {"W": dy.T @ x, "b": dy.sum(0)})),
        "backward gives (dx, dparams), expected (dparams, dx)",
    ),
    "swapped, one parameter by itself": (
        gain(lambda g, x, dy: (dy * g[None], jn.Each(dy * x))),
        "backward gives (dx, dparams), expected (dparams, dx)",
    ),
    "swapped, no parameter": (
        jn.tanh._replace(backward=lambda p, a, da: jn.tanh.backward(p, a, da)[::-1]),
        "backward gives (dx, dparams), expected (dparams, dx)",
    ),
    "a weight's total": (
        returns(lambda x, dy: {"W": dy.T @ x, "b": jn.Each(dy)}),
        f"dparams['W'] is an array of shape (4, 3); {OF_A_SUM}: Outer(dz, x), or Each(g, ndim=2)",
    ),
    "each example's weight": (
        returns(lambda x, dy: {"W": dy[:, :, None] * x[:, None], "b": jn.Each(dy)}),
        f"dparams['W'] is an array of shape (5, 4, 3); {ONE_WEIGHT}",
    ),
    "a bias's total": (
        returns(lambda x, dy: {"W": jn.Outer(dy, x), "b": dy.sum(0)}),
        f"dparams['b'] is an array of shape (4,); {OF_A_SUM}: Each(g)",
    ),
    "each example's bias": (
        returns(lambda x, dy: {"W": jn.Outer(dy, x), "b": dy}),
        "dparams['b'] is an array of shape (5, 4); wrap it: Each(g)",
    ),
    "an array for the only parameter": (
        gain(lambda g, x, dy: (dy * x, dy * g[None])),
        "dparams is an array of shape (5, 3); wrap it: Each(g)",
    ),
    "a parameter left out": (
        returns(lambda x, dy: {"W": jn.Outer(dy, x), "b": None}),
        "dparams['b'] is None; every parameter has gradients: Each(g)",
    ),
    "Each without its axes": (
        returns(lambda x, dy: {"W": jn.Each(dy[:, :, None] * x[:, None]), "b": jn.Each(dy)}),
        "dparams['W'] is Each(g) with ndim=1, of a parameter of shape (4, 3): Each(g, ndim=2)",
    ),
    "Outer for a vector": (
        returns(lambda x, dy: {"W": jn.Outer(dy, x), "b": jn.Outer(dy, jnp.ones((EXAMPLES, 1), dy.dtype))}),
        "dparams['b'] is an Outer, whose gradient is a matrix, of a parameter of shape (4,); keep the parameter as a "
        "matrix (o, i) and reshape it in forward, or form each gradient: Each(g)",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_has_its_name_and_its_remedy(mistake, key):
    layer, told = MISTAKES[mistake]
    with pytest.raises(AssertionError) as error:
        check_layer(layer, jax.random.normal(key, (EXAMPLES, INPUTS)), key)
    assert str(error.value) == f"check_layer: {layer.name}: {told}"


def test_what_they_were_made_of_passes(key):
    check_layer(affine(), jax.random.normal(key, (EXAMPLES, INPUTS)), key, short_types=())


def test_a_kernel_of_four_axes_under_outer_is_told_what_to_do(key):
    """A convolution of one place: its kernel (1, 1, i, o) is a matrix, in another shape."""

    def forward(kernel, x):
        return x @ kernel[0, 0], x

    def backward(kernel, x, dy):
        return jn.Outer(dy, x), dy @ kernel[0, 0].T

    def formed(kernel, x, dy):
        return jn.Each(jnp.einsum("mhwi,mhwo->mio", x, dy)[:, None, None], ndim=4), dy @ kernel[0, 0].T

    def init(key):
        return jnp.ones((1, 1, INPUTS, OUTPUTS))

    x = jax.random.normal(key, (EXAMPLES, 2, 2, INPUTS))
    with pytest.raises(AssertionError) as error:
        check_layer(jn.Layer(init, forward, backward), x, key)
    assert str(error.value) == (
        "check_layer: forward: dparams is an Outer, whose gradient is a matrix, of a parameter of shape (1, 1, 3, 4); "
        "keep the parameter as a matrix (o, i) and reshape it in forward, or form each gradient: Each(g, ndim=4)"
    )
    check_layer(jn.Layer(init, forward, formed), x, key, short_types=())


def batch_norm(axis):
    """Its backward is right where the statistics are an example's own, axis 1."""

    def norm_forward(params, x):
        rstd = 1 / jnp.sqrt(x.var(axis, keepdims=True) + 1e-3)
        normed = (x - x.mean(axis, keepdims=True)) * rstd
        return normed, (normed, rstd)

    def norm_backward(params, cache, dy):
        normed, rstd = cache
        centred = dy - dy.mean(axis, keepdims=True)
        return (), rstd * (centred - normed * (dy * normed).mean(axis, keepdims=True))

    return jn.Layer(lambda key: (), norm_forward, norm_backward)


DEPENDENT = {
    "statistics over the batch": batch_norm(0),
    "its largest": jn.Layer(lambda key: (), lambda p, x: (x / jnp.abs(x).max(), x), lambda p, x, dy: ((), dy)),
    "a neighbour's input": jn.Layer(
        lambda key: (), lambda p, x: (x + jnp.roll(x, 1, 0), ()), lambda p, c, dy: ((), dy + jnp.roll(dy, -1, 0))
    ),
    "a batch norm inside a chain": jn.chain(jn.dense(INPUTS, 4), batch_norm(0), jn.tanh),
}


@pytest.mark.parametrize("kind", DEPENDENT)
def test_examples_that_depend_on_one_another_are_told(kind, key):
    layer = DEPENDENT[kind]
    # The first example is the largest of all.
    x = jax.random.normal(key, (EXAMPLES, INPUTS)).at[0, 0].set(3.0)
    with pytest.raises(AssertionError) as error:
        check_layer(layer, x, key)
    assert str(error.value) == (
        f"check_layer: {layer.name}: y[1] changes with x[0] alone: examples that depend on one another have no "
        "gradients of their own; take statistics over an example's own axes, or hold them fixed"
    )


def test_a_network_with_examples_that_depend_on_one_another_is_told(key):
    net = DEPENDENT["a batch norm inside a chain"]
    x = jax.random.normal(key, (EXAMPLES, INPUTS))
    with pytest.raises(AssertionError, match=r"^check_network: chain: y\[1\] changes with x\[0\] alone: "):
        check_network(net, jn.losses.half_squared_error, net.init(key), x, jnp.ones((EXAMPLES, 4)))


def test_examples_that_depend_on_themselves_alone_pass(key):
    check_layer(batch_norm(1), jax.random.normal(key, (EXAMPLES, INPUTS)), key, short_types=())


def test_integers_that_depend_on_one_another_are_told(key):
    """Embeddings less their mean over the batch."""

    def forward(W, x):
        return W[x] - W[x].mean(0, keepdims=True), x

    layer = jn.Layer(lambda key: jax.random.normal(key, (7, 3)), forward, lambda W, x, dy: (jn.Each(dy), None))
    with pytest.raises(AssertionError, match=r"^check_layer: forward: y\[1\] changes with x\[0\] alone: "):
        check_layer(layer, jnp.arange(5), key)


def test_a_pullback_that_gives_no_tuple_is_told(key):
    x = np.asarray(jax.random.normal(key, (1, INPUTS)))
    for rule, kind in (
        (lambda x: (x**2, lambda dy: 2 * x * dy), "an array of shape (1, 3)"),
        (lambda x: (x**2, lambda dy: (2 * x * dy, dy)), "a tuple of 2"),
    ):
        with pytest.raises(AssertionError) as error:
            check_vjp(jnp.square, rule, x)
        assert (
            str(error.value)
            == f"check_vjp: square: expected a tuple of cotangents, one for each of 1 arguments, got {kind}"
        )
