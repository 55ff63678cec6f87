"""The table of a network, and that what it says of memory is what forward really keeps."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from own_layers import add_all

import jaxnet as jn


def test_the_lessons_network_as_a_table(key):
    net = jn.chain(jn.dense(3, 4), jn.tanh, jn.dense(4, 1), jn.sigmoid)
    assert jn.summary(net, net.init(key), jnp.zeros((200, 3))) == (
        "layer        parameters        count  output    keeps for backward   memory\n"
        "[0] dense    W (4, 3), b (4,)     16  (200, 4)  (200, 3)            2.3 KiB\n"
        "[1] tanh     -                     0  (200, 4)  (200, 4)            3.1 KiB\n"
        "[2] dense    W (1, 4), b (1,)      5  (200, 1)  (200, 4) of [1]         0 B\n"
        "[3] sigmoid  -                     0  (200, 1)  (200, 1)              800 B\n"
        "total        84 B of float32      21                                6.2 KiB"
    )


def twice_forward(params, x):
    return 2.0 * x * params["gain"][None], (params["gain"], jnp.zeros(3), x)


twice = jn.Layer(lambda key: {"gain": jnp.ones(3)}, twice_forward, lambda params, cache, dy: ({}, dy))

BLOCK = jn.chain(jn.dense(4, 4), jn.tanh)
NETWORKS = {
    "nested chains": (jn.chain(jn.chain(jn.dense(3, 3), jn.relu), jn.identity, jn.chain(jn.dense(3, 2))), (5, 3)),
    "residual": (jn.chain(jn.tanh, jn.residual(jn.chain(jn.dense(3, 3), jn.tanh)), jn.dense(3, 2)), (5, 3)),
    "positions": (jn.mlp((3, 4, 2), jn.softplus), (5, 7, 3)),
    "nothing to learn": (jn.chain(jn.tanh, jn.sigmoid), (4, 2)),
    "no layers": (jn.chain(), (4, 2)),
    "repeated": (jn.chain(jn.dense(3, 4), jn.repeat(BLOCK, 3), jn.residual(BLOCK)), (5, 3)),
    "computed again": (jn.chain(jn.dense(3, 4), jn.repeat(jn.recompute(jn.residual(BLOCK)), 3)), (5, 3)),
    "a combinator of one's own": (add_all(BLOCK, jn.dense(4, 4), jn.identity), (5, 4)),
    "the same repeated": (jn.repeat(add_all(BLOCK, jn.dense(4, 4)), 3), (5, 4)),
    "the same repeated and computed again": (jn.repeat(jn.recompute(add_all(BLOCK, jn.relu)), 3), (5, 4)),
    "mixed precision": (jn.mixed_precision(jn.chain(jn.dense(3, 4), jn.repeat(BLOCK, 3))), (5, 3)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_memory_is_that_of_the_arrays_that_forward_keeps_each_counted_once(name, key):
    net, shape = NETWORKS[name]
    params, x = net.init(key), jax.random.normal(key, shape)
    _, cache = net.forward(params, x)
    # What is kept of parameters is there anyway.
    theirs = set(map(id, jax.tree.leaves(params)))
    kept = {id(array): array.nbytes for array in jax.tree.leaves(cache) if id(array) not in theirs}
    total = jn.summary(net, params, x).splitlines()[-1].split()
    assert total[-2:] == [f"{sum(kept.values())}", "B"]


def test_a_parameter_in_the_cache_costs_nothing_and_a_new_array_does(key):
    lines = jn.summary(twice, twice.init(key), jnp.zeros((2, 3))).splitlines()
    # The zeros are new, 12 bytes, and x is not kept by anybody else, 24 bytes.
    assert lines[1] == "twice  gain (3,)            3  (2, 3)  the parameters, (3,), (2, 3)    36 B"


def test_shapes_alone_are_enough(key):
    net = jn.mlp((784, 4096, 10))
    params = jax.eval_shape(net.init, key)
    text = jn.summary(net, params, jax.ShapeDtypeStruct((8192, 784), jnp.float32))
    assert "3,256,330" in text
    # x, the first activation, and a byte for each of its numbers.
    assert "184.5 MiB" in text


def rows(net, key, shape=(200, 4)):
    return jn.summary(net, jax.eval_shape(net.init, key), jnp.zeros(shape)).splitlines()[1:]


def test_a_repeated_layer_is_shown_once_with_what_all_rounds_learn_and_keep(key):
    assert rows(jn.chain(jn.dense(4, 4), jn.repeat(BLOCK, 3), jn.residual(BLOCK)), key) == [
        "[0] dense            W (4, 4), b (4,)          20  (200, 4)  (200, 4)             3.1 KiB",
        "[1][0] dense         W (3, 4, 4), b (3, 4)     60  (200, 4)  (3, 200, 4)          9.4 KiB",
        "[1][1] tanh          -                          0  (200, 4)  (3, 200, 4)          9.4 KiB",
        "[1] repeat, 3 times  -                          0  (200, 4)  the parameters           0 B",
        "[2][0] dense         W (4, 4), b (4,)          20  (200, 4)  (200, 4)             3.1 KiB",
        "[2][1] tanh          -                          0  (200, 4)  (200, 4)             3.1 KiB",
        "[2] residual         -                          0  (200, 4)  -                        0 B",
        "total                400 B of float32         100                                28.1 KiB",
    ]


def test_what_is_computed_again_is_not_kept_in_whatever_rounds(key):
    net = jn.repeat(jn.repeat(jn.recompute(add_all(BLOCK, jn.dense(4, 4))), 5), 2)
    assert rows(net, key) == [
        "[0][0] dense     W (2, 5, 4, 4), b (2, 5, 4)    200  (200, 4)  -                        0 B",
        "[0][1] tanh      -                                0  (200, 4)  -                        0 B",
        "[1] dense        W (2, 5, 4, 4), b (2, 5, 4)    200  (200, 4)  -                        0 B",
        "add_all          -                                0  (200, 4)  -                        0 B",
        "recompute        -                                0  (200, 4)  (2, 5, 200, 4)      31.2 KiB",
        "repeat, 5 times  -                                0  (200, 4)  -                        0 B",
        "repeat, 2 times  -                                0  (200, 4)  the parameters           0 B",
        "total            1.6 KiB of float32             400                                31.2 KiB",
    ]


def test_a_combinator_of_ones_own_is_taken_apart_and_keeps_an_input_once(key):
    assert rows(add_all(BLOCK, jn.dense(4, 4)), key) == [
        "[0][0] dense  W (4, 4), b (4,)     20  (200, 4)  (200, 4)            3.1 KiB",
        "[0][1] tanh   -                     0  (200, 4)  (200, 4)            3.1 KiB",
        "[1] dense     W (4, 4), b (4,)     20  (200, 4)  (200, 4) of [0][0]      0 B",
        "add_all       -                     0  (200, 4)  -                       0 B",
        "total         160 B of float32     40                                6.2 KiB",
    ]


def test_parameters_that_all_rounds_share_are_counted_once(key):
    def forward(layer, params, x):
        return jax.lax.scan(lambda x, _: layer.forward(params, x), x, length=3)

    def thrice(layer):
        return jn.Layer(
            layer.init, partial(forward, layer), lambda params, cache, dy: None, made=partial(thrice, layer)
        )

    told = rows(thrice(jn.dense(4, 4)), key)
    assert told[0] == "dense            W (4, 4), b (4,)     20  (200, 4)  (3, 200, 4)         9.4 KiB"
    assert told[1].startswith("thrice, 3 times  -                     0  (200, 4)")


def test_layers_that_take_and_give_several_arrays_or_integers(key):
    def lookup_forward(params, ids):
        return params[ids], ids

    def both_forward(params, x):
        return (x, x[:, :1]), ()

    def product_forward(params, x):
        return x[0] * x[1], x

    def layer(forward, init=lambda key: ()):
        return jn.Layer(init, forward, lambda params, cache, dy: None)

    lookup = layer(lookup_forward, lambda key: jnp.zeros((9, 4)))
    net = jn.chain(lookup, layer(both_forward), layer(product_forward))
    assert jn.summary(net, net.init(key), jnp.zeros(5, int)).splitlines()[1:] == [
        "[0] lookup   (9, 4)               36  (5, 4)          (5,)                  20 B",
        "[1] both     -                     0  (5, 4), (5, 1)  -                      0 B",
        "[2] product  -                     0  (5, 4)          (5, 4), (5, 1)       100 B",
        "total        144 B of float32     36                                       120 B",
    ]


def test_a_layer_in_mixed_precision_keeps_its_name_and_half_the_memory(key):
    assert [row.split()[:2] for row in rows(jn.mixed_precision(jn.chain(jn.dense(4, 4), jn.tanh)), key)[:2]] == [
        ["[0]", "dense"],
        ["[1]", "tanh"],
    ]
