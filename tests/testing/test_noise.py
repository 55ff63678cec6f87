"""A gradient that is a sum of terms that cancel is measured by the terms; no mistake hides behind that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn
from jaxnet.testing import check_layer, check_network, check_vjp
from jaxnet.testing.noise import rounding_noise

pytestmark = pytest.mark.usefixtures("without_shape_annotations")

EXAMPLES, POSITIONS, WIDTH = 3, 5, 2
X = np.random.default_rng(3).normal(size=(EXAMPLES, POSITIONS, WIDTH))


def attention(width=WIDTH, mistake=0.0, of="bk", in_one=False):
    """softmax(q k^T) x with biases of queries and keys: the gradient of the latter is 0, since softmax has no level."""

    def init(key):
        matrix, bias = jnp.eye(width), jnp.zeros(width)
        return {"Q": matrix, "K": matrix, "bq": bias, "bk": bias}

    def attention_forward(p, x):
        q = x @ p["Q"].T + p["bq"][None, None]
        k = x @ p["K"].T + p["bk"][None, None]
        a = jax.nn.softmax(jnp.einsum("mtd,msd->mts", q, k), axis=-1)
        return jnp.einsum("mts,msd->mtd", a, x), (x, q, k, a)

    def attention_backward(p, cache, dy):
        x, q, k, a = cache
        da = jnp.einsum("mtd,msd->mts", dy, x)
        ds = a * (da - (da * a).sum(-1, keepdims=True))
        dq, dk = jnp.einsum("mts,msd->mtd", ds, k), jnp.einsum("mts,mtd->msd", ds, q)
        dx = jnp.einsum("mts,mtd->msd", a, dy) + dq @ p["Q"] + dk @ p["K"]
        dparams = {"Q": jn.Outer(dq, x), "K": jn.Outer(dk, x), "bq": jn.Each(dq), "bk": jn.Each(dk)}
        wrong = dq * mistake
        wrong = wrong * (jnp.arange(width) == width - 1).astype(dy.dtype)[None, None] if in_one else wrong
        return dparams | {of: jn.Each({"bq": dq, "bk": dk}[of] + wrong)}, dx

    return jn.Layer(init, attention_forward, attention_backward)


@pytest.mark.parametrize("width", [1, WIDTH])
def test_a_key_bias_whose_gradient_is_zero_passes(width, key):
    check_layer(attention(width), X[..., :width], key)


def test_in_a_network_it_passes_as_well(key):
    net = jn.chain(attention(), jn.dense(WIDTH, 1))
    check_network(net, jn.losses.half_squared_error, net.init(key), X, X[..., :1], short_types=())


@pytest.mark.parametrize("mistake", [1e-12, 1e-9, 1e-6, 1.0])
def test_a_wrong_key_bias_is_refused_however_small_beside_the_query_bias(mistake, key):
    with pytest.raises(AssertionError, match=r"^check_layer: attention, float64, eager:\n  dparams\['bk'\]\["):
        check_layer(attention(mistake=mistake), X, key)


@pytest.mark.parametrize("of", ["bq", "bk"])
def test_a_mistake_of_a_billionth_in_one_element_is_refused(of, key):
    with pytest.raises(AssertionError, match=rf"^check_layer: attention, float64, eager:\n  dparams\['{of}'\]\[1\]: "):
        check_layer(attention(mistake=1e-9, of=of, in_one=True), X, key)


def by_output(mistake=0.0):
    """The same with D = <dy, y>, which does not cancel to the last digit where softmax has levelled out.

    The mistake is made far out alone.
    """
    plain = attention()

    def attention_backward(p, cache, dy):
        x, q, k, a = cache
        y = jnp.einsum("mts,msd->mtd", a, x)
        ds = a * (jnp.einsum("mtd,msd->mts", dy, x) - (dy * y)[..., ::-1].sum(-1, keepdims=True))
        dq, dk = jnp.einsum("mts,msd->mtd", ds, k), jnp.einsum("mts,mtd->msd", ds, q)
        dx = jnp.einsum("mts,mtd->msd", a, dy) + dq @ p["Q"] + dk @ p["K"]
        wrong = mistake * (jnp.abs(x).max() > 4 * np.abs(X).max()).astype(x.dtype) * dy
        return {"Q": jn.Outer(dq, x), "K": jn.Outer(dk, x), "bq": jn.Each(dq), "bk": jn.Each(dk + wrong)}, dx

    return plain._replace(backward=attention_backward)


def test_far_out_a_key_bias_passes_whose_terms_cancel_to_the_last_digit_for_autodiff_alone():
    check_layer(by_output(), 3 * X, jax.random.key(3), short_types=())


@pytest.mark.parametrize("mistake", [1e-9, 1.0])
def test_far_out_a_wrong_key_bias_is_refused(mistake):
    with pytest.raises(AssertionError, match=r"^check_layer: attention, float64, with each .*\n  dparams\['bk'\]\["):
        check_layer(by_output(mistake), 3 * X, jax.random.key(3), short_types=())


FUNCTIONS = {
    "sin": (jnp.sin, (7,)),
    "log of a softmax": (jax.nn.log_softmax, (3, 4)),
    "a difference of large numbers": (lambda x: (x + 1e6) ** 2 - 1e12, (5,)),
    "a largest of tied numbers": (lambda x: jnp.maximum(x[0], x[1]) + x.sum(0), (2, 3)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("mistake", [1e-9, -1e-9])
def test_a_mistake_of_a_billionth_in_an_ordinary_rule_is_refused(name, mistake):
    f, shape = FUNCTIONS[name]
    x = np.random.default_rng(0).normal(size=shape)
    x = np.stack([x[0]] * 2) if "tied" in name else x

    def rule(factor, x):
        y, pullback = jax.vjp(f, x)
        return y, lambda dy: (pullback(dy)[0].at[(0,) * x.ndim].multiply(factor),)

    with pytest.raises(AssertionError, match=r"^check_vjp: .*, float64, eager:\n  d\(argument 0\)\[0"):
        check_vjp(f, lambda x: rule(1 + mistake, x), x)


def noise_of(f, x, dy):
    return rounding_noise(jax.jit(lambda x, dy: jax.vjp(f, x)[1](dy)), x, dy)[0]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_noise_is_of_the_size_of_the_terms(dtype, x64):
    """x times 1 - 1 + 1 - 1 ..., whose terms are a million."""
    signs = np.tile([1.0, -1.0], 50).astype(dtype)
    dy = np.full(100, 1e6, dtype)
    noise = noise_of(lambda x: x * signs, np.array(0.7, dtype), dy)
    eps = np.finfo(dtype).eps
    # Each of the 100 terms moves by up to two last places; their sum like a random walk's.
    assert 1e6 * eps < noise < 1e6 * eps * 2 * 100


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: jnp.maximum(x[0], x[1]), np.array([0.3, 0.3])),
        (lambda x: jnp.maximum(x, 1.0), np.array([1.0])),
        (jax.nn.relu, np.array([0.0, -0.0])),
        (lambda x: jnp.where(x >= 2, x**2, 0 * x), np.array([2.0])),
    ],
    ids=["a tie", "a threshold", "zero", "a jump"],
)
def test_a_kink_at_the_point_is_no_noise(f, x, x64):
    """Or every mistake would hide behind it."""
    dy = np.asarray(np.random.default_rng(0).normal(size=jax.eval_shape(f, x).shape))
    # A few last places of what is of the size of 4.
    assert noise_of(f, x, dy) < 1e-14
