"""Layers such as users write."""

from functools import partial

import jax
import jax.numpy as jnp

import jaxnet as jn
from jaxnet.decoding import Decoder


def tied(width):
    """y = W tanh(W x + b) + b: one dense layer used at two places."""
    layer = jn.dense(width, width)

    def forward(params, x):
        z, first = layer.forward(params, x)
        a, squashed = jn.tanh.forward((), z)
        y, second = layer.forward(params, a)
        return y, (first, squashed, second)

    def backward(params, cache, dy):
        first, squashed, second = cache
        again, da = layer.backward(params, second, dy)
        _, dz = jn.tanh.backward((), squashed, da)
        once, dx = layer.backward(params, first, dz)
        return jn.per_example.add(once, again), dx

    return jn.Layer(layer.init, forward, backward)


def twice(layer, between):
    """y = f(g(f(x))), with the parameters of f at both places: a combinator that says how it is made."""

    def forward(params, x):
        z, first = layer.forward(params, x)
        a, squashed = between.forward((), z)
        y, second = layer.forward(params, a)
        return y, (first, squashed, second)

    def backward(params, cache, dy):
        first, squashed, second = cache
        again, da = layer.backward(params, second, dy)
        _, dz = between.backward((), squashed, da)
        once, dx = layer.backward(params, first, dz)
        return jn.per_example.add(once, again), dx

    return jn.Layer(layer.init, forward, backward, made=partial(twice, layer, between))


def masked_forward(keep, key, params, x):
    """y = x mask / keep, each number kept by itself with that probability; without a key y = x."""
    if key is None:
        return x, jnp.ones_like(x)
    mask = jax.random.bernoulli(key, keep, x.shape).astype(x.dtype) / keep
    return x * mask, mask


def masked_backward(params, mask, dy):
    return (), dy * mask


def masked_keyed(keep, key):
    return masked(keep, key)


def masked(keep, key=None):
    """A layer that draws: its key says which numbers it keeps."""
    return jn.Layer(
        lambda _: (),
        partial(masked_forward, keep, key),
        masked_backward,
        lambda params, mask, dy: None,
        "elementwise",
        partial(masked_keyed, keep),
    )


def weight(inputs, outputs):
    """y = x W^T: without a bias, which keys of attention have no use for, since softmax does not change with it."""

    def weight_forward(W, x):
        return x @ W.T, x

    def weight_backward(W, x, dy):
        return jn.Outer(dy, x), dy @ W

    init = lambda key: jn.initializers.glorot(key, (outputs, inputs))  # noqa: E731
    return jn.Layer(init, weight_forward, weight_backward, lambda W, x, dy: None, "linear")


def attend_forward(params, x):
    """y = softmax(q k^T / sqrt(d)) v, over an example's positions."""
    q, k, v = x
    weights = jax.nn.softmax(jnp.einsum("mtd,msd->mts", q, k) / q.shape[-1] ** 0.5, axis=-1)
    return jnp.einsum("mts,msd->mtd", weights, v), (q, k, v, weights)


def attend_backward(params, cache, dy):
    q, k, v, weights = cache
    dweights = jnp.einsum("mtd,msd->mts", dy, v)
    dscores = weights * (dweights - (weights * dweights).sum(-1, keepdims=True)) / q.shape[-1] ** 0.5
    dq, dk = jnp.einsum("mts,msd->mtd", dscores, k), jnp.einsum("mts,mtd->msd", dscores, q)
    return (), (dq, dk, jnp.einsum("mts,mtd->msd", weights, dy))


attend = jn.Layer(lambda key: (), attend_forward, attend_backward)
"""A layer that takes a tuple, queries, keys and values, and does not tell its second derivative."""


def squares_forward(params, x):
    """y = (a^2, b^3) for a tuple (a, b): a layer of two inputs and two outputs that is curved in each by itself."""
    return (x[0] ** 2, x[1] ** 3), x


def squares_backward(params, x, dy):
    return (), (dy[0] * 2 * x[0], dy[1] * 3 * x[1] ** 2)


def squares_second(params, x, dy):
    return 2 * dy[0], dy[1] * 6 * x[1]


squares = jn.Layer(lambda key: (), squares_forward, squares_backward, squares_second)


def total_forward(params, x):
    """y = a + b, for a tuple (a, b)."""
    return x[0] + x[1], ()


def total_backward(params, cache, dy):
    return (), (dy, dy)


total = jn.Layer(lambda key: (), total_forward, total_backward, lambda params, cache, dy: None)


def lookup(rows, width):
    """y = the rows of E that x numbers; integers have no cotangent."""

    def lookup_forward(params, x):
        return params["E"][x.astype(int)], x

    def lookup_backward(params, x, dy):
        rows = jax.nn.one_hot(x.astype(int), params["E"].shape[0], dtype=dy.dtype)
        return {"E": jn.Outer(rows, dy)}, None

    return jn.Layer(lambda key: {"E": jax.random.normal(key, (rows, width))}, lookup_forward, lookup_backward)


def gain(width):
    """y = g * x: a parameter that is no weight."""

    def forward(g, x):
        return x * jnp.expand_dims(g, range(x.ndim - 1)), x

    def backward(g, x, dy):
        return jn.Each(dy * x), dy * jnp.expand_dims(g, range(x.ndim - 1))

    return jn.Layer(partial(jax.random.normal, shape=(width,)), forward, backward)


def table(positions, width):
    """y_t = x_t + E_t: a matrix that is no weight."""

    def backward(params, cache, dy):
        return {"E": jn.Each(dy, 2)}, dy

    return jn.Layer(
        lambda key: {"E": jax.random.normal(key, (positions, width))},
        lambda params, x: (x + params["E"][None], ()),
        backward,
    )


def add_all_init(parts, key):
    return tuple(part.init(key) for part, key in zip(parts, jax.random.split(key, len(parts)), strict=True))


def add_all_forward(parts, params, x):
    ys, caches = zip(*(part.forward(p, x) for part, p in zip(parts, params, strict=True)), strict=True)
    return sum(ys[1:], start=ys[0]), caches


def add_all_backward(parts, params, caches, dy):
    sent = [part.backward(p, cache, dy) for part, p, cache in zip(parts, params, caches, strict=True)]
    dparams, dxs = zip(*sent, strict=True)
    return dparams, sum(dxs[1:], start=dxs[0])


def add_all(*parts):
    """y = f_1(x) + ... + f_n(x): a combinator that the library knows nothing of."""
    functions = (partial(function, parts) for function in (add_all_init, add_all_forward, add_all_backward))
    return jn.Layer(*functions, made=partial(add_all, *parts))


def used_in_unlike_ways(width):
    """y_j = s_j (W x)_j with s_j = sum_i W_ji: a matrix as a weight, and its rows' sums as gains."""

    def gains(params, x):
        return jnp.expand_dims(params["W"].sum(1), range(x.ndim - 1))

    def forward(params, x):
        z = x @ params["W"].T
        return z * gains(params, x), (x, z)

    def backward(params, cache, dy):
        x, z = cache
        dz = dy * gains(params, x)
        of_rows = jnp.broadcast_to((dy * z)[..., None], (*z.shape, width))
        return {"W": jn.Outer(dz, x).add(jn.Each(of_rows, ndim=2))}, dz @ params["W"]

    return jn.Layer(lambda key: {"W": jax.random.normal(key, (width, width)) / width}, forward, backward)


def differences_forward(s, x):
    """y_t = x_t - x_t-1 over positions, with x_0 = s, which is learnt."""
    before = jnp.concatenate([jnp.broadcast_to(s[None, None], x[:, :1].shape), x[:, :-1]], axis=1)
    return x - before, ()


def differences_backward(s, cache, dy):
    after = jnp.concatenate([dy[:, 1:], jnp.zeros_like(dy[:, :1])], axis=1)
    return jn.Each(-dy[:, 0]), dy - after


def differences_start(s, x):
    return jnp.broadcast_to(s[None], (x.shape[0], x.shape[2]))


def differences_step(s, before, x):
    return x - jnp.concatenate([before[:, None], x[:, :-1]], axis=1), x[:, -1]


def differences_decoder(length):
    return Decoder(differences_start, differences_step)


def differences(width):
    """A layer over positions that says itself how it goes on, and does not start with 0."""
    init = partial(jax.random.normal, shape=(width,))
    return jn.Layer(init, differences_forward, differences_backward, decoder=differences_decoder)
