"""Other ways back through convolutions, attention and blocks, against what the methods say, written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn
from jaxnet import feedback

# Sums of tens of terms in another order, at 1.1e-16 each.
EXACT = {"rtol": 1e-11, "atol": 1e-13}
CONVOLUTIONS = jn.chain(
    jn.conv(2, 4, (3,)),
    jn.tanh,
    jn.conv(4, 6, (2,), stride=2, groups=2, padding="VALID"),
    jn.tanh,
    jn.conv_transpose(6, 2, (3,)),
)
HEADS = 2
BLOCK = jn.residual(jn.multi_head_attention(4, HEADS, causal=True))
BLOCKS = jn.chain(jn.dense(3, 4), jn.repeat(BLOCK, 2), jn.residual(jn.chain(jn.dense(4, 4), jn.tanh)), jn.dense(4, 2))


def signs(W):
    return jnp.sign(W) * jnp.abs(W).mean()


def convolved(x, W, stride=1, groups=1, padding="SAME"):
    """The sum of x W over a window, by XLA."""
    dimensions = jax.lax.conv_dimension_numbers(x.shape, W.shape, ("NWC", "OWI", "NWC"))
    return jax.lax.conv_general_dilated(x, W, (stride,), padding, None, None, dimensions, groups)


def spread(x, W):
    """What goes back through a convolution of W (i, k, o) with a stride of 1."""
    signal = jnp.zeros((*x.shape[:-1], W.shape[-1]))
    return jax.vjp(lambda x: convolved(x, W), signal)[1](x)[0]


def layers_of(params):
    """z = f(a, W) without bias, of each convolution."""
    return (
        (convolved, params[0].W),
        (lambda a, W: convolved(a, W, 2, 2, "VALID"), params[2].W),
        (spread, params[4].W),
    )


def through_convolutions(params, back, x, dy):
    """The gradients of the weights, and dx, where the signal travels through the weights `back`."""
    inputs, a = [], x
    for (function, W), layer in zip(layers_of(params), params[::2], strict=True):
        inputs.append(a)
        z = function(a, W) + layer.b[None, None]
        a = jnp.tanh(z)
    gradients, dz = [], dy
    for (function, W), B, a in reversed([*zip(layers_of(params), back, inputs, strict=True)]):
        gradients.insert(0, jax.vjp(lambda W, f=function, a=a: f(a, W), W)[1](dz)[0])
        da = jax.vjp(lambda a, f=function, B=B: f(a, B), a)[1](dz)[0]
        dz = da * (1 - a**2)
    return gradients, da


@pytest.mark.parametrize("way", ["alignment", "sign_symmetry"])
def test_the_signal_travels_through_other_kernels(way, x64, key):
    keys = jax.random.split(key, 4)
    params, B = CONVOLUTIONS.init(keys[0]), CONVOLUTIONS.init(keys[1])
    x, dy = jax.random.normal(keys[2], (3, 6, 2)), jax.random.normal(keys[3], (3, 3, 2))
    backward = feedback.sign_symmetry(CONVOLUTIONS)
    back = [signs(layer.W) for layer in params[::2]]
    if way == "alignment":
        backward, back = feedback.alignment(CONVOLUTIONS, B), [layer.W for layer in B[::2]]

    @jax.jit
    def both(params, x, dy):
        _, cache = CONVOLUTIONS.forward(params, x)
        dparams, dx = backward(params, cache, dy)
        total = jn.per_example.total(dparams)
        return ([layer.W for layer in total[::2]], dx), through_convolutions(params, back, x, dy)

    for ours, expected in zip(*map(jax.tree.leaves, both(params, x, dy)), strict=True):
        np.testing.assert_allclose(ours, expected, **EXACT)


def plain_attention(q, k, v):
    """Causal, by its definition."""
    q, k, v = (signal.reshape(*signal.shape[:2], HEADS, -1) for signal in (q, k, v))
    z = jnp.einsum("mthc,mshc->mhts", q, k) / q.shape[-1] ** 0.5
    z = jnp.where(jnp.tril(jnp.ones((1, 1, z.shape[-1], z.shape[-1]), bool)), z, -jnp.inf)
    return jnp.einsum("mhts,mshc->mthc", jax.nn.softmax(z), v).reshape(*q.shape[:2], -1)


def dense(layer, x):
    return x @ layer.W.T + layer.b[None, None]


def product(dz, a):
    """A dense layer's gradient."""
    return jn.Dense(jnp.einsum("mto,mti->oi", dz, a), dz.sum((0, 1)))


def through_blocks(params, back, x, e):
    """Total gradients of BLOCKS and dx, where `back(B, dz)` comes back of a dense layer with feedback weights B."""
    (first, rounds, (hidden, _), _), B = params, back.weights
    h, states = dense(first, x), []
    for k in range(2):
        (of_q, of_k, of_v), _, of_o = jax.tree.map(lambda leaf, k=k: leaf[k], rounds)
        qkv = dense(of_q, h), dense(of_k, h), dense(of_v, h)
        a, pullback = jax.vjp(plain_attention, *qkv)
        states.append((h, a, pullback))
        h = h + dense(of_o, a)
    t = jnp.tanh(dense(hidden, h))
    of_last, dh = product(e, h + t), back(B[3], e)
    dz = dh * (1 - t**2)
    of_hidden, dh = product(dz, h), dh + back(B[2][0], dz)
    of_rounds = []
    for k in reversed(range(2)):
        (B_q, B_k, B_v), _, B_o = jax.tree.map(lambda leaf, k=k: leaf[k], B[1])
        h, a, pullback = states[k]
        dqkv = pullback(back(B_o, dh))
        of_rounds.insert(0, (tuple(product(d, h) for d in dqkv), (), product(dh, a)))
        dh = dh + sum(back(B, d) for B, d in zip((B_q, B_k, B_v), dqkv, strict=True))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *of_rounds)
    return (product(dh, x), stacked, (of_hidden, ()), of_last), back.at_input(B[0], dh)


class Through:
    """dz B, for feedback weights of the parameters' structure."""

    def __init__(self, weights):
        self.weights = weights

    def __call__(self, B, dz):
        return dz @ B.W

    at_input = __call__


class Direct:
    """e B, for what `direct_weights` draws; to the network's input it goes through the first layer's own weights."""

    def __init__(self, weights, first, e):
        self.weights, self.first, self.e = weights, first, e

    def __call__(self, B, dz):
        return self.e @ B

    def at_input(self, B, dz):
        assert B == ()
        return dz @ self.first.W


@pytest.mark.parametrize("way", ["alignment", "sign_symmetry", "direct"])
def test_the_signal_goes_through_blocks_of_attention_as_the_method_says(way, x64, key):
    """Residual, repeated, and added up over the branches of queries, keys and values."""
    keys = jax.random.split(key, 5)
    # Biases of 0 would not show.
    params = jax.tree.map(lambda leaf: leaf + 0.1, BLOCKS.init(keys[0]))
    x, e = jax.random.normal(keys[2], (3, 4, 3)), jax.random.normal(keys[3], (3, 4, 2))
    if way == "alignment":
        weights = BLOCKS.init(keys[1])
        backward, back = feedback.alignment(BLOCKS, weights), Through(weights)
    elif way == "sign_symmetry":
        of_rounds = jax.tree.map(jax.vmap(signs), params[1])
        backward = feedback.sign_symmetry(BLOCKS)
        back = Through((*jax.tree.map(signs, (params[0],)), of_rounds, *jax.tree.map(signs, params[2:])))
    else:
        weights = feedback.direct_weights(BLOCKS, params, x, keys[4])
        assert jax.tree.map(lambda leaf: leaf.shape[:1], weights[1]) == (((2,), (2,), (2,)), (), (2,))
        backward, back = feedback.direct(BLOCKS, weights), Direct(weights, params[0], e)

    @jax.jit
    def both(params, x, e):
        _, cache = BLOCKS.forward(params, x)
        dparams, dx = backward(params, cache, e)
        return (jn.per_example.total(dparams), dx), through_blocks(params, back, x, e)

    ours, expected = both(params, x, e)
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    for actual, wanted in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(actual, wanted, **EXACT)


@pytest.mark.parametrize(
    ("layer", "x", "rows"),
    [
        (jn.conv(4, 6, (3, 2), groups=2), (1, 5, 5, 4), lambda W: W.reshape(6, -1)),
        (jn.conv_transpose(4, 6, (3,)), (1, 5, 4), lambda W: np.moveaxis(W, -1, 0).reshape(6, -1)),
        (jn.repeat(jn.conv(4, 4, (3,)), 2), (1, 5, 4), lambda W: W.reshape(2, 4, -1)),
    ],
    ids=["conv", "conv_transpose", "repeated conv"],
)
def test_mirroring_a_kernel_feeds_noise_to_all_that_its_window_covers(layer, x, rows, x64, key):
    params, weights = layer.init(jax.random.key(1)), layer.init(jax.random.key(2))
    shape = jax.ShapeDtypeStruct(x, float)
    mirrored = feedback.mirror(layer, weights, params, shape, key, rate=0.3, decay=0.2, examples=3)
    of_W, B = rows(np.asarray(params.W)), rows(np.asarray(weights.W))
    x = np.asarray(jax.random.normal(jax.random.split(key, 2)[0], (3, *of_W.shape[:-2], of_W.shape[-1])))
    expected = 0.8 * B + 0.3 / 3 * sum(
        np.einsum("...o,...i->...oi", np.einsum("...oi,...i->...o", of_W, row), row) for row in x
    )
    np.testing.assert_allclose(rows(np.asarray(mirrored.W)), expected, **EXACT)
    np.testing.assert_array_equal(mirrored.b, weights.b)


def test_direct_feedback_reaches_a_table_of_words_through_norms_positions_and_attention(x64, key):
    """Ids have no signal; what comes to the table is e B of the layer behind it."""
    attend = jn.residual(jn.chain(jn.layer_norm(4), jn.multi_head_attention(4, HEADS)))
    net = jn.chain(jn.embedding(7, 4), jn.position_table(5, 4), jn.repeat(attend, 2), jn.dense(4, 3))
    params, x = net.init(key), jnp.array([[0, 3, 3], [6, 1, 2]])
    e = jax.random.normal(key, (2, 3, 3))
    B = feedback.direct_weights(net, params, x, key)
    assert B[0] == ()
    _, cache = net.forward(params, x)
    dparams, dx = jax.jit(feedback.direct(net, B))(params, cache, e)
    assert dx is None
    expected = np.zeros((7, 4))
    np.add.at(expected, np.asarray(x), np.asarray(e @ B[1]))
    np.testing.assert_allclose(jn.per_example.total(dparams)[0].W, expected, **EXACT)
